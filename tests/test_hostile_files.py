# SPDX-License-Identifier: Apache-2.0
"""Damaged and hostile weights files: one sentence each, as docs/hostile-files.md says, by every entry point."""

from __future__ import annotations

import os
import subprocess

import forked
import h5py
import numpy as np
import pytest
import tf_table
import torch_file

import inception_tf
from inception_tf import cli
from inception_tf.benchmark import tables
from inception_tf.config import read_yaml
from inception_tf.data.labels import read_class_names, read_labels
from inception_tf.export import metadata
from inception_tf.training import checkpoint
from inception_tf.weights.convert import convert

pytestmark = pytest.mark.usefixtures("short_networks")
INTERPRETER = "INCEPTION_TF_PYTHON_WITHOUT_TENSORFLOW"
TIMEOUT_S = 900


def hostile_files(root, *words, run=forked.run, **variables):
    path = os.pathsep.join(map(str, (root, root / "tests")))
    child = run(
        [root / "tests" / "hostile_files.py", *words],
        env={**os.environ, "PYTHONPATH": path, **variables},
        timeout=TIMEOUT_S,
    )
    assert child.returncode == 0, child.stdout + child.stderr[-3000:]


def test_every_file_ends_as_the_page_says(root):
    """All in one process of limited memory; three bits are flipped in each format, the page has 200."""
    hostile_files(root, "--flips", "3")


@pytest.mark.slow
def test_no_flipped_bit_changes_a_number_where_there_are_checksums(root):
    hostile_files(root)


@pytest.mark.slow
def test_every_file_of_torch_ends_as_the_page_says(root):
    if INTERPRETER not in os.environ:
        pytest.skip(f"set {INTERPRETER} to a Python that has torch")

    def by_torch(words, **settings):
        command = [os.environ[INTERPRETER], *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, **settings)

    hostile_files(root, "--pickles", run=by_torch, KERAS_BACKEND="torch")


def test_the_page_has_no_internal_error_and_enough_files(root):
    page = (root / "docs" / "hostile-files.md").read_text(encoding="utf-8")
    assert "INTERNAL" not in page
    assert page.count("\n| ") > 300


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    """A few files of which each command gets the path."""
    folder = tmp_path_factory.mktemp("bad")
    os.mkfifo(folder / "pipe.weights.h5")
    (folder / "loop.safetensors").symlink_to("loop.safetensors")
    with h5py.File(folder / "link.weights.h5", "w") as file:
        group = file.create_group("layers/dense/vars")
        group.attrs["name"] = "Logits"
        group["0"] = h5py.ExternalLink("other.h5", "/x")
    header = tf_table.number(1, 1)
    entry = tf_table.entry((-1, 4), 16)
    (folder / "x.ckpt.index").write_bytes(tf_table.table({b"": header, b"a/weights": entry}))
    (folder / "x.ckpt.data-00000-of-00001").write_bytes(bytes(16))
    return folder


@pytest.mark.parametrize(
    "name", ["pipe.weights.h5", "loop.safetensors", "link.weights.h5", "x.ckpt"]
)
@pytest.mark.parametrize(
    "words",
    [
        "evaluate {} --model inception_v1 --data digits",
        "export {} --model inception_v1 --labels labels.txt --to exported/x",
        "train --model inception_v1 --data digits --recipe digits --set model.weights={} --set model.size=32"
        " --out run",
        "convert --model inception_v1 --source {source} {} out.weights.h5",
    ],
    ids=lambda words: words.split()[0],
)
def test_each_command_ends_in_one_sentence(bad, name, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.txt").write_text("a\nb\n")
    source = {"weights.h5": "keras", "safetensors": "timm", "ckpt": "slim"}[name.split(".", 1)[1]]
    assert cli.main(words.format(bad / name, source=source).split()) == 2
    sentence = capsys.readouterr().err.strip().splitlines()[-1]
    assert sentence.startswith("inception-tf: ")
    assert "internal error" not in sentence
    assert not (tmp_path / "out.weights.h5").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused_by_every_function(tmp_path, value):
    model = inception_tf.create_model("inception_v1", classes=5, input_shape=(32, 32, 3))
    path = tmp_path / "x.safetensors"
    state = torch_file.state_of(model, "inception_v1")
    state["fc.bias"] = np.full(5, value, np.float32)
    torch_file.write(path, state)
    sentence = r"not finite \(fc.bias has 5\); nothing was loaded"
    with pytest.raises(inception_tf.UserError, match=sentence):
        convert("inception_v1", "timm", path)
    with pytest.raises(inception_tf.UserError, match=sentence):
        inception_tf.create_model("inception_v1", classes=5, weights=path)
    before = model.get_layer("Logits").bias.numpy()
    with pytest.raises(inception_tf.UserError, match=sentence):
        inception_tf.load_weights(model, path, strict=False)
    np.testing.assert_array_equal(model.get_layer("Logits").bias, before)


def test_a_classifier_of_a_trillion_classes_is_refused_before_a_model_is_built(tmp_path):
    with h5py.File(tmp_path / "x.weights.h5", "w") as file:
        group = file.create_group("layers/dense/vars")
        group.attrs["name"] = "Logits"
        bomb = group.create_dataset(
            "0", (1024, 2**20), "f4", chunks=(1024, 2**20), compression="gzip"
        )
        bomb.id.write_direct_chunk((0, 0), bytes(8 * 2**20))
    words = f"evaluate {tmp_path}/x.weights.h5 --model inception_v1 --data digits"
    assert cli.main(words.split()) == 2


# Text files that come from others too


def read_as(kind, path):
    if kind == "config":
        return read_yaml(path)
    if kind == "timings":
        return tables.read_timings(path)
    if kind == "export":
        (path.parent / metadata.METADATA_FILE).parent.mkdir()
        (path.parent / metadata.METADATA_FILE).symlink_to(path)
        return metadata.read_metadata(path.parent)
    return {"labels": read_labels, "class names": read_class_names}[kind](path)


@pytest.mark.parametrize("kind", ["config", "timings", "labels", "class names", "export"])
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "Git LFS pointer"),
        (b"[" * 100_000, None),
        (b"\xff\xfe", None),
    ],
    ids=["pointer", "nested", "no text"],
)
def test_a_text_file_of_another_kind_is_one_sentence(tmp_path, kind, content, sentence):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    if kind == "labels" and content.startswith(b"["):
        pytest.skip("a name of 100,000 letters is a name")
    with pytest.raises(inception_tf.UserError, match=sentence):
        read_as(kind, path)


@pytest.mark.parametrize("kind", ["config", "timings", "labels", "class names"])
def test_a_pipe_in_place_of_a_text_file_is_not_opened(tmp_path, kind):
    os.mkfifo(tmp_path / "x.json")
    with pytest.raises(inception_tf.UserError):
        read_as(kind, tmp_path / "x.json")


def test_objects_in_a_checkpoint_are_never_loaded(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    np.savez(tmp_path / checkpoint.ARRAYS, x=np.array([Trap()], object))
    model = inception_tf.create_model("inception_v1", classes=5, width_multiplier=0.05)
    with pytest.raises(inception_tf.UserError, match="has objects, which can run code"):
        checkpoint.restore(tmp_path, model)
    assert not (tmp_path / "ran").exists()


def test_the_progress_of_a_checkpoint_is_checked(tmp_path):
    (tmp_path / checkpoint.STATE).write_text('{"weights": []}')
    with pytest.raises(inception_tf.UserError, match="is not what training writes"):
        checkpoint.read_progress(tmp_path)
