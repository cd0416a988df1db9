# SPDX-License-Identifier: Apache-2.0
"""A sound SavedModel passes every check; one that is broken in one way fails the check for it."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import ramps
import tensorflow as tf
from no_pictures import save_without_pictures
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from inception_tf import UserError, create_model
from inception_tf.data.decoding import images as pixels
from inception_tf.data.keras_options import KerasOptions
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.export import metadata, signatures, warmup
from inception_tf.export.savedmodel import export
from inception_tf.savedmodel import c_api
from inception_tf.savedmodel.call import Call
from inception_tf.verify import python_loader, runtime_checks, sample_run
from inception_tf.verify.check import CheckFailedError, CheckSkippedError
from inception_tf.verify.sample_run import SampleRun
from inception_tf.verify.subprocess_loader import CallResult, run_saved_model
from inception_tf.verify.verify import verify

pytestmark = pytest.mark.usefixtures("short_networks")

SIZE = 32
LABELS = ("a", "b", "c", "d", "e", "f")


def small_network(seed: int = 0, activation: str | None = "softmax") -> keras.Model:
    images = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(8, 5, 4, name="conv")(images)
    x = keras.layers.GlobalMaxPooling2D()(x)
    model = keras.Model(images, keras.layers.Dense(len(LABELS), activation, name="logits")(x))
    for weight in model.weights:
        weight.assign(ramps.weight(f"{seed} {weight.path}", tuple(weight.shape)))
    return model


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """An export of a Keras file; its project, with both, was moved since."""
    base = tmp_path_factory.mktemp("models")
    weights = base / "project/net.keras"
    weights.parent.mkdir()
    small_network().save(weights)
    export(
        *(small_network(), LABELS, base / "project/sound", Preprocessing(SIZE, crop=None)),
        top=len(LABELS),
        origin=metadata.Origin.from_files(weights, weights),
        keras_options=KerasOptions("unit"),
    )
    (base / "project").rename(base / "moved")
    return base / "moved/sound/1"


@pytest.fixture(scope="module")
def runs() -> dict[tuple[bytes, ...], SampleRun]:
    return {}


@pytest.fixture
def one_run(monkeypatch, runs):
    """One process of the C++ loader for all tests of the same graph and weights, on which its answers depend.

    A changed warm-up log alone is run again.
    """
    run = sample_run.run_sample_requests

    def again(folder, warm, probes=(), *, features=False):
        files = (folder / "saved_model.pb", *sorted(folder.glob("variables/*")))
        key = tuple(file.read_bytes() for file in files)
        if key not in runs:
            runs[key] = run(folder, warm, probes, features=features)
        replies = runs[key].warm if warm else ()
        if [call.signature for call in warm] != [call.signature for call, _ in replies]:
            replies = tuple(zip(warm, run_saved_model(folder, warm).results, strict=True))
        return dataclasses.replace(runs[key], warm=replies)

    monkeypatch.setattr(sample_run, "run_sample_requests", again)


@pytest.fixture
def static_checks_alone(monkeypatch):
    """Without the C++ loader's process: for what is found in the files."""

    def no_run(*_, **__):
        raise c_api.NoLoaderError("not needed in this test")

    monkeypatch.setattr(sample_run, "run_sample_requests", no_run)


@pytest.fixture
def not_in_python(monkeypatch):
    """Without loading the export in Python: for what the other checks find."""

    def skip(_):
        raise CheckSkippedError("not needed in this test")

    monkeypatch.setattr(python_loader, "load_in_python", skip)


@pytest.fixture
def copy(sound, tmp_path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "1"))


def verdicts(path, model=None) -> dict[str, bool | None]:
    return {check.name: check.passed for check in verify(path, model)}


# Whatever is changed by hand: what was written is known.
RECORDED = {"metadata", "files", "fingerprint", "exported labels"}


def failed(path, model=None) -> set[str]:
    found = verdicts(path, model).items()
    return {name for name, passed in found if passed is False} - RECORDED


def edit(folder: Path, change: Callable) -> None:
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((folder / "saved_model.pb").read_bytes())
    change(saved.meta_graphs[0])
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())


@pytest.mark.usefixtures("one_run")
def test_a_sound_model_passes_every_check_in_order_and_is_loaded_once(sound, monkeypatch):
    load, folders = tf.saved_model.load, []

    def counted(folder):
        folders.append(folder)
        return load(folder)

    monkeypatch.setattr(tf.saved_model, "load", counted)
    found = {check.name: check.passed for check in verify(sound.parent, labels=LABELS)}
    assert list(found) == [
        "SavedModel",
        "metadata",
        "files",
        "fingerprint",
        "signatures",
        "labels",
        "exported labels",
        "run's labels",
        "class table",
        "settings",
        "sizes",
        "inference only",
        "no files",
        "no forced XLA",
        "C++ loader",
        "probabilities",
        "top classes",
        "statuses",
        "Python loader",
        "preprocessing",
        "Keras model",
        "one bad image",
        "warm-up",
    ]
    assert {name for name, passed in found.items() if passed is not True} == set()
    assert folders == [str(sound)]


@pytest.mark.usefixtures("one_run", "not_in_python")
def test_another_network_fails_the_comparison_alone(sound):
    assert failed(sound, small_network(seed=1)) == {"Keras model"}


def test_a_missing_label_file_does_not_load(copy):
    (copy / "assets/labels.txt").unlink()
    found = verdicts(copy)
    assert (found["labels"], found["C++ loader"], found["Python loader"]) == (False, False, None)


def test_missing_variables_load_but_do_not_run(tmp_path):
    folder = save_without_pictures(tmp_path / "1", LABELS)
    (folder / "variables/variables.index").unlink()
    found = {check.name: check for check in verify(folder)}
    assert "Could not find variable" in found["C++ loader"].detail
    assert found["C++ loader"].passed is False
    assert found["probabilities"].passed is None


def test_torn_variables_are_found(copy):
    (data,) = copy.glob("variables/variables.data-*")
    data.write_bytes(data.read_bytes()[:100])
    found = {check.name: check for check in verify(copy)}
    assert found["sizes"].detail.startswith("variables/variables cannot be read: ")
    assert (found["sizes"].passed, found["C++ loader"].passed) == (False, False)


@pytest.mark.usefixtures("static_checks_alone")
def test_one_wrong_bit_in_the_variables_is_found(copy):
    (data,) = copy.glob("variables/variables.data-*")
    content = bytearray(data.read_bytes())
    content[100] ^= 1
    data.write_bytes(content)
    assert "sizes" in failed(copy)


class EagerDropout(keras.layers.Layer):
    def call(self, inputs):
        return keras.random.dropout(inputs, 0.5, seed=1)


class EagerNorm(keras.layers.BatchNormalization):
    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=True, mask=mask)


@pytest.mark.usefixtures("static_checks_alone")
@pytest.mark.parametrize("layer", [EagerDropout(), EagerNorm()], ids=["dropout", "norm"])
def test_a_graph_that_still_trains_is_found(tmp_path, layer):
    images = keras.Input((SIZE, SIZE, 3))
    x = layer(keras.layers.Conv2D(8, 5, 4)(images))
    x = keras.layers.GlobalMaxPooling2D()(x)
    head = keras.layers.Dense(len(LABELS), "softmax", bias_initializer="uniform")
    model = keras.Model(images, head(x))
    folder = export(model, LABELS, tmp_path, Preprocessing(SIZE), fold=False)
    assert "inference only" in failed(folder)


@pytest.mark.usefixtures("one_run", "not_in_python")
def test_a_network_that_has_changed_since_its_export_is_not_compared_with(sound):
    weights = sound.parents[1] / "net.keras"
    before = weights.read_bytes()
    small_network(seed=1).save(weights)
    (check,) = (check for check in verify(sound) if check.name == "Keras model")
    weights.write_bytes(before)
    assert check.passed is None
    assert check.detail.endswith(
        "net.keras does not exist or has changed since; name the run with --run"
    )


def test_a_run_that_is_not_there_is_refused(sound):
    with pytest.raises(UserError, match="there is no runs/nope; give a run folder or a weights"):
        verify(sound, "runs/nope")


@pytest.mark.usefixtures("one_run", "not_in_python")
def test_a_network_of_another_size_fails_the_comparison(sound):
    other = create_model("inception_v1", input_shape=(64, 64, 3), classes=6, width_multiplier=0.1)
    (check,) = (check for check in verify(sound, other) if check.name == "Keras model")
    assert check.passed is False
    assert (
        check.detail == "the network takes (None, 64, 64, 3), the export gives it (None, 32, 32, 3)"
    )


@pytest.mark.usefixtures("one_run", "not_in_python")
def test_a_wrong_number_of_labels_is_found(copy):
    with (copy / "assets/labels.txt").open("a") as file:
        file.write("one too many\n")
    assert failed(copy) == {"labels"}


def drop_classify(graph):
    del graph.signature_def["classify"]


def rename_output(graph):
    outputs = graph.signature_def["serving_default"].outputs
    outputs["output_0"].CopyFrom(outputs["status"])
    del outputs["status"]


def fix_batch(graph):
    graph.signature_def["image_tensor"].inputs["images"].tensor_shape.dim[0].size = 8


def change_dtype(graph):
    graph.signature_def["classify"].outputs["scores"].dtype = tf.float64.as_datatype_enum


@pytest.mark.usefixtures("static_checks_alone")
@pytest.mark.parametrize("change", [drop_classify, rename_output, fix_batch, change_dtype])
def test_a_signature_that_is_not_the_contracts_is_found(copy, change):
    edit(copy, change)
    assert failed(copy) == {"signatures"}


def test_a_missing_signature_fails_in_the_loader_too(tmp_path):
    folder = save_without_pictures(tmp_path / "1", LABELS, ("serving_default", "image_tensor"))
    found = {check.name: check for check in verify(folder)}
    assert (found["signatures"].passed, found["C++ loader"].passed) == (False, False)
    assert found["C++ loader"].detail.startswith("classify: no signature 'classify'; there are: ")


@pytest.mark.usefixtures("static_checks_alone")
def test_a_function_that_needs_xla_is_found(copy):
    def force(graph):
        for function in graph.graph_def.library.function:
            if "network" in function.signature.name:
                function.attr["_XlaMustCompile"].b = True

    edit(copy, force)
    assert "no forced XLA" in failed(copy)


def exchange_outputs(graph):
    """The server follows the signature, Python's loader the function."""
    outputs = graph.signature_def["image_tensor"].outputs
    first, second = outputs["probabilities"].name, outputs["top_scores"].name
    outputs["probabilities"].name, outputs["top_scores"].name = second, first


def test_each_of_several_faults_in_the_outputs_is_found(tmp_path, monkeypatch):
    """Logits, names in another order, bad images named good, a tensor of another output, and another scale."""
    answer = signatures.ServingModule._classified

    def turned(self, images, status):
        found = answer(self, images, status)
        return found | {"top_classes": found["top_classes"][:, ::-1]}

    read_one = signatures.ServingModule._read_one

    def named_good(self, item, unpack):
        image, _ = read_one(self, item, unpack)
        return image, tf.constant(pixels.OK)

    monkeypatch.setattr(signatures.ServingModule, "_classified", turned)
    monkeypatch.setattr(signatures.ServingModule, "_read_one", named_good)
    network = small_network(activation=None)
    preprocessing = Preprocessing(SIZE, crop=None, scale="torch")
    folder = export(network, LABELS, tmp_path, preprocessing, top=len(LABELS))
    edit(folder, exchange_outputs)
    values = metadata.read_values(folder)
    values["preprocessing"]["scale"] = "unit"
    (folder / metadata.METADATA_FILE).write_text(json.dumps(values))
    found = {check.name: check.detail for check in verify(folder) if check.passed is False}
    assert set(found) - RECORDED == {
        *("probabilities", "top classes", "statuses", "Python loader", "preprocessing"),
        "one bad image",
    }
    assert "export a network that ends in softmax" in found["probabilities"]
    assert "do not fit" in found["top classes"]


@pytest.mark.usefixtures("one_run", "not_in_python")
def test_an_unreadable_warm_up_log_fails_its_check_alone(copy):
    (copy / warmup.WARMUP_FILE).write_bytes(b"garbage")
    assert failed(copy) == {"warm-up"}


@pytest.mark.usefixtures("one_run", "not_in_python")
def test_a_warm_up_record_that_does_not_run_fails_its_check_alone(copy):
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.model_spec.signature_name = "serve"
    with tf.io.TFRecordWriter(str(copy / warmup.WARMUP_FILE)) as file:
        file.write(log.SerializeToString())
    assert failed(copy) == {"warm-up", "settings"}  # and one record is not nine


def test_what_cannot_be_checked_here_is_named_and_not_passed(sound, monkeypatch):
    monkeypatch.setattr(c_api, "LIBRARIES", ("libtensorflow.nowhere", "libtensorflow_cc.nowhere"))
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    found = {check.name: check for check in verify(sound)}
    undone = {
        "C++ loader",
        "Keras model",
        "probabilities",
        "top classes",
        "statuses",
        "Python loader",
        "preprocessing",
        "one bad image",
        "warm-up",
        "run's labels",
    }
    assert {name for name, check in found.items() if check.passed is None} == undone
    assert found["C++ loader"].detail.startswith("the installed TensorFlow has no lib")
    assert "pip install" in found["warm-up"].detail


def test_a_bad_image_that_fails_its_batch_is_found():
    call = Call("image_tensor", {})
    clean = ((call, CallResult({"probabilities": np.ones((5, 2))})),)
    failed = ((call, CallResult({}, "no JPEG")),)
    with pytest.raises(CheckFailedError, match="bad images fail the whole call: no JPEG"):
        runtime_checks.bad_image_fails_alone(SampleRun((), clean, failed, ()))
    with pytest.raises(CheckSkippedError, match="image_tensor did not run: no JPEG"):
        runtime_checks.as_in_python(SampleRun(failed, clean, failed, ()), None)


def answered(call: Call, **outputs) -> SampleRun:
    """A trial with one call, answered as the test says."""
    arrays = {name: np.array(rows) for name, rows in outputs.items()}
    return SampleRun(((call, CallResult(arrays)),), (), (), ())


@pytest.mark.parametrize("row", [[0.5, float("nan")], [0.7, 0.7], [1.5, -0.5]])
def test_rows_that_are_no_probabilities_are_found(row):
    with pytest.raises(CheckFailedError, match="end"):
        runtime_checks.are_probabilities(answered(Call("image_tensor", {}), probabilities=[row]))


@pytest.mark.parametrize("names", [[b"dog", b"cat"], [b"cat", b"cow"]])
def test_names_that_are_not_those_of_the_scores_are_found(names):
    tried = answered(
        Call("image_tensor", {}),
        probabilities=[[0.9, 0.1]],
        top_classes=np.array([names], object),
        top_scores=[[0.9, 0.1]],
    )
    with pytest.raises(CheckFailedError, match="do not fit"):
        runtime_checks.names_follow_scores(tried, ("cat", "dog"))


def test_what_is_no_saved_model_is_refused_with_a_sentence(tmp_path):
    with pytest.raises(UserError, match="is not a folder; give saved_models/NAME"):
        verify(tmp_path / "nothing")
    with pytest.raises(UserError, match=r"neither a saved_model\.pb nor a numbered version folder"):
        verify(tmp_path)
    (tmp_path / "7").mkdir()
    with pytest.raises(UserError, match=r"7' is not a SavedModel, it has no saved_model\.pb"):
        verify(tmp_path)
    (tmp_path / "7" / "saved_model.pb").write_bytes(b"\xff garbage")
    with pytest.raises(UserError, match="cannot be read as a SavedModel"):
        verify(tmp_path)
    (tmp_path / "7" / "saved_model.pb").write_bytes(b"")
    with pytest.raises(UserError, match="no graph tagged 'serve'"):
        verify(tmp_path)
