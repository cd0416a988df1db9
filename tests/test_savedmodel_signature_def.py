# SPDX-License-Identifier: Apache-2.0
"""Signatures read without TensorFlow's Python, held against TensorFlow's own reading."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from inception_tf import UserError
from inception_tf.savedmodel.signature_def import read_meta_graph, read_signatures


class Twice(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32), tf.TensorSpec([], tf.float32)])
    def both(self, x, y):
        return {"double": 2 * x, "sum": x + y}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def text(self, s):
        return {"same": tf.identity(s)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("twice")
    module = Twice()
    tf.saved_model.save(
        module, str(path), signatures={"serving_default": module.both, "t": module.text}
    )
    return path


def test_the_names_are_those_that_tensorflow_reads(folder):
    theirs = read_meta_graph(folder).signature_def
    ours = read_signatures(folder)
    assert set(ours) == set(theirs) >= {"serving_default", "t"}
    for name, signature in ours.items():
        assert signature.inputs == {k: v.name for k, v in theirs[name].inputs.items()}
        assert signature.outputs == {k: v.name for k, v in theirs[name].outputs.items()}
    assert set(ours["serving_default"].inputs) == {"x", "y"}
    assert set(ours["serving_default"].outputs) == {"double", "sum"}


def test_the_whole_graph_is_the_one_that_tensorflow_reads(folder):
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((folder / "saved_model.pb").read_bytes())
    assert read_meta_graph(folder) == saved.meta_graphs[0]


def test_tensorflow_is_not_imported(folder):
    program = (
        "import sys; from inception_tf.savedmodel.signature_def import read_signatures;"
        "print(len(read_signatures(sys.argv[1])), 'tensorflow' in sys.modules)"
    )
    child = subprocess.run(
        [sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=True
    )
    assert child.stdout == f"{len(read_signatures(folder))} False\n"


def test_another_tag_and_a_torn_file_are_user_errors(folder, tmp_path):
    whole = (folder / "saved_model.pb").read_bytes()
    (tmp_path / "saved_model.pb").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cannot be read as a SavedModel; export it again"):
        read_signatures(tmp_path)
    # The tag `serve` with its length before it, as it lies in the file.
    assert whole.count(b"\x05serve") == 1
    (tmp_path / "saved_model.pb").write_bytes(whole.replace(b"\x05serve", b"\x05train"))
    with pytest.raises(UserError, match="no graph tagged 'serve'"):
        read_signatures(tmp_path)
    with pytest.raises(UserError, match="No such file"):
        read_signatures(tmp_path / "none")


def test_a_flipped_bit_anywhere_is_a_user_error_or_read(folder, tmp_path):
    whole = (folder / "saved_model.pb").read_bytes()
    outcomes = set()
    for place in np.random.default_rng(0).integers(8 * len(whole), size=1500):
        content = bytearray(whole)
        content[place // 8] ^= 1 << (place % 8)
        (tmp_path / "saved_model.pb").write_bytes(content)
        try:
            read_meta_graph(tmp_path)
            outcomes.add("read")
        except UserError as error:
            outcomes.add(str(error).partition("' ")[2].partition(" (")[0])
    assert {"read", "cannot be read as a SavedModel; export it again"} <= outcomes
