# SPDX-License-Identifier: Apache-2.0
"""Several processes and devices: they train the model that one device trains, end together and go on together."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from types import SimpleNamespace

import forked
import numpy as np
import pytest
import tensorflow as tf
from pages import ROOT
from test_without_tensorflow import environment as environment_of

from inception_tf.config import Config
from inception_tf.errors import UserError
from inception_tf.training import checkpoint, distribute
from inception_tf.training.distribute import Cluster, Team, read_cluster
from inception_tf.training.plan import make_plan

STEPS = 11  # an epoch: 1,437 digits in batches of 128
PATIENCE = 300  # seconds for what takes one on a busy machine

# With one module of each kind, so that gradients reach the first layers.  Smooth: with relu, a rounding error now and
# then turns a unit of such a narrow network on or off, and the gradient changes by a hundredth; at a max pool it does so
# too, after about twenty steps.  Without dropout, whose masks differ by the batch's layout.
SMOOTH = """
model: {name: inception_v1, size: 32, width_multiplier: 0.1, dropout: 0, activation: sigmoid,
        batch_norm_momentum: 0.9, weight_decay: 0.0001}
data: {name: digits, batch_size: 128, box_area: [0.7, 1.0], flip: false}
optimizer: {name: sgd, learning_rate: 0.01, warmup_epochs: 0, schedule: constant, ema: 0.9}
training: {epochs: 2, precision: float32, label_smoothing: 0.1}
"""

# One process with two devices, which only a process of its own can be given.
TWO_DEVICES = """
import sys
import tensorflow as tf
from short_networks import shorten_all
from inception_tf.training.distribute import Team
from inception_tf.training.train import train
from inception_tf.training.recipes import read_recipe

device = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(device, [tf.config.LogicalDeviceConfiguration()] * 2)
team = Team(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
shorten_all()
train(read_recipe(sys.argv[1]), sys.argv[2], team=team)
"""

SERVICE = """
import sys
import tensorflow as tf

service = tf.data.experimental.service
dispatcher = service.DispatchServer()
address = dispatcher.target.removeprefix("grpc://")
workers = [service.WorkerServer(service.WorkerConfig(dispatcher_address=address)) for _ in "ab"]
print(dispatcher.target, flush=True)
sys.stdin.read()
"""


def free_ports(count):
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("localhost", 0))
        return [one.getsockname()[1] for one in sockets]


def start(arguments, **environment):
    variables = environment_of(ROOT, TF_CPP_MIN_LOG_LEVEL="3", **environment)
    return forked.popen([sys.executable, *arguments], env=variables)


def train_command(recipe, out):
    return [ROOT / "tests" / "with_short_networks.py", "train", "--model", "inception_v1",
            "--data", "digits", "--recipe", recipe, "--out", out]  # fmt: skip


def start_workers(arguments):
    """Two processes of one cluster on this machine, and their addresses."""
    workers = [f"localhost:{port}" for port in free_ports(2)]
    configs = (
        {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        for index in range(2)
    )
    return [start(arguments, TF_CONFIG=json.dumps(config)) for config in configs], workers


def ended(process):
    """The exit code and the last line on stderr."""
    _, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, errors.strip().rpartition("\n")[2]


def wait_for_line(process, words):
    """Until the process has written `words` to stderr."""
    while words not in process.stderr.read_text():
        assert process.poll() is None, process.stderr.read_text()
        time.sleep(0.05)


def wait_for(path):
    end = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < end, path
        time.sleep(0.05)


def variables(run, step):
    """Weights, moving statistics, slots and averages of a run after `step` steps."""
    with np.load(run / "checkpoints" / f"step-{step:08d}" / "variables.npz") as file:
        return dict(file)


def assert_same(found, expected, step):
    """Each number to 1e-5."""
    ours, theirs = variables(found, step), variables(expected, step)
    assert list(ours) == list(theirs)
    for name, array in theirs.items():
        np.testing.assert_allclose(ours[name], array, rtol=0, atol=1e-5, err_msg=name)


def assert_same_history(found, expected, epochs):
    for ours, theirs in zip(history(found)[:epochs], history(expected)[:epochs], strict=True):
        assert {**ours, "seconds": 0} == pytest.approx({**theirs, "seconds": 0}, rel=1e-5)


def history(out):
    return json.loads((checkpoint.latest(out / "checkpoints") / "progress.json").read_text())[
        "history"
    ]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "smooth.yaml"
    path.write_text(SMOOTH)
    return path


@pytest.fixture(scope="module")
def alone(recipe, tmp_path_factory):
    """The run of one process on one device."""
    out = tmp_path_factory.mktemp("alone") / "run"
    code, last = ended(start(train_command(recipe, out)))
    assert code == 0, last
    before, after = variables(out, STEPS), variables(out, 2 * STEPS)
    kernels = [name for name in before if name.startswith("model/") and name.endswith("kernel")]
    assert kernels
    for name in kernels:
        assert np.abs(after[name] - before[name]).max() > 1e-4, name
    return out


@pytest.fixture(scope="module")
def together(recipe, tmp_path_factory):
    """The run of two workers that nothing stops, and what they print."""
    out = tmp_path_factory.mktemp("together") / "run"
    processes, _ = start_workers(train_command(recipe, out))
    told = [process.communicate(timeout=PATIENCE) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    return out, [out for out, _ in told]


@pytest.mark.alone
@pytest.mark.slow
def test_two_devices_train_as_one(recipe, alone, tmp_path):
    code, last = ended(start(["-c", TWO_DEVICES, recipe, tmp_path / "two"]))
    assert code == 0, last
    assert_same(tmp_path / "two", alone, STEPS)
    assert_same_history(tmp_path / "two", alone, 1)


@pytest.mark.alone
@pytest.mark.slow
def test_two_workers_train_as_one_and_only_the_chief_speaks(together, alone):
    two, told = together
    assert told[0].startswith("inception_v1 on digits: top-1 ")
    assert told[1] == ""
    assert_same(two, alone, STEPS)
    assert_same_history(two, alone, 1)
    assert sorted(p.name for p in two.iterdir()) == sorted(p.name for p in alone.iterdir())


@pytest.mark.alone
@pytest.mark.slow
def test_workers_stop_together_and_go_on_after_one_was_killed(recipe, together, tmp_path):
    out = tmp_path / "two"
    command = [*train_command(recipe, out), "--resume"]
    checkpoints = out / "checkpoints"

    processes, _ = start_workers(command)
    wait_for(checkpoints / f"step-{STEPS:08d}")
    processes[1].send_signal(signal.SIGTERM)
    sentence = f"saved; resume with: inception-tf train --out {out} --resume"
    for code, last in map(ended, processes):
        assert code == 130
        assert sentence in last
    assert checkpoint.latest(checkpoints).name == "step-00000020"

    processes, addresses = start_workers(command)
    wait_for_line(processes[0], "epoch 2/2")
    processes[1].kill()
    killed = time.monotonic()
    code, last = ended(processes[0])
    assert time.monotonic() - killed < 120
    assert code == 2
    assert f"worker 1 ({addresses[1]}) does not respond since step " in last
    assert last.endswith("; start all workers again with --resume")
    processes[1].communicate()

    processes, _ = start_workers(command)
    for code, last in map(ended, processes):
        assert code == 0, last
    whole, _ = together
    assert_same(out, whole, 2 * STEPS)
    assert_same_history(out, whole, 2)


@pytest.mark.alone
@pytest.mark.slow
def test_workers_with_other_settings_are_told_so(recipe, tmp_path):
    workers = [f"localhost:{port}" for port in free_ports(2)]
    processes = []
    for index, rate in enumerate(("0.05", "0.06")):
        task = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        command = [
            *train_command(recipe, tmp_path / "run"),
            f"--set=optimizer.learning_rate={rate}",
        ]
        processes.append(start(command, TF_CONFIG=json.dumps(task)))
    for code, last in map(ended, processes):
        assert code == 2
        assert f"worker 1 ({workers[1]}) has another configuration than worker 0" in last
    assert not (tmp_path / "run").exists()


def test_a_chief_that_never_comes_is_missed(monkeypatch):
    monkeypatch.setattr(distribute, "JOIN_TIMEOUT_S", 1)
    workers = [f"localhost:{port}" for port in free_ports(2)]
    task = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": 1}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(task))
    with pytest.raises(UserError, match=f"worker 0 .{workers[0]}. was not reachable within 1 s: "):
        distribute.make_team()


def test_shares_of_a_batch_make_up_the_batch(recipe):
    plan = make_plan(Config().override(["data.batch_size=12", "model.size=32"]))
    whole = next(iter(plan.training_data(7)))
    parts = [next(iter(plan.training_data(7, (worker, 3)))) for worker in range(3)]
    for together, alone in zip(zip(*parts, strict=True), whole, strict=True):
        np.testing.assert_array_equal(np.concatenate(together), alone)


def test_shares_of_an_evaluation_make_up_the_split():
    plan = make_plan(Config().override(["data.batch_size=32", "model.size=32"]))
    labels = [
        np.concatenate([y for _, y in plan.validation_data((worker, 7))]) for worker in range(7)
    ]
    whole = np.concatenate([y for _, y in plan.validation_data()])
    np.testing.assert_array_equal(np.concatenate(labels), whole)


@pytest.mark.alone
@pytest.mark.slow
def test_a_data_service_gives_the_images_that_this_process_would(monkeypatch):
    with subprocess.Popen(
        [sys.executable, "-c", SERVICE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as service:
        config = Config().override(["data.batch_size=32", "model.size=32", "training.epochs=3"])
        address = service.stdout.readline().strip()
        ours = make_plan(config.override([f"data.service={address}", "training.epochs=2"]))
        found = rows(ours.training_data(7))
        service.stdin.close()
    assert len(found) == (2 * ours.steps - 7) * 32
    assert len(set(found)) > 0.9 * len(found)  # two epochs may show an image alike
    # Batches are those of these positions; some of the third epoch may be ready before the last of the second.
    assert set(found) <= set(rows(make_plan(config).training_data(7)))


def rows(batches):
    """Each image with its label, as a hash."""
    return [
        hashlib.sha256(image.tobytes() + label.tobytes()).hexdigest()
        for x, y in batches.as_numpy_iterator()
        for image, label in zip(x, y, strict=True)
    ]


def test_a_data_service_that_is_not_there_is_named():
    (port,) = free_ports(1)
    plan = make_plan(Config().override([f"data.service=grpc://localhost:{port}"]))
    with pytest.raises(UserError, match=f"no tf.data service answers at grpc://localhost:{port}: "):
        plan.training_data()


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("data.service=localhost:5000", "grpc://host:5000, or null, got 'localhost:5000'"),
        ("data.service=grpc://localhost", "grpc://host:5000, or null, got 'grpc://localhost'"),
    ],
)
def test_an_address_that_is_none_is_refused(setting, sentence):
    with pytest.raises(UserError, match=sentence):
        Config().override([setting])


def test_a_data_service_does_not_take_images_from_this_process():
    with pytest.raises(UserError, match="data.cache=memory keeps images in this process"):
        Config().override(["data.service=grpc://localhost:5000", "data.cache=memory"])


CLUSTER = {"chief": ["a:1"], "worker": ["b:1", "c:1"]}


@pytest.mark.parametrize(
    ("task", "index"),
    [({"type": "chief", "index": 0}, 0), ({"type": "worker", "index": "1"}, 2)],
)
def test_a_cluster_counts_its_chief_first(monkeypatch, task, index):
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": CLUSTER, "task": task}))
    assert read_cluster() == Cluster(("a:1", "b:1", "c:1"), index)


@pytest.mark.parametrize("text", ["", "{}", '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}'])  # fmt: skip
def test_one_worker_is_no_cluster(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    assert read_cluster() is None


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ("{cluster", "TF_CONFIG is not JSON such as {.*, got '{cluster'$"),
        ([1], r"TF_CONFIG is not JSON such as {.*, got '\[1\]'$"),
        (
            {"cluster": CLUSTER},
            "'task' in TF_CONFIG must say which worker .* chief 0, worker 0, worker 1, got null",
        ),
        (
            {"cluster": CLUSTER, "task": {"type": "worker", "index": 2}},
            'got {"type": "worker", "index": 2}; an example:',
        ),
        (
            {"cluster": CLUSTER, "task": {"type": "evaluator", "index": 0}},
            'got {"type": "evaluator", "index": 0}; an example:',
        ),
        (
            {"cluster": {**CLUSTER, "ps": ["d:1"]}, "task": {"type": "ps", "index": 0}},
            "lists parameter servers, tasks of type 'ps', and Keras 3 does not train with them; their gradients are",
        ),
        (
            {"cluster": {**CLUSTER, "evaluator": ["d:1"]}, "task": {"type": "worker", "index": 0}},
            "TF_CONFIG lists tasks of type 'evaluator', but a training has only workers and one chief",
        ),
    ],
)
def test_a_wrong_tf_config_is_named(monkeypatch, config, sentence):
    monkeypatch.setenv("TF_CONFIG", config if isinstance(config, str) else json.dumps(config))
    with pytest.raises(UserError, match=sentence):
        read_cluster()


def test_a_batch_that_cannot_be_dealt_evenly_is_refused():
    team = Team(SimpleNamespace(num_replicas_in_sync=3))
    team.check_steps(33, 1)
    with pytest.raises(UserError, match=r"all 3 replicas .* use --set data.batch_size=33$"):
        team.check_steps(32, 1)


def test_several_steps_an_execution_are_for_one_device():
    team = Team(SimpleNamespace(num_replicas_in_sync=2))
    with pytest.raises(
        UserError, match="training.steps_per_execution 4 works on one device only; for 2 replica"
    ):
        team.check_steps(32, 4)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            tf.errors.UnavailableError(
                None, None, "/job:worker/replica:0/task:1: failed to connect"
            ),
            "^worker 1 [(]b:1[)] does not respond since step 7; start all workers again with --resume$",
        ),
        (
            tf.errors.InternalError(None, None, f"recv: {os.strerror(errno.ECONNRESET)}"),
            "^another worker does not respond since step 7; start all workers again with --resume$",
        ),
        # The class alone says it, in whatever words.
        *(
            (kind(None, None, "weg"), "^another worker does not respond since step 7;")
            for kind in (
                *(tf.errors.UnavailableError, tf.errors.AbortedError),
                *(tf.errors.CancelledError, tf.errors.DeadlineExceededError),
            )
        ),
    ],
)
def test_a_lost_worker_is_named_with_the_step(error, sentence):
    team = Team(cluster=Cluster(("a:1", "b:1"), 0))
    with pytest.raises(UserError, match=sentence), team.watched(lambda: 7):
        raise error


def test_an_error_of_this_worker_is_not_laid_on_another():
    team = Team(cluster=Cluster(("a:1", "b:1"), 0))
    error = tf.errors.InternalError(None, None, "/job:worker/task:0/device:GPU:0: cuDNN failed")
    with pytest.raises(tf.errors.InternalError), team.watched(lambda: 7):
        raise error
