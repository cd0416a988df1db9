# SPDX-License-Identifier: Apache-2.0
"""What an export writes, and when it refuses to."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest
import ramps
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from inception_tf import UserError
from inception_tf.cli import explain
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.export import metadata, sample_requests, warmup
from inception_tf.export import savedmodel as exporter
from inception_tf.export.savedmodel import export
from inception_tf.savedmodel.versions import newest_version, publish_version
from inception_tf.verify import runtime_checks

SIZE = 64
LABELS = ("tabby cat", "crane", "Ärmel")


def tiny(classes: int = 3, channels: int = 3, shape=(None, None)) -> keras.Model:
    images = keras.Input((*shape, channels))
    x = keras.layers.GlobalAveragePooling2D()(images)
    # Drawn, as a training would leave it: an untrained network is warned of.
    head = keras.layers.Dense(classes, activation="softmax", bias_initializer="uniform")
    return keras.Model(images, head(x), name="tiny")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return export(
        tiny(), LABELS, tmp_path_factory.mktemp("saved_models") / "demo", Preprocessing(SIZE)
    )


def test_a_version_folder_holds_labels_and_warm_up_beside_the_model(folder):
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {
        "assets.extra/export.json",
        "assets.extra/tf_serving_warmup_requests",
        "assets/labels.txt",
        "fingerprint.pb",
        "saved_model.pb",
        "variables/variables.data-00000-of-00001",
        "variables/variables.index",
    }
    assert (folder / "assets/labels.txt").read_text("utf-8").splitlines() == list(LABELS)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A network with an auxiliary classifier, batch normalization and an optimizer, and its exports, folded or not."""
    images = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(8, 5, 4, use_bias=False)(images)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization(scale=False)(x))
    x = keras.layers.GlobalMaxPooling2D()(x)
    heads = {
        "predictions": keras.layers.Dense(3, "softmax", name="Logits")(x),
        "aux_predictions": keras.layers.Dense(3, "softmax", name="AuxLogits")(x),
    }
    model = keras.Model(images, heads)
    ramps.fill(model)
    model.compile("adam", "categorical_crossentropy", jit_compile=True)
    model.optimizer.build(model.trainable_variables)
    to = tmp_path_factory.mktemp("trained")
    return model, {
        fold: export(model, LABELS, to, Preprocessing(SIZE), fold=fold) for fold in (True, False)
    }


def test_optimizer_and_auxiliary_classifiers_stay_behind(trained):
    model, folders = trained
    served = [w for w in model.weights if not w.path.startswith("AuxLogits")]
    assert len(served) < len(model.weights)
    assert shapes(folders[False]) == sorted(list(w.shape) for w in served)

    # Folded, a convolution has a bias in place of a shift, a mean and a variance.
    kept = [w for w in served if "moving" not in w.path]
    assert shapes(folders[True]) == sorted(list(w.shape) for w in kept)


def shapes(folder):
    saved = tf.train.list_variables(str(folder / "variables/variables"))
    return sorted(shape for _, shape in saved if shape)


def test_a_folded_export_answers_as_one_with_batch_normalization(trained):
    _, folders = trained
    images = tf.random.stateless_uniform((4, 70, 80, 3), (0, 0), 0, 256, tf.int32)
    answers = [
        tf.saved_model.load(folder).signatures["image_tensor"](images=tf.cast(images, tf.uint8))[
            "probabilities"
        ]
        for folder in folders.values()
    ]
    np.testing.assert_allclose(*answers, rtol=0, atol=1e-4)
    assert np.ptp(answers[0]) > 1e-3


@pytest.mark.parametrize("batches", [(1, 4, 8), (2,)])
def test_the_warm_up_log_covers_every_signature_at_each_batch_size(folder, described, batches):
    calls = warmup.read_warmup(folder if batches == exporter.WARM_UP else described[0])
    found = {(call.signature, len(*call.inputs.values())) for call in calls}
    names = ("serving_default", "image_tensor", "classify")
    assert found == {(name, batch) for name in names for batch in batches}


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A network with nearly all of its weights in a convolution, its variables' size in float32, and its answers."""
    images = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(64, 3, 4, activation="relu")(images)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(64, 5, 4)(x))
    model = keras.Model(images, keras.layers.Dense(3, "softmax")(x), name="wide")
    for weight in model.weights:
        weight.assign(ramps.weight(weight.path, tuple(weight.shape)))
    to = tmp_path_factory.mktemp("wide")
    return model, *served(export(model, LABELS, to, Preprocessing(SIZE), precision="float32"))


def served(folder):
    """The size of its variables, bytes, and what it answers for four images."""
    images = tf.constant(sample_requests.sample_images(4))
    size = (folder / "variables/variables.data-00000-of-00001").stat().st_size
    return size, tf.saved_model.load(folder).signatures["image_tensor"](images=images)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_the_precision_is_half_the_size_and_answers_nearly_the_same(wide, tmp_path, precision):
    model, size, expected = wide
    narrow, found = served(export(model, LABELS, tmp_path, Preprocessing(64), precision=precision))
    assert found["probabilities"].dtype == found["top_scores"].dtype == tf.float32
    assert 0.5 <= narrow / size < 0.52
    difference = np.abs(expected["probabilities"] - found["probabilities"]).max()
    assert 0 < difference < runtime_checks.ROUNDING[precision]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """The export of a network trained in mixed precision on images as Caffe has them, loaded, and the same in float32."""

    def network(dtype):
        images = keras.Input((48, 48, 3))
        x = keras.layers.Conv2D(8, 5, 4, activation="relu", name="conv", dtype=dtype)(images)
        x = keras.layers.GlobalAveragePooling2D(dtype=dtype)(x)
        head = keras.layers.Dense(3, "softmax", name="head", dtype=dtype)
        model = keras.Model(images, head(x), name="small")
        ramps.fill(model)
        return model

    preprocessing = Preprocessing(48, scale="caffe", stored=56)
    folder = export(
        network("mixed_bfloat16"), LABELS, tmp_path_factory.mktemp("mixed"), preprocessing
    )
    return tf.saved_model.load(folder), network("float32")


def test_a_network_trained_in_mixed_precision_is_exported_in_float32(mixed):
    served, plain = mixed
    images = tf.constant(sample_requests.sample_images(2))
    answer = served.signatures["image_tensor"](images=images)["probabilities"]
    assert answer.dtype == tf.float32
    np.testing.assert_allclose(answer, plain(served.prepare(images), training=False), atol=1e-5)


def test_weights_with_a_preprocessing_of_their_own_are_exported_with_it(mixed):
    seen, _ = mixed
    images = tf.cast(
        tf.random.stateless_uniform((2, 90, 120, 3), (1, 2), 0, 256, tf.int32), "uint8"
    )
    prepared = seen.prepare(images)
    middle = tf.image.resize(images, (56, 56))[:, 4:52, 4:52, ::-1] - (104.0, 117.0, 123.0)
    np.testing.assert_allclose(prepared, middle, atol=1e-2)  # of 255


def test_an_untrained_network_is_warned_of_and_exported(tmp_path):
    model = tiny()
    model.layers[-1].bias.assign(np.zeros(3))
    with pytest.warns(UserWarning, match="'tiny' is untrained: its weights are the random init"):
        folder = export(model, LABELS, tmp_path, Preprocessing(64))
    assert (folder / "saved_model.pb").is_file()


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    """An export with every argument that is recorded, the origin that it was told and the weights file of it."""
    base = tmp_path_factory.mktemp("described")
    weights = base / "w.weights.h5"
    weights.write_bytes(b"some weights")
    origin = metadata.Origin.from_files("runs/demo", weights)
    folder = export(
        *(tiny(), LABELS, base / "demo", Preprocessing(SIZE, None)),
        version=7,
        warm_up=(2,),
        pixel_limit=10**6,
        origin=origin,
        switches={"last_pool": "max"},
    )
    return folder, origin, weights


def test_an_export_says_how_and_from_what_it_was_made(described, tmp_path):
    folder, origin, weights = described
    found = metadata.read_metadata(folder)
    assert found.switches == {"last_pool": "max"}
    assert (found.network, found.pixel_limit) == ("tiny", 10**6)
    assert found.preprocessing == Preprocessing(SIZE, None)
    assert found.origin == dataclasses.replace(origin, exported_to=str(folder.parent))
    assert found.origin.is_unchanged()
    weights.write_bytes(b"others")
    assert not found.origin.is_unchanged()
    (tmp_path / metadata.METADATA_FILE).parent.mkdir()
    (tmp_path / metadata.METADATA_FILE).write_text("{}")
    with pytest.raises(UserError, match=r"export\.json is not what export writes"):
        metadata.read_metadata(tmp_path)


@pytest.fixture(scope="module")
def versions(folder, tmp_path_factory):
    """The first export to a folder, a version of another number, the next export, and what lay beside the first."""
    to = Path(shutil.copytree(folder.parent, tmp_path_factory.mktemp("versions") / "new/demo"))
    beside = {path.name: path.read_text() for path in to.iterdir() if path.is_file()}
    (to / "model.config").write_text("# edited by hand\n")
    shutil.copytree(folder, to / "10")
    return (to / "1", to / "10", export(tiny(), LABELS, to, Preprocessing(SIZE, None))), beside


def test_beside_the_versions_lie_the_servers_settings_and_a_readme(versions):
    folders, beside = versions
    config = model_server_config_pb2.ModelServerConfig()
    text_format.Parse(beside["model.config"], config)
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path) == ("demo", "/models/demo")
    assert (model.model_platform, model.model_version_policy.latest.num_versions) == (
        "tensorflow",
        1,
    )
    assert (folders[0].parent / "model.config").read_text() == "# edited by hand\n"
    readme = beside["README.md"]
    for words in ("docker run", "MODEL_NAME=demo", "curl", "v1/models/demo:predict", "grpc"):
        assert words in readme
    (program,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    compile(program, "README.md", "exec")
    # What an image may ask for at most, and the exception beside it.
    assert "| pixels | 50,000,000 |" in readme
    assert "| memory | 12 bytes for each pixel |" in readme
    assert "| 0.5 s for each megapixel" in readme
    assert re.search(r"^\| Huffman .* lossless WebP.* \| 1 GiB and 2.0 s;", readme, re.M)
    assert "4 images of a request are read at the same time" in readme


def test_versions_count_up_and_the_newest_is_found(versions, described):
    assert described[0].name == "7"  # as asked for
    folders, _ = versions
    to = folders[0].parent
    assert [path.name for path in folders] == ["1", "10", "11"]
    assert newest_version(to) == folders[2]
    assert newest_version(folders[1]) == folders[1]
    assert sorted(path.name for path in to.iterdir()) == [
        *("1", "10", "11"),
        *("README.md", "model.config"),
    ]


def test_a_version_that_is_there_is_refused_and_kept(tmp_path):
    (tmp_path / "3").mkdir()
    with pytest.raises(
        UserError, match=r"version 3 is in '.*' already; drop the version to get the next, 4"
    ):
        export(tiny(), LABELS, tmp_path, Preprocessing(SIZE), version=3)
    assert [path.name for path in tmp_path.iterdir()] == ["3"]


def test_exports_at_the_same_time_each_get_a_number(tmp_path):
    built = [tmp_path / f".export-{i}" for i in range(16)]
    for path in built:
        path.mkdir()
        (path / "saved_model.pb").touch()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda path: publish_version(path, tmp_path, None), built))
    assert {path.name for path in tmp_path.iterdir()} == {str(i) for i in range(1, 17)}


@pytest.mark.parametrize("there", [True, False])
def test_a_failed_export_leaves_nothing_behind(tmp_path, monkeypatch, there):
    def fail(*_, **__):
        raise OSError("no space left on device")

    monkeypatch.setattr(warmup, "write_warmup", fail)
    to = tmp_path / "demo"
    if there:
        to.mkdir()
    with pytest.raises(OSError, match="no space left"):
        export(tiny(), LABELS, to, Preprocessing(SIZE))
    assert list(tmp_path.rglob("*")) == ([to] if there else [])


@pytest.fixture
def little_disk(tmp_path):
    """A file system of 100 kB, which only root can mount."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    options = ["-t", "tmpfs", "-o", "size=100k", "tmpfs", str(disk)]
    if mount is None or subprocess.run([mount, *options], capture_output=True).returncode:
        pytest.skip("no small file system can be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("read_only", [False, True], ids=["full", "read-only"])
def test_a_disk_that_takes_no_export_is_named_and_keeps_nothing(wide, little_disk, read_only):
    if read_only:
        subprocess.run(["mount", "-o", "remount,ro", str(little_disk)], check=True)
    model, *_ = wide
    with pytest.raises(Exception, match="No space left|Read-only") as caught:
        export(model, LABELS, little_disk / "demo", Preprocessing(64))
    code, sentence = explain(caught.value)
    assert code == 2
    wanted = (
        r".*demo: Read-only file system" if read_only else "the disk is full; free some space.*"
    )
    assert re.fullmatch(wanted, sentence)
    assert list(little_disk.iterdir()) == []


REFUSED = {
    r"2 labels for 3 classes": {"labels": ("a", "b")},
    r"label 'a\\nb' is not one line of text": {"labels": ("a\nb", "c", "d")},
    r"label '' is not one line of text": {"labels": ("", "c", "d")},
    r"size must be an integer of at least 1, got 0": {"preprocessing": Preprocessing(0)},
    r"top must be an integer of at least 1, got 2\.5": {"top": 2.5},
    r"version must be an integer of at least 1, got -1": {"version": -1},
    r"version must be an integer of at least 1, got True": {"version": True},
    r"crop must be in \(0, 1\], a fraction of each side, or None, got 1\.5": {
        "preprocessing": Preprocessing(SIZE, 1.5)
    },
    r"pixel_limit must be an integer in \[1, 2147483647\], got 0": {"pixel_limit": 0},
    r"pixel_limit must be an integer in .*, got 5000000000": {"pixel_limit": 5_000_000_000},
    r"warm_up must be an integer of at least 1, got 0": {"warm_up": (1, 0)},
    r"warm_up must have 1 to 333 batch sizes, got 0": {"warm_up": ()},
    r"unknown precision 'bfloat'; known: float32, bfloat16, float16; did you mean 'bfloat16'\?": {
        "precision": "bfloat"
    },
    r"'tiny' takes images of \(None, None, 1\), not \(64, 64, 3\)": {"model": tiny(channels=1)},
    r"'tiny' takes images of \(32, 32, 3\), not \(64, 64, 3\)": {"model": tiny(shape=(32, 32))},
    r"'headless' gives": {"model": keras.Model(*[keras.Input((8, 8, 3))] * 2, name="headless")},
    r"functional model with one input; 'sequential' is not": {
        "model": keras.Sequential(name="sequential")
    },
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_an_argument_outside_its_range_is_refused_before_anything_is_written(tmp_path, sentence):
    given = {"model": tiny(), "labels": LABELS, "preprocessing": Preprocessing(SIZE)}
    with pytest.raises(UserError, match=sentence):
        export(**given | {"to": tmp_path / "demo"} | REFUSED[sentence])
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "demo").touch()
    with pytest.raises(UserError, match="is a file; give the folder"):
        export(tiny(), LABELS, tmp_path / "demo", Preprocessing(SIZE))


def test_without_the_serving_api_the_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    with pytest.raises(UserError, match=r"pip install 'inception_tf\[serve\]'"):
        export(tiny(), LABELS, tmp_path, Preprocessing(SIZE))


def test_the_origin_is_found_again_from_any_folder(tmp_path, monkeypatch):
    (tmp_path / "x.weights.h5").write_bytes(b"weights")
    (tmp_path / "names.txt").write_text("a\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    origin = metadata.Origin.from_files("x.weights.h5", "x.weights.h5", "names.txt")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert origin.is_unchanged()
    for path in (origin.path, origin.weights, origin.labels):
        assert Path(path).is_absolute()
        assert Path(path).is_file()


def test_the_origin_is_found_again_where_it_was_moved_with_the_export(tmp_path):
    for name in ("project/runs/a", "project/saved_models/a/1"):
        (tmp_path / name).mkdir(parents=True)
    weights, names = (tmp_path / "project/runs/a" / name for name in ("a.h5", "names.txt"))
    weights.write_bytes(b"weights")
    names.write_text("a\n", encoding="utf-8")
    origin = dataclasses.replace(
        metadata.Origin.from_files(weights.parent, weights, str(names)),
        exported_to=str(tmp_path / "project/saved_models/a"),
    )
    assert origin.find(tmp_path / "project/saved_models/a/1") == origin

    (tmp_path / "project").rename(tmp_path / "moved")
    version = tmp_path / "moved/saved_models/a/1"
    found = origin.find(version)
    assert found.path == str(tmp_path / "moved/runs/a")
    assert origin.find_labels(version) == found.labels == str(tmp_path / "moved/runs/a/names.txt")
    assert dataclasses.replace(origin, exported_to=None).find(version) is None  # as before
    Path(found.weights).write_bytes(b"others")
    assert origin.find(version) is None


def test_a_folded_network_that_gives_something_else_is_not_exported(tmp_path, monkeypatch):
    def folded_wrong(network, precision="float32"):
        copy = keras.models.clone_model(network)
        copy.set_weights([array * 1.1 for array in network.get_weights()])
        return copy

    monkeypatch.setattr(exporter, "optimize_for_inference", folded_wrong)
    with pytest.raises(UserError, match="with batch normalization folded differs by .*: --no-fold"):
        export(tiny(), LABELS, tmp_path / "demo", Preprocessing(SIZE))
    assert not (tmp_path / "demo").exists()
