# SPDX-License-Identifier: Apache-2.0
"""Runs that are killed for real: a run that goes on ends, bit for bit, where one never stopped ends."""

from __future__ import annotations

import json
import logging
import random
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import forked
import keras
import numpy as np
import pytest
import tensorflow as tf

from inception_tf.errors import UserError
from inception_tf.nn.batch_norm import BatchNormalization
from inception_tf.run_folder import Run
from inception_tf.training import checkpoint as resume
from inception_tf.training.callbacks import Recorder
from inception_tf.training.optim.ema import AveragedEvaluation, MovingAverage, moving_statistics
from inception_tf.training.optim.optimizers import TF1RMSprop
from inception_tf.training.optim.skip_nonfinite import FiniteSteps

EPOCHS, STEPS = 8, 12
PATIENCE = 300  # seconds that a step, a save or a whole small run may take on a busy machine
TINY = {
    "model.size": 32,
    "model.width_multiplier": 0.1,
    "data.batch_size": 4,
    "training.epochs": 5,
    "training.precision": "float32",
    "optimizer.ema": 0.9,
}
# The command, with one module of each kind: what a killed process leaves behind is the same at any depth.
TRAIN = [sys.executable, str(Path(__file__).with_name("with_short_networks.py")), "train"]


def small_model():
    """Dropout, batch normalization, slots, averages, a loss scale and a schedule on six inputs."""
    keras.utils.set_random_seed(0)
    image = keras.Input((2, 2, 3))
    x = keras.layers.Conv2D(64, 1, name="conv")(image)
    x = BatchNormalization(momentum=0.9, name="norm")(x)
    x = keras.layers.Dropout(0.5, name="dropout")(keras.layers.Flatten(name="flatten")(x))
    model = keras.Model(image, keras.layers.Dense(300, name="dense")(x))
    statistics = partial(moving_statistics, model)
    rate = keras.optimizers.schedules.CosineDecay(0.05, EPOCHS * STEPS)
    inner = MovingAverage(TF1RMSprop(rate, momentum=0.9), 0.9, statistics)
    model.compile(
        FiniteSteps(inner, scaled=True, statistics=statistics),
        "mse",
        metrics=["mae"],
        jit_compile=False,
    )
    model.optimizer.dynamic_growth_steps = 5
    model.optimizer.build(model.trainable_variables)
    return model


def small_data(start):
    """Batches from step `start` on, each a function of its step."""

    def batch(step):
        seed = tf.stack([tf.constant(7, tf.int64), step])
        x = tf.random.stateless_normal((8, 2, 2, 3), seed)
        return x, tf.random.stateless_normal((8, 300), seed + 1)

    return tf.data.Dataset.range(start, EPOCHS * STEPS).map(batch)


def small_run(folder, epochs):
    """Trains from the newest checkpoint in `folder` to the end, with a save after every step."""
    epochs = int(epochs)
    tf.config.experimental.enable_op_determinism()
    run, model = Run(Path(folder)), small_model()
    checkpoint = resume.latest(run.checkpoints)
    progress = resume.restore(checkpoint, model) if checkpoint else resume.Progress()
    recorder = Recorder(run, progress, save_every=0.0)
    done = progress.step
    while done < epochs * STEPS:
        epoch, offset = divmod(done, STEPS)
        model.fit(
            small_data(done),
            steps_per_epoch=STEPS - offset,
            initial_epoch=epoch,
            epochs=epoch + 1,
            callbacks=[AveragedEvaluation(), recorder],
            validation_data=small_data(EPOCHS * STEPS - 2),
            shuffle=False,
            verbose=0,
        )
        done = (epoch + 1) * STEPS
    (run.path / "done").touch()


def checkpoints(folder):
    return sorted((folder / "checkpoints").glob("step-*"))


def wait_for(process, condition, pause=0.0):
    """Until `condition()`, asked every `pause` seconds; False where the process ended before it."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if process.poll() is not None:
            return False
        assert time.monotonic() < end
        time.sleep(pause)
    return True


def wait_for_a_save(process, folder):
    """Until this process has saved; meanwhile it starts, which takes seconds, and has the core."""
    before = checkpoints(folder)[-1:]
    wait_for(process, lambda: checkpoints(folder)[-1:] != before, pause=0.005)


def killed_after(process, folder, seconds):
    """SIGKILL so many seconds after this process' first checkpoint; False where it had ended."""
    wait_for_a_save(process, folder)
    time.sleep(seconds)
    process.kill()
    return process.wait() == -signal.SIGKILL


def killed_inside_a_save(process, folder):
    """SIGKILL once an unfinished checkpoint stands beside the others; False where none was left."""
    unfinished = (folder / "checkpoints").glob
    wait_for_a_save(process, folder)
    wait_for(process, lambda: any(unfinished(".step-*")), pause=0.001)  # a save is short
    process.kill()
    process.wait()
    return any(unfinished(".step-*"))


def last_arrays(folder):
    with np.load(resume.latest(folder / "checkpoints") / "variables.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


def assert_same_end(folder, expected):
    ours, theirs = last_arrays(folder), last_arrays(expected)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        np.testing.assert_array_equal(ours[name], value, err_msg=name)
    for found, row in zip(history(folder), history(expected), strict=True):
        assert {**found, "seconds": 0} == {**row, "seconds": 0}


def history(folder):
    state = resume.latest(folder / "checkpoints") / "progress.json"
    return json.loads(state.read_text())["history"]


def start_small(folder, epochs=EPOCHS):
    return forked.Program([__file__, folder, epochs])


def test_a_small_run_that_is_killed_ends_as_one_never_stopped(tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    alone, first = (start_small(folder, epochs=3) for folder in (whole, stopped))
    killed_inside_a_save(first, stopped)
    assert first.returncode == -signal.SIGKILL
    assert start_small(stopped, epochs=3).wait(PATIENCE) == 0
    assert alone.wait(PATIENCE) == 0
    assert len(history(whole)) == 3
    assert not list((stopped / "checkpoints").glob(".step-*"))
    assert_same_end(stopped, whole)


@pytest.mark.slow
def test_a_small_run_that_is_killed_again_and_again_ends_as_one_never_stopped(tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert start_small(whole).wait(PATIENCE) == 0
    moments = random.Random(1)
    torn = 0
    for number in range(8):
        process = start_small(stopped)
        if number % 2:
            torn += killed_inside_a_save(process, stopped)
        else:
            killed_after(process, stopped, moments.uniform(0, 0.2))
    assert torn > 0
    assert start_small(stopped).wait(PATIENCE) == 0
    assert_same_end(stopped, whole)


@pytest.mark.slow
def test_the_command_that_is_killed_ends_with_the_model_of_one_never_stopped(
    class_folders, tmp_path
):
    images = class_folders(blue=14, red=12)

    def start(out, *options):
        settings = [f"--set={key}={value}" for key, value in TINY.items()]
        new = ["--model", "inception_v1", "--data", f"folder:{images}", *settings]
        return forked.popen([*TRAIN, "--out", str(out), *(options or new)])

    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert start(whole).wait(PATIENCE) == 0
    assert killed_after(start(stopped), stopped, random.Random(2).uniform(0, 0.5))
    assert killed_inside_a_save(start(stopped, "--resume"), stopped)
    assert start(stopped, "--resume").wait(PATIENCE) == 0

    assert_same_end(stopped, whole)
    ours, theirs = (keras.models.load_model(out / "model.keras") for out in (stopped, whole))
    for found, expected in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_array_equal(found, expected, err_msg=expected.path)


# Damage


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with the checkpoints of steps 2 and 3, and the model that wrote them."""
    folder, model = tmp_path_factory.mktemp("checkpoints"), small_model()
    for step, (x, y) in enumerate(small_data(0).take(3), 1):
        model.train_on_batch(x, y)
        resume.save(folder, model, resume.Progress(step, history=[{"epoch": step}]))
    return folder, model


@pytest.fixture
def three(trained, tmp_path):
    """A folder with the checkpoints of steps 2 and 3, and the model at step 3."""
    folder, model = trained
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    resume.restore(folder / "step-00000003", model)
    return tmp_path, model


def flip(path):
    """One bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


DAMAGES = {
    "a bit of the arrays": lambda c: flip(c / "variables.npz"),
    "a bit of the progress": lambda c: flip(c / "progress.json"),
    "a bit of the sums": lambda c: flip(c / "SHA256SUMS"),
    "the end of the arrays": lambda c: (c / "variables.npz").write_bytes(
        (c / "variables.npz").read_bytes()[:-100]
    ),
    "all of the progress": lambda c: (c / "progress.json").write_bytes(b""),
    "no text": lambda c: (c / "SHA256SUMS").write_bytes(b"\xff\x00"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_of_a_damaged_checkpoint_the_one_before_is_used_and_the_log_says_so(three, damage, caplog):
    folder, model = three
    DAMAGES[damage](folder / "step-00000003")
    with caplog.at_level(logging.WARNING, "inception_tf"):
        found = resume.latest(folder)
    assert found.name == "step-00000002"
    assert "step-00000003 is damaged" in caplog.text
    assert "has changed since it was written); using the one before it" in caplog.text
    assert resume.restore(found, model) == resume.Progress(2, history=[{"epoch": 2}])


@pytest.mark.parametrize("name", ["variables.npz", "progress.json", "SHA256SUMS"])
def test_of_a_checkpoint_that_lacks_a_file_the_one_before_is_used(three, name, caplog):
    folder, _ = three
    (folder / "step-00000003" / name).unlink()
    assert resume.latest(folder).name == "step-00000002"
    assert f"step-00000003 is damaged ({name} is missing)" in caplog.text


def test_where_all_are_damaged_the_run_does_not_begin_anew(three):
    folder, _ = three
    for checkpoint in folder.glob("step-*"):
        flip(checkpoint / "variables.npz")
    with pytest.raises(UserError, match="every checkpoint in .* is damaged; restore one from a"):
        resume.latest(folder)


def test_the_sums_are_as_sha256sum_writes_them(three):
    folder, _ = three
    if not shutil.which("sha256sum"):
        pytest.skip("this machine has no sha256sum")
    subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder / "step-00000003", check=True
    )


def test_a_damaged_checkpoint_goes_when_the_run_is_past_it(three):
    folder, model = three
    flip(folder / "step-00000003" / "variables.npz")
    resume.save(folder, model, resume.Progress(2))
    assert [path.name for path in folder.iterdir()] == ["step-00000002"]


def test_what_a_killed_save_has_left_is_cleared_by_the_next(three):
    folder, model = three
    (folder / ".step-00000004-1").mkdir()
    (folder / ".step-00000004-1" / "variables.npz").write_bytes(b"half")
    assert resume.latest(folder).name == "step-00000003"
    resume.save(folder, model, resume.Progress(4))
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000003", "step-00000004"]


def test_what_else_lies_beside_the_checkpoints_is_neither_one_nor_removed(three):
    folder, model = three
    others = ["step-00000003-old", "step-new", "step-00000009.tar", "notes"]
    for name in others[:2]:
        (folder / name).mkdir()
    for name in others[2:]:
        (folder / name).touch()
    (folder / "step-00000010").touch()  # a file is no checkpoint
    assert resume.latest(folder).name == "step-00000003"
    resume.save(folder, model, resume.Progress(4))
    found = {path.name for path in folder.iterdir()}
    assert found == {*others, "step-00000010", "step-00000003", "step-00000004"}


def test_after_step_99999999_the_newest_is_still_the_newest(three):
    folder, model = three
    for step in (99_999_999, 100_000_000):
        resume.save(folder, model, resume.Progress(step))
    assert resume.latest(folder).name == "step-100000000"
    resume.save(folder, model, resume.Progress(100_000_001))
    assert {path.name for path in folder.iterdir()} == {"step-100000000", "step-100000001"}


def test_weights_that_are_not_finite_are_not_saved(three):
    folder, model = three
    model.get_layer("dense").bias.assign(np.full(300, np.nan))
    with pytest.raises(UserError) as error:
        resume.save(folder, model, resume.Progress(9))
    assert str(error.value) == (
        "'model/dense/1-bias' is not finite at step 9, so this step is not saved; the previous checkpoint is"
        " intact: start again in another --out with a lower optimizer.learning_rate"
    )
    assert resume.latest(folder).name == "step-00000003"
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000002", "step-00000003"]


# Disks


def limited(folder, most):
    """A run in a process that can write no file longer than `most` bytes."""
    bounded = ["bash", "-c", f'ulimit -f {most // 1024}; exec "$@"', "bash"]
    return subprocess.run(
        [*bounded, *TRAIN, "--out", str(folder), "--resume"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@pytest.mark.slow
def test_a_file_that_cannot_be_written_is_one_sentence_and_the_run_goes_on_later(
    class_folders, tmp_path
):
    out, images = tmp_path / "run", class_folders(blue=14, red=12)
    settings = [f"--set={key}={value}" for key, value in TINY.items()]
    train = [*TRAIN, "--out", str(out)]
    first = forked.popen(
        [*train, "--model", "inception_v1", "--data", f"folder:{images}", *settings]
    )
    assert killed_after(first, out, 0)
    before = resume.latest(out / "checkpoints")
    size = (before / "variables.npz").stat().st_size

    full = limited(out, size // 2)
    assert full.returncode == 2
    # The limit says "too large" where a disk says "no space": the same write fails.
    assert "/checkpoints/step-" in full.stderr.splitlines()[-1]
    assert full.stderr.splitlines()[-1].endswith(": File too large")
    assert resume.latest(out / "checkpoints") == before
    assert not list((out / "checkpoints").glob(".step-*"))
    assert forked.popen([*train, "--resume"]).wait(PATIENCE) == 0
    assert (out / "model.keras").is_file()


def test_a_folder_that_may_not_be_written_is_named(three):
    _, model = three
    with pytest.raises(OSError, match="/dev/null/checkpoints"):
        resume.save(Path("/dev/null/checkpoints"), model, resume.Progress(1))


if __name__ == "__main__":
    small_run(*sys.argv[1:])
