# SPDX-License-Identifier: Apache-2.0
"""Exports damaged by hand: each damage is noticed, and those of the answers after all sums were recomputed too."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import ramps
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from inception_tf import UserError
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.export import metadata, warmup
from inception_tf.export.savedmodel import export
from inception_tf.host.tensorflow_internals import TENSORFLOW
from inception_tf.savedmodel import c_api, fingerprint
from inception_tf.verify import sample_run
from inception_tf.verify.verify import verify

SIZE = 32
LABELS = ("rose", "tulip", "lily", "iris", "aster", "poppy")
VARIABLES = "variables/variables"
LIMIT = 50_000_000


@functools.cache
def network(seed: int = 0) -> keras.Model:
    """Two convolutions of one shape, so that their variables can be exchanged."""
    images = keras.Input((SIZE, SIZE, 3))
    first = keras.layers.Conv2D(8, 5, 4, name="first")(images)
    second = keras.layers.Conv2D(8, 5, 4, name="second", activation="relu")(images)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Concatenate()([first, second]))
    model = keras.Model(images, keras.layers.Dense(len(LABELS), "softmax", name="logits")(x))
    for weight in model.weights:
        weight.assign(2 * ramps.weight(f"{seed} {weight.path}", tuple(weight.shape)))
    return model


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    to = tmp_path_factory.mktemp("models") / "sound"
    return export(network(), LABELS, to, Preprocessing(SIZE), top=3)


@pytest.fixture
def copy(sound, tmp_path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "1"))


def edit_graph(change):
    """A damage that changes the graph."""

    def damage(folder):
        saved = saved_model_pb2.SavedModel()
        saved.ParseFromString((folder / "saved_model.pb").read_bytes())
        change(saved.meta_graphs[0])
        (folder / "saved_model.pb").write_bytes(saved.SerializeToString())

    return damage


def change_constants(old, new, op: str = ""):
    """A damage that changes each constant of one value, or those that an operation of some kind takes."""

    def change(graph):
        changed = 0
        for function in graph.graph_def.library.function:
            users = {i.partition(":")[0] for n in function.node_def if n.op == op for i in n.input}
            for node in function.node_def:
                if node.op != "Const" or (op and node.name not in users):
                    continue
                value = tf.make_ndarray(node.attr["value"].tensor)
                if value.shape == () and type(value.item()) is type(old) and value.item() == old:
                    tensor = tf.make_tensor_proto(new, node.attr["dtype"].type, ())
                    node.attr["value"].tensor.CopyFrom(tensor)
                    changed += 1
        assert changed

    return edit_graph(change)


def edit_variables(change):
    """A damage that changes the variables: {name: array} → the same."""

    def damage(folder):
        prefix = str(folder / VARIABLES)
        reader = tf.train.load_checkpoint(prefix)
        arrays = {n: reader.get_tensor(n) for n in reader.get_variable_to_shape_map()}
        arrays = dict(sorted(change(arrays).items()))
        tf.raw_ops.SaveV2(
            prefix=prefix,
            tensor_names=list(arrays),
            shape_and_slices=[""] * len(arrays),
            tensors=[tf.constant(array) for array in arrays.values()],
        )

    return damage


def of_shape(arrays, *shape):
    return [name for name in sorted(arrays) if np.shape(arrays[name]) == shape]


def exchange(arrays):
    first, second = of_shape(arrays, 5, 5, 3, 8)
    return arrays | {first: arrays[second], second: arrays[first]}


def of_another(arrays):
    weights = {tuple(w.shape): w.numpy() for w in network(1).weights}
    return {name: weights.get(np.shape(array), array) for name, array in arrays.items()}


def hotter(arrays):
    """The logits divided by 2, as by a temperature."""
    return {
        name: array / np.float32(2) if np.shape(array) in ((16, 6), (6,)) else array
        for name, array in arrays.items()
    }


def one_bit(name: str, at: float = 0.5):
    def damage(folder):
        (path,) = folder.glob(name)
        content = bytearray(path.read_bytes())
        content[int(at * len(content))] ^= 1
        path.write_bytes(content)

    return damage


def write_labels(names):
    def damage(folder):
        text = "".join(f"{name}\n" for name in names)
        (folder / "assets/labels.txt").write_text(text, encoding="utf-8")

    return damage


def state(**fields):
    """A damage that changes what the metadata say."""

    def damage(folder):
        values = metadata.read_values(folder)
        for name, value in fields.items():
            inner = values["preprocessing"] if name in values["preprocessing"] else values
            assert inner[name] != value
            inner[name] = value
        (folder / metadata.METADATA_FILE).write_text(json.dumps(values))

    return damage


def drop_record(folder):
    path = str(folder / warmup.WARMUP_FILE)
    records = list(tf.data.TFRecordDataset(path).as_numpy_iterator())
    with tf.io.TFRecordWriter(path) as file:
        for record in records[:-1]:
            file.write(record)


def link_labels(folder):
    path = folder / "assets/labels.txt"
    shutil.copy(path, folder.parent / "labels.txt")
    path.unlink()
    path.symlink_to(folder.parent / "labels.txt")


def add_writer(graph):
    """A signature that writes a file at a path from the request."""
    nodes = graph.graph_def.node
    for name in ("path", "content"):
        node = nodes.add(name=name, op="Placeholder")
        node.attr["dtype"].type = tf.string.as_datatype_enum
        node.attr["shape"].shape.SetInParent()
    nodes.add(name="write", op="WriteFile", input=["path", "content"])
    done = nodes.add(name="done", op="Identity", input=["path", "^write"])
    done.attr["T"].type = tf.string.as_datatype_enum
    signature = graph.signature_def["maintenance"]
    for name, tensor in (("path", "path:0"), ("content", "content:0")):
        signature.inputs[name].name = tensor
        signature.inputs[name].dtype = tf.string.as_datatype_enum
    signature.outputs["done"].name = "done:0"
    signature.outputs["done"].dtype = tf.string.as_datatype_enum


def write_in_predict(graph):
    """The same, behind the status of `serving_default`."""
    output = graph.signature_def["serving_default"].outputs["status"]
    nodes = graph.graph_def.node
    for name, value in (("path", b"/tmp/x"), ("content", b"y")):
        node = nodes.add(name=name, op="Const")
        node.attr["dtype"].type = tf.string.as_datatype_enum
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
    nodes.add(name="write", op="WriteFile", input=["path", "content"])
    node = nodes.add(name="kept", op="Identity", input=[output.name, "^write"])
    node.attr["T"].type = tf.string.as_datatype_enum
    output.name = "kept:0"


def rewire(graph):
    """`image_tensor` gives the scores of `serving_default`'s place in the graph: its function is another."""
    nodes = {node.name: node for node in graph.graph_def.node}
    outputs = graph.signature_def["serving_default"].outputs
    call = nodes[outputs["probabilities"].name.partition(":")[0]]
    other = nodes[graph.signature_def["classify"].outputs["scores"].name.partition(":")[0]]
    assert call.op == other.op == "StatefulPartitionedCall"
    call.attr["f"].func.name = other.attr["f"].func.name


def reorder_classes(graph):
    """Indices behind top_k are counted from the end: names belong to other classes."""
    for function in graph.graph_def.library.function:
        for node in list(function.node_def):
            if node.op == "LookupTableFindV2":
                last = function.node_def.add(name="last", op="Const")
                last.attr["dtype"].type = tf.int64.as_datatype_enum
                last.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(5, tf.int64))
                turned = function.node_def.add(
                    name="turned", op="Sub", input=["last:output:0", node.input[1]]
                )
                turned.attr["T"].type = tf.int64.as_datatype_enum
                node.input[1] = "turned:z:0"


def read_columns(graph):
    for function in graph.graph_def.library.function:
        for node in function.node_def:
            if node.op.startswith("InitializeTable"):
                node.attr["offset"].i = 1


def second_graph(folder):
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((folder / "saved_model.pb").read_bytes())
    saved.meta_graphs.add().CopyFrom(saved.meta_graphs[0])
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())


def seal(folder):
    """Computes all sums of a damaged folder, as one who wants it to pass would."""
    (folder / fingerprint.FINGERPRINT_FILE).write_bytes(
        TENSORFLOW.get("CreateFingerprintDef")(str(folder))
    )
    values = metadata.read_values(folder)
    labels = (folder / "assets/labels.txt").read_text(encoding="utf-8").splitlines()
    values["contents"] |= {
        "files": metadata.sums_of_files(folder),
        "fingerprint": fingerprint.compute_fingerprint(folder),
        "labels": labels,
    }
    values[metadata.SUM] = metadata.sum_of_values(values)
    (folder / metadata.METADATA_FILE).write_text(json.dumps(values))


# Damage: what is done, the check that notices it, and the one that does after all sums were recomputed; None:
# nothing can then tell it from an export.
# fmt: off
FILES = {
    "a bit of the graph":           (one_bit("saved_model.pb"), "files"),
    "a bit of the fingerprint":     (one_bit("fingerprint.pb", 0.1), "fingerprint"),
    "a bit of the variables":       (one_bit(f"{VARIABLES}.data-*"), "files"),
    "a bit of their index":         (one_bit(f"{VARIABLES}.index"), "files"),
    "a bit of the labels":          (one_bit("assets/labels.txt"), "exported labels"),
    "a bit of the warm-up log":     (one_bit("assets.extra/tf_*", 0.99), "files"),
    "a digit of the metadata":      (state(pixel_limit=LIMIT + 1), "metadata"),
    "metadata removed":             (lambda folder: (folder / metadata.METADATA_FILE).unlink(), "metadata"),
    "a file removed":               (lambda folder: (folder / "fingerprint.pb").unlink(), "files"),
}
# Seen in the files, after the sums were recomputed too.
STATIC = {
    "labels swapped":               (write_labels((*LABELS[1::-1], *LABELS[2:])), "run's labels"),
    "labels reversed":              (write_labels(LABELS[::-1]), "run's labels"),
    "a label renamed":              (write_labels((*LABELS[:-1], "violet")), "run's labels"),
    "a warm-up record removed":     (drop_record, "settings"),
    "a file added":                 (lambda folder: (folder / "assets/more.txt").write_text("x"), "files"),
    "labels behind a link":         (link_labels, "files"),
    "a second graph":               (second_graph, "SavedModel"),
    "a signature added":            (edit_graph(add_writer), "signatures"),
    "a file written by a request":  (edit_graph(write_in_predict), "no files"),
    "the table from another line":  (edit_graph(read_columns), "class table"),
}
# Seen in the outputs, after the sums were recomputed too.
ANSWERS = {
    "another scale":                (change_constants(127.5, 125.0), "preprocessing"),
    "another offset":               (change_constants(1.0, 0.99, "Sub"), "preprocessing"),
    "variables exchanged":          (edit_variables(exchange), "Keras model"),
    "another network's variables":  (edit_variables(of_another), "Keras model"),
    "a temperature":                (edit_variables(hotter), "Keras model"),
    "names of other classes":       (edit_graph(reorder_classes), "top classes"),
    "a larger pixel limit":         (change_constants(LIMIT, 2_000_000_000), "statuses"),
    "a pixel limit one higher":     (change_constants(LIMIT, LIMIT + 1), "statuses"),
    "another status":               (change_constants(b"empty", b"ok"), "statuses"),
    "a black background":           (change_constants(255, 0, "Sub"), "preprocessing"),
    "a signature rewired":          (edit_graph(rewire), "C++ loader"),
    "fewer classes listed":         (change_constants(3, 2, "TopKV2"), "C++ loader"),
    "another scale in the metadata": (state(scale="torch"), "preprocessing"),
    "another crop in the metadata": (state(crop=0.9), "preprocessing"),
}
# fmt: on


def failures(folder) -> dict[str, str]:
    try:
        found = verify(folder, network(), LABELS)
    except UserError as error:  # the graph is no graph any more
        return {"files": str(error)} if "cannot be read as a SavedModel" in str(error) else {}
    return {check.name: check.detail for check in found if check.passed is False}


@pytest.fixture
def static_checks_alone(monkeypatch):
    def no_run(*_, **__):
        raise c_api.NoLoaderError("not needed in this test")

    monkeypatch.setattr(sample_run, "run_sample_requests", no_run)


@pytest.mark.usefixtures("static_checks_alone")
def test_the_files_of_an_undamaged_export_pass_also_with_recomputed_sums(copy):
    seal(copy)
    assert failures(copy) == {}


@pytest.mark.slow
def test_an_undamaged_export_passes_also_with_recomputed_sums(copy):
    seal(copy)
    checks = verify(copy, network(), LABELS)
    assert [check for check in checks if check.passed is not True] == []


@pytest.mark.usefixtures("static_checks_alone")
@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_noticed(copy, name):
    damage, check = FILES[name]
    damage(copy)
    assert check in failures(copy)


@pytest.mark.usefixtures("static_checks_alone")
@pytest.mark.parametrize("name", STATIC)
def test_a_damage_in_the_files_is_noticed_by_its_sum_and_without(copy, name):
    damage, check = STATIC[name]
    damage(copy)
    assert "files" in failures(copy)
    seal(copy)
    found = failures(copy)
    assert check in found
    assert "metadata" not in found


@pytest.mark.slow  # test_verify.py asks the same checks on each run
@pytest.mark.parametrize("name", ANSWERS)
def test_a_damage_of_the_answers_is_noticed_after_the_sums_were_recomputed(copy, name):
    damage, check = ANSWERS[name]
    damage(copy)
    seal(copy)
    found = failures(copy)
    assert check in found
    assert not {"metadata", "files", "fingerprint"} & set(found)


def test_the_table_of_damages_in_the_docs_is_this_one(root):
    text = (root / "docs" / "verify.md").read_text(encoding="utf-8")
    rows = [f"| {name} | {check} | |" for name, (_, check) in FILES.items()]
    rows += [
        f"| {name} | files | {check} |"
        for name, (_, check) in (STATIC | ANSWERS).items()
        if not name.endswith("metadata")
    ]
    rows += [
        f"| {name} | metadata | {check} |"
        for name, (_, check) in ANSWERS.items()
        if name.endswith("metadata")
    ]
    listed = [line for line in text.splitlines() if line.startswith("| ") and " | " in line]
    assert listed[2:] == rows, "\n".join(rows)
