# SPDX-License-Identifier: Apache-2.0
"""Fixtures that several test files share."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import os
import re
import signal
import sys
import tempfile
from pathlib import Path

import cheap_layers
import pytest
from expected import EXPECTED
from short_networks import REPEATED, as_published, least, shorten, shorten_all

from inception_tf.host.after_import import after_import
from inception_tf.host.process_state import collect_garbage_rarely

ROOT = Path(__file__).parents[1]

# The modules that the tests import are a million objects, and a graph is tens of thousands, nearly all in use:
# collecting as often as Python does takes a third of the time of the collection of the tests.
collect_garbage_rarely()

# As the command line sets it; TensorFlow reads it once, when it is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# What is kept between runs comes from no other run, and does not stay; workers share the folder of their parent.
if "PYTEST_XDIST_WORKER" not in os.environ:
    CACHE = tempfile.TemporaryDirectory()
    os.environ["KERAS_HOME"] = CACHE.name

# A test that imports NNCF itself would have it report to Intel, by a process at every later conversion.
sys.modules.setdefault("openvino_telemetry", None)

# TensorFlow imports JAX where it finds it, which is half a second; only processes of their own use it.
sys.modules.setdefault("jax", None)  # until the tests are collected

# A shell has its background jobs ignore Ctrl-C, and so would every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Workers share the cores: with as many threads each as there are cores, they would wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    gc.disable()  # until the tests are collected: none of what is imported is garbage
    # A core for each: with more, threads that meet a tf.data function at the same time all prepare it.
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        number = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
        os.sched_setaffinity(0, {cores[number % len(cores)]})


def _is_default_run(config) -> bool:
    return config.option.markexpr == "not slow"


def _has_shortcuts(config) -> bool:
    """Whether this process omits what takes time and changes no result; `scripts/test deep` does not."""
    return config.option.markexpr in ("not slow", "slow and not alone")


def pytest_configure(config):
    """Without TensorFlow's graph optimizers, up to a third of the time of a file; child processes have them.

    At once: a module that computes something while it is collected starts TensorFlow's runtime, which then keeps them
    for functions within functions.
    """

    def switch_off():
        import tensorflow as tf

        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
        # Nor does tf.data search for a faster form of each pipeline, a quarter of a second.
        made = tf.data.Options.__init__

        def plain(self):
            made(self)
            self.experimental_optimization.apply_default_optimizations = False

        tf.data.Options.__init__ = plain

    if _has_shortcuts(config):
        after_import("tensorflow", switch_off)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Of `--dist loadfile`: a worker takes a whole file, or of conformance/ and use/ all that is asked of one network.

    What a file's tests share is built once, and so is each network.
    """
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class ByFileOrNetwork(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            words = re.split(r"[\[\]-]", nodeid) if re.search("/(conformance|use)/", file) else ()
            return next((word for word in words if word in EXPECTED), file)

    return ByFileOrNetwork(config, log)


# What takes longest, first: then both workers end together.
LONG = re.compile(
    r"(^|/)((conformance|use)/|test_(verify|cli|runtimes|optimize|export_\w+|weights\w*|cache|serving_\w+|model_garden"
    r"|checkpoint|docs|examples|experiments_\w+|keras_classifiers_formats|parity|trained_v3|trainer_backends)\.py)"
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """The order in which `--dist loadfile --no-loadscope-reorder` deals the files."""
    items.sort(key=lambda item: not LONG.search(item.nodeid))


def pytest_collection_finish(session):
    """Before the first test: what makes hundreds of small networks cheap, and changes none of them."""
    gc.enable()
    gc.freeze()  # the modules stay; no later collection walks through them
    if sys.modules.get("jax", "") is None:
        del sys.modules["jax"]
    if "keras" in sys.modules:
        import keras

        keras.config.disable_traceback_filtering()  # a wrapper around every call of a layer
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            tf.debugging.disable_traceback_filtering()
            if _has_shortcuts(session.config):
                cheap_layers.install()
                _share_kernels_of_variables()


_collected_at = 3 << 30  # bytes


def pytest_runtest_teardown(item, nextitem):
    """Models are unreachable cycles: where they take gigabytes, as at full depth, they are collected after all."""
    global _collected_at
    if _resident_bytes() > _collected_at:
        gc.collect()
        _give_back_memory()
        _collected_at = max(_collected_at, _resident_bytes() + (1 << 30))


def _give_back_memory():
    """What glibc keeps of what was freed: of a network and its export a gigabyte."""
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item, nextitem):
    """The graphs of a test's trainings are freed; no fixture, which would take longer than most tests."""
    if "tensorflow" not in sys.modules:
        return (yield)
    from inception_tf.training.step_gradients import forget_step_gradients

    with forget_step_gradients():
        return (yield)


def _resident_bytes() -> int:
    """The memory of this process; 0 where the system does not tell."""
    statistics = Path("/proc/self/statm")
    if not statistics.exists():
        return 0
    return int(statistics.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _share_kernels_of_variables():
    """TensorFlow keeps an operation's kernel by its attributes, and the name for messages is one: none is used twice."""
    from tensorflow.python.ops import gen_resource_variable_ops

    create = gen_resource_variable_ops.var_handle_op
    gen_resource_variable_ops.var_handle_op = lambda *words, debug_name="", **settings: create(
        *words, **settings
    )


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root."""
    return ROOT


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real data beside the project; without it a test is skipped, in CI it fails."""
    folder = Path(os.environ.get("INCEPTION_TF_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        message = f"no test data at {folder}; set INCEPTION_TF_TEST_DATA"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return folder


@contextlib.contextmanager
def _short_networks(config, names):
    """In this process `names` without `REPEATED`, but at their full depth in `scripts/test deep` and where tests are alone."""
    take_back = shorten_all(names if _has_shortcuts(config) else (), shorten)
    try:
        yield
    finally:
        take_back()


SHORTENED = ("googlenet", "inception_v1", "inception", "bn_inception")


@pytest.fixture(scope="module")
def short_networks(request):
    """The module's `SHORTENED` networks with one module of each kind, for what is the same at any depth."""
    with _short_networks(request.config, getattr(request.module, "SHORTENED", SHORTENED)):
        yield


@pytest.fixture(scope="module")
def always_short():
    """The `SHORTENED` networks with the fewest layers, in any run: for a step for each layer, a training for each case."""
    take_back = shorten_all(SHORTENED, least)
    yield
    take_back()


@pytest.fixture
def whole_networks():
    """All networks as published, for one test of a module whose others have short ones."""
    with as_published():
        yield


@pytest.fixture
def all_short(pytestconfig):
    """All networks that can be shortened, for one test."""
    with _short_networks(pytestconfig, REPEATED):
        yield


@pytest.fixture
def small_peak(monkeypatch):
    """The machine's peak is measured by small operations, for what does not ask how high it is."""
    from inception_tf.benchmark import peak

    monkeypatch.setattr(peak, "SIDE", 256)
    monkeypatch.setattr(peak, "IMAGES", 1)


@contextlib.contextmanager
def _made_once(pytestconfig, tmp_path_factory, name):
    """`name` among the folders that all workers share, and whether it is to be made within, with short networks."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    made = base / f"{name}_made"
    with open(base / f"{name}_lock", "w") as lock, _short_networks(pytestconfig, SHORTENED):
        fcntl.flock(lock, fcntl.LOCK_EX)  # the other worker waits until this one has made it
        yield base / name / "digits", not made.exists()
        made.touch()


@pytest.fixture(scope="session")
def digits_run(pytestconfig, tmp_path_factory):
    """A short training on the digits by the command: a run folder, one for all workers, not to be changed."""
    from inception_tf import cli

    words = "train --model inception_v1 --data digits --recipe digits --set model.size=32"
    words += " --set model.width_multiplier=0.25 --set training.epochs=3 --out"
    with _made_once(pytestconfig, tmp_path_factory, "runs") as (folder, to_make):
        assert not to_make or cli.main([*words.split(), str(folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def digits_export(pytestconfig, tmp_path_factory, digits_run):
    """The SavedModel of `digits_run` with its features, by the command, one for all workers, not to be changed."""
    from inception_tf import cli

    words = ["export", str(digits_run), "--features", "--to"]
    with _made_once(pytestconfig, tmp_path_factory, "saved_models") as (folder, to_make):
        assert not to_make or cli.main([*words, str(folder)]) == 0
    return folder


@pytest.fixture
def class_folders(tmp_path):
    """A function that writes class folders of small JPEG images: `class_folders(red=6, blue=6) -> Path`."""
    import tensorflow as tf

    def write(**counts):
        root = tmp_path / "images"
        for index, (name, count) in enumerate(counts.items()):
            (root / name).mkdir(parents=True)
            for number in range(count):
                pixels = tf.cast(tf.fill((40, 30, 3), 40 * index + number), tf.uint8)
                tf.io.write_file(str(root / name / f"{number}.jpg"), tf.io.encode_jpeg(pixels))
        return root

    return write
