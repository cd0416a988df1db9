# SPDX-License-Identifier: Apache-2.0
"""`inception-tf recalibrate`: the statistics of other images in a new run folder, and what it refuses."""

from __future__ import annotations

import json
import shutil
import signal

import forked
import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from small_runs import few_digits, only

from inception_tf import cli
from inception_tf.data.decoding.transforms import apply_steps, evaluation_steps
from inception_tf.data.preprocessing import preprocessing_of_run
from inception_tf.data.sources.open import open_source
from inception_tf.host.locks import lock_folder
from inception_tf.run_folder import Run
from inception_tf.training import recalibrated_run
from inception_tf.training.optim.recalibrate import recalibrate
from inception_tf.training.recipes import read_recipe
from inception_tf.training.train import train

BATCH = 40


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of one epoch."""
    path = tmp_path_factory.mktemp("runs") / "digits"
    config = read_recipe("digits").override(
        ["model.width_multiplier=0.05", "training.epochs=1", f"data.batch_size={BATCH}"]
    )
    with only(config.model.name, "Conv2d_1a_7x7"):
        with few_digits(80, 40):
            train(config, path)
        yield Run(path)


@pytest.fixture(scope="module")
def inverted(tmp_path_factory):
    """The inverted digits without labels, in one folder, with a file that is no image."""
    folder = tmp_path_factory.mktemp("images") / "inverted"
    folder.mkdir()
    for number, image in enumerate(open_source("digits").split("train").images[:130]):
        Image.fromarray(255 - image).save(folder / f"{number:03d}.jpg", quality=95)
    (folder / "notes.txt").write_text("nothing to see")
    return folder


@pytest.fixture
def call(capfd):
    def call(*words):
        code = cli.main(["recalibrate", *map(str, words)])
        return code, *capfd.readouterr()

    return call


def statistics(model):
    return [
        np.array(value)
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization)
        for value in (layer.moving_mean, layer.moving_variance)
    ]


def test_an_unlabelled_folder_gives_new_statistics_and_leaves_the_weights(
    call, run, inverted, tmp_path
):
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    to = tmp_path / "new"
    words = ("--data", f"folder:{inverted}", "--batches", 3, "--to", to)
    code, out, err = call(run.path, *words)
    assert code == 0, err
    assert f"of 3 batches of {BATCH} images of folder:{inverted} (without labels): {to}" in out
    old, new = run.model(), Run(to).model()
    for ours, theirs in zip(new.trainable_variables, old.trainable_variables, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=ours.path)
    # Algorithm 2 on the same pixels, computed here: all 130 images are not used, so the batches are the command's.
    images, split = recalibrated_run.open_images(f"folder:{inverted}", None, {})
    assert (len(images), split) == (130, None)
    order = np.random.RandomState(recalibrated_run.SPLIT_SEED).permutation(130)[: 3 * BATCH]
    steps = evaluation_steps(preprocessing_of_run(run.config().data, run.size()))
    digits = [np.asarray(Image.open(inverted / f"{number:03d}.jpg")) for number in order]
    pixels = np.stack([apply_steps(steps, tf.constant(image)) for image in digits])
    recalibrate(old, pixels.reshape(3, BATCH, *pixels.shape[1:]), 3)
    for ours, theirs in zip(statistics(new), statistics(old), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    assert {path.name for path in to.iterdir()} == {
        *("config.yaml", "labels.txt", "model.keras", "report.json")
    }
    told = json.loads((to / "report.json").read_text(encoding="utf-8"))["recalibrated"]
    assert (told["run"], told["batches"], told["skipped"]) == (run.identity(), 3, {})
    assert Run(to).identity() not in (None, run.identity())
    assert Run(to).config() == run.config()
    assert Run(to).labels() == run.labels()
    assert {path: path.read_bytes() for path in before} == before
    assert to.stat().st_mode & 0o777 == run.path.stat().st_mode & 0o777
    assert cli.main(["evaluate", str(to), "--data", "digits"]) == 0
    told = call(run.path, *words)[2].splitlines()[-1]  # behind the bar of `evaluate`
    assert told == f"inception-tf: {to} exists already; give --to a new folder"


def test_labelled_data_needs_no_classes_of_the_run_and_mixes_its_own(call, run, inverted, tmp_path):
    photos = tmp_path / "photos"
    for number, path in enumerate(sorted(inverted.glob("*.jpg"))):
        (photos / ("cats" if number < 65 else "dogs")).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, photos / ("cats" if number < 65 else "dogs"))
    damaged = photos / "cats" / "damaged.png"
    damaged.write_bytes(b"\x89PNG\r\n\x1a\n")
    config = run.config_file.read_text().replace("max_bad: 0.01", "max_bad: 0.5")
    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    (copy / "config.yaml").write_text(config)
    words = ("--data", f"folder:{photos}", "--split", "all", "--batch-size", 60)
    code, out, err = call(copy, *words, "--batches", 2, "--to", tmp_path / "new")
    assert code == 0, err
    assert "(split all, 1 images skipped)" in out
    assert f"skipped {damaged}: " in err


def test_more_images_than_there_are_is_a_sentence(call, run, inverted, tmp_path):
    words = ("--data", f"folder:{inverted}", "--batches", 4, "--to", tmp_path / "new")
    code, out, err = call(run.path, *words)
    assert (code, out) == (2, "")
    assert f"4 batches of {BATCH} images are 160, and folder:{inverted} has 130; ask for at" in err
    assert "ask for at most 3 batches, or smaller ones with --batch-size" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--data", "digit"), "unknown data 'digit'"),
        (("--data", "digits", "--split", "dev"), "unknown split of digits 'dev'"),
        (("--data", "folder:{inverted}", "--split", "test"), "without class folders, and so no"),
        (("--data", "digits", "--to", "{run}"), "exists already; give --to a new folder"),
        (("--data", "digits", "--batches", "0"), "0 is not in the range x>=1"),
        (("--data", "digits", "--batch-size", "1"), "1 is not in the range x>=2"),
    ],
)
def test_a_mistake_is_one_sentence(call, run, inverted, tmp_path, words, sentence):
    words = [word.format(inverted=inverted, run=run.path) for word in words]
    code, out, err = call(run.path, "--batches", 1, "--to", tmp_path / "new", *words)
    assert (code, out) == (2, "")
    assert sentence in err
    assert len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_run_that_is_being_trained_unfinished_or_none_is_refused(call, run, tmp_path):
    words = ("--data", "digits", "--batches", 1, "--to", tmp_path / "new")
    with lock_folder(run.path, "trains into"):
        # Of another process: it has its own lock only once.
        child = forked.run(["-c", RECALIBRATE, run.path, *words])
        assert (child.returncode, child.stdout) == (2, "")
        assert "already; wait until it ends" in child.stderr
    unfinished = tmp_path / "unfinished"
    shutil.copytree(run.path, unfinished)
    (unfinished / "model.keras").unlink()
    assert "holds no finished model; finish the run" in call(unfinished, *words)[2]
    (tmp_path / "empty").mkdir()
    assert "is no run folder: it has no config.yaml" in call(tmp_path / "empty", *words)[2]
    assert not (tmp_path / "new").exists()


RECALIBRATE = """
import sys
from inception_tf import cli
from small_runs import only

with only("inception_v1", "Conv2d_1a_7x7"):
    code = cli.main(["recalibrate", *sys.argv[1:]])
sys.exit(code)
"""
KILLED = f"""
import os, signal
from inception_tf.training import recalibrated_run

recalibrated_run.os.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
{RECALIBRATE}
"""


def test_a_kill_leaves_no_folder_and_the_next_call_removes_the_rest(call, run, tmp_path):
    words = ("--data", "digits", "--batches", 1, "--to", tmp_path / "new")
    child = forked.run(["-c", KILLED, run.path, *words], optimizers=False)
    assert child.returncode == -signal.SIGKILL, child.stderr
    [left] = tmp_path.iterdir()
    assert left.name.startswith(".unfinished-")
    assert call(run.path, *words)[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_the_new_run_cannot_be_resumed(call, run, tmp_path):
    to = tmp_path / "new"
    assert call(run.path, "--data", "digits", "--batches", 1, "--to", to)[0] == 0
    before = (to / "model.keras").read_bytes()
    assert cli.main(["train", "--out", str(to), "--resume"]) == 2
    assert (to / "model.keras").read_bytes() == before
