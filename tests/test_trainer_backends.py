# SPDX-License-Identifier: Apache-2.0
"""Training on JAX and torch, each in one process of its own, against TensorFlow in this one."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile

import keras
import numpy as np
import pytest
import trainer_program
from test_without_tensorflow import INTERPRETER, environment

from inception_tf import cli
from inception_tf.training.checkpoint import latest

DEVICES = 4
# What is compiled runs for milliseconds.
FLAGS = f"--xla_force_host_platform_device_count={DEVICES} --xla_backend_optimization_level=0"
FLAGS += " --xla_llvm_disable_expensive_passes=true --xla_cpu_use_fusion_emitters=false"
TIMEOUT_S = 900
# JAX compiles a step for up to half a minute, and keeps it here for the processes that follow.
COMPILED = tempfile.TemporaryDirectory()
KEPT = {
    "JAX_COMPILATION_CACHE_DIR": COMPILED.name,
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
}
BACKENDS = [
    "jax",
    pytest.param("torch", marks=[pytest.mark.slow, pytest.mark.alone]),
]


def interpreter(backend, needs_tensorflow=False):
    """A Python with the backend; skips where there is none."""
    if importlib.util.find_spec(backend):
        return sys.executable
    if needs_tensorflow:
        pytest.skip(f"{backend} is not installed beside TensorFlow")
    if INTERPRETER not in os.environ:
        pytest.skip(f"{backend} is not installed here, and {INTERPRETER} is not set")
    return os.environ[INTERPRETER]


def run(root, backend, *words, needs_tensorflow=False, devices=1):
    flags = "" if needs_tensorflow else FLAGS
    if devices > 1:
        flags = f"--xla_force_host_platform_device_count={devices}"
    # Keras imports TensorFlow for itself, where it finds it.
    hidden = () if needs_tensorflow else (root / "tests" / "without_tensorflow",)
    return subprocess.run(
        [interpreter(backend, needs_tensorflow), *map(str, words)],
        env=environment(root, *hidden, KERAS_BACKEND=backend, XLA_FLAGS=flags, **KEPT),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )


@pytest.fixture(scope="module", params=BACKENDS)
def found(request, root, tmp_path_factory):
    """What `trainer_program.py` found on a backend: facts, and {part: {name: array}}."""
    folder = tmp_path_factory.mktemp(request.param)
    child = run(root, request.param, root / "tests" / "trainer_program.py", folder)
    assert child.returncode == 0, child.stderr
    parts: dict = {}
    with np.load(folder / "arrays.npz") as arrays:
        for name in arrays.files:
            part, _, rest = name.partition("|")
            parts.setdefault(part, {})[rest] = arrays[name]
    facts = json.loads((folder / "facts.json").read_text())
    assert facts["backend"] == request.param
    return facts, parts


@pytest.fixture(scope="module")
def smooth():
    return trainer_program.smooth()


@pytest.fixture(scope="module")
def recipes():
    """TensorFlow's own run of the recipe, and two with weights moved by 1e-7 of themselves."""
    return [trainer_program.recipe(moved) for moved in (0.0, 1e-7, -1e-7)]


def test_losses_and_gradients_of_smooth_steps_are_tensorflows(found, smooth):
    theirs = found[1]["smooth"]
    np.testing.assert_allclose(theirs["losses"], smooth["losses"], atol=1e-3)
    assert smooth["losses"][-1] < smooth["losses"][0]
    gradients = [name for name in smooth if name.startswith("gradient")]
    assert len(gradients) == 6
    for name in gradients:
        distance = np.linalg.norm(theirs[name] - smooth[name])
        assert distance <= 1e-4 * np.linalg.norm(smooth[name]), name


def test_a_recipe_is_as_near_as_tensorflow_with_weights_moved_by_a_rounding_error(found, recipes):
    one, *moved = recipes

    def distance(other):
        weights = [
            n for n in one if n != "losses" and not n.startswith("optimizer") and "moving" not in n
        ]
        return np.linalg.norm([np.linalg.norm(other[n] - one[n]) for n in weights])

    # Measured: 1.0 of the larger of these two on JAX, 0.9 on torch.
    assert distance(found[1]["recipe"]) <= 2 * max(map(distance, moved))
    np.testing.assert_allclose(found[1]["recipe"]["losses"], one["losses"], atol=1e-5)
    for name, value in one.items():
        np.testing.assert_allclose(found[1]["recipe"][name], value, atol=5e-6, err_msg=name)


def test_accumulated_gradients_are_tensorflows(found):
    theirs = found[1].get("accumulated")
    if theirs is None:
        pytest.skip("compared on torch alone")
    ours = trainer_program.recipe(settings=trainer_program.ACCUMULATED, steps=6)
    for name, value in ours.items():
        np.testing.assert_allclose(theirs[name], value, atol=5e-6, err_msg=name)


def test_two_phases_and_recalibrated_statistics_are_tensorflows(found):
    theirs, ours = found[1]["phases"], trainer_program.two_phases()
    assert theirs.keys() == ours.keys()
    for name, value in ours.items():
        np.testing.assert_allclose(theirs[name], value, rtol=2e-5, atol=2e-6, err_msg=name)
    part = {
        kind: {n.partition("/")[2]: v for n, v in theirs.items() if n.startswith(kind)}
        for kind in ("phase 0", "phase 1", "recalibrated")
    }

    def moved(before, after):
        return {n for n, v in part[before].items() if not np.array_equal(v, part[after][n])}

    layers = {"conv0/kernel", "conv1/kernel", "norm0/beta", "norm1/beta"}
    statistics = {f"norm{n}/moving_{what}" for n in (0, 1) for what in ("mean", "variance")}
    heads = {"Logits/kernel", "Logits/bias"}
    assert moved("phase 0", "phase 1") - {"loss/total", "loss/count"} >= layers | statistics | heads
    assert moved("phase 1", "recalibrated") == statistics
    # In the first phase the classifier alone has moved, and the statistics are those that were loaded.
    start = {v.path: trainer_program.array_of(v) for v in trainer_program.compiled().variables}
    still = layers | statistics
    assert {n for n in still if np.array_equal(part["phase 0"][n], start[n])} == still


@pytest.mark.parametrize("warms_up", [False, True])
@pytest.mark.parametrize("policy", trainer_program.POLICIES)
def test_statistics_are_float32_and_exact_in_mixed_precision(found, policy, warms_up):
    part = f"{policy}, warm-up {warms_up}/"
    theirs = {n.removeprefix(part): v for n, v in found[1]["normalized"].items() if part in n}
    assert {n: v.dtype for n, v in theirs.items()} == dict.fromkeys(theirs, np.dtype("float32"))
    # Of the input as it was rounded.
    x = trainer_program.spread().astype(trainer_program.rounded(policy)).astype("float64")
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    np.testing.assert_allclose(theirs["mean"], mean, rtol=2e-6, atol=2e-6)
    # Of a mean of 1,000 deviations a variance from squares would keep one digit, and may be negative.
    np.testing.assert_allclose(theirs["variance"], variance, rtol=2e-5)
    expected = (x - mean) / np.sqrt(variance + 1e-3)
    epsilon = {"float32": 5e-4, "mixed_float16": 3e-3, "mixed_bfloat16": 2e-2}[policy]
    np.testing.assert_allclose(theirs["outputs"], expected, atol=epsilon)


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_a_step_on_an_image_that_is_not_finite_leaves_no_trace(found, precision):
    facts = found[0]["skipped"][precision]
    assert facts["touched"] == facts["other"] == []
    assert facts["finite"]
    assert facts["moved"]
    # Halved twice, which explains both steps: the scale was too large.
    assert facts["scale"] == (1.0 if precision == "float32" else 2.0**13)
    assert facts["counts"] == ([2, 2] if precision == "float32" else [2, 0])


def test_fit_takes_arrays_and_datasets_of_keras(found):
    facts = found[0]["fitted"]
    assert facts["history"][-1] < facts["history"][0] - 0.1
    assert facts["keys"] == ["loss", "top1", "top5", "val_loss", "val_top1", "val_top5"]


def test_the_run_ends_after_so_many_bad_steps_in_a_row_as_on_tensorflow(found):
    facts = found[0]["fitted"]
    step, sentence = facts["ended"]
    assert (step, facts["steps"]) == (107, 3)
    assert "not finite for 3 steps in a row up to step 107, at learning rate 0.015;" in sentence


def test_a_checkpoint_resumes_with_the_same_bits(found):
    assert found[0]["resumed"] == []


def test_several_devices_have_the_statistics_of_all_and_the_weights_of_one(found):
    if found[0]["backend"] != "jax":
        pytest.skip("of JAX")
    facts = found[0]["parallel"]
    assert facts["devices"] == DEVICES
    assert {"conv0/kernel", "norm0/moving_variance"} < facts["distances"].keys()
    assert max(facts["distances"].values()) <= 1e-5
    assert set(facts["scores"]) >= {"loss", "top1", "val_loss", "val_top1"}
    assert max(facts["scores"].values()) <= 1e-5


def test_the_step_that_is_timed_on_jax_changes_the_model_as_train_on_batch_does(found):
    if found[0]["backend"] != "jax":
        pytest.skip("of JAX")
    facts = found[0]["timed"]
    assert facts["losses"] == sorted(facts["losses"], reverse=True)
    assert facts["distance"] == 0
    assert facts["forward_seconds"] > 0


def test_torch_gets_batches_from_a_loader_that_is_one_ahead(found):
    if found[0]["backend"] != "torch":
        pytest.skip("of torch")
    facts = found[0]["fed"]
    assert facts["equal"] == [True] * 6
    assert facts["ahead"] == [2, 3, 3]
    assert facts["apart"] <= 1e-6
    assert facts["unchanged"]


def test_what_tensorflow_alone_has_is_refused_in_a_sentence(found):
    backend = found[0]["backend"]
    service, *others = found[0]["refused"]
    assert service == (
        f"data.service needs Keras on TensorFlow, and KERAS_BACKEND is {backend}; use --set data.service=null"
    )
    # Where torch is, TensorFlow is not.
    assert others[-1].startswith(
        (
            f"export needs Keras on TensorFlow, and KERAS_BACKEND is {backend};",
            "export needs TensorFlow, which is not installed: pip install",
        )
    )
    assert any("training.steps_per_execution 2" in one for one in others) == (backend == "torch")


# ---- the command ----


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_a_run_that_is_killed_ends_as_one_never_stopped_and_is_used_on_tensorflow(
    root, tmp_path, backend, capfd
):
    program = root / "tests" / "with_short_networks.py"
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    children = [
        run(root, backend, program, *words, needs_tensorflow=True)
        for words in ((whole,), (stopped, 9), (stopped,))
    ]
    codes = [child.returncode for child in children]
    assert codes == [0, -signal.SIGKILL, 0], [child.stderr[-2000:] for child in children]
    with (
        np.load(latest(whole / "checkpoints") / "variables.npz") as theirs,
        np.load(latest(stopped / "checkpoints") / "variables.npz") as ours,
    ):
        assert ours.files == theirs.files
        for name in theirs.files:
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    rows = [
        [{**row, "seconds": 0} for row in json.loads(text)["history"]]
        for text in (
            (latest(f / "checkpoints") / "progress.json").read_text() for f in (whole, stopped)
        )
    ]
    assert rows[0] == rows[1]

    evaluated = run(
        root, backend, program, "evaluate", whole, "--data", "digits", needs_tensorflow=True
    )
    assert (evaluated.returncode, "top1: " in evaluated.stdout) == (0, True), evaluated.stderr
    to = tmp_path / "export"
    refused = run(root, backend, program, "export", whole, "--to", to, needs_tensorflow=True)
    assert (refused.returncode, to.exists()) == (2, False)
    assert "export needs Keras on TensorFlow" in refused.stderr
    capfd.readouterr()
    assert cli.main(["train", "--out", str(whole), "--resume", "--epochs", "3"]) == 2
    assert (
        f"was trained with KERAS_BACKEND={backend}, and this is tensorflow"
        in capfd.readouterr().err
    )
    fine_tuned(root, "tensorflow", whole / "model.keras", tmp_path / "tuned")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_a_run_of_tensorflow_is_fine_tuned_in_two_phases_and_recalibrated(root, tmp_path, backend):
    interpreter(backend, needs_tensorflow=True)
    program, start = root / "tests" / "with_short_networks.py", tmp_path / "start"
    child = run(root, "tensorflow", program, start, needs_tensorflow=True)
    assert child.returncode == 0, child.stderr
    report = fine_tuned(root, backend, start / "model.keras", tmp_path / "tuned")
    # TensorFlow measures the same network: the statistics of the file are the recalibrated ones.
    words = ("evaluate", tmp_path / "tuned", "--data", "digits", "--json", tmp_path / "found.json")
    child = run(root, "tensorflow", program, *words, needs_tensorflow=True)
    assert child.returncode == 0, child.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    # One image of 360: a value that rounding moves across the best of two.
    assert found["top1"] == pytest.approx(report["result"]["val_top1"], abs=1.1 / 360)


@pytest.mark.slow
def test_train_uses_all_devices_of_jax_as_if_they_were_one(root, tmp_path):
    words = ("train", "--model", "inception_v1", "--data", "digits", "--recipe", "digits")
    words += ("--size", 32, "--batch-size", 63, "--epochs", 1, "--precision", "float32")
    # Rounding that moves the place of a maximum in a pooling makes two trainings differ by a part of a step.  At ten times
    # this rate some weights differ by 4e-5 after the epoch; here none by more than 2e-8, and the first kernel moves by 3e-4.
    settings = ("optimizer.name=sgd", "optimizer.learning_rate=0.00005", "optimizer.ema=0.9")
    settings += ("model.width_multiplier=0.1", "model.activation=tanh", "model.dropout=0.2")
    words += tuple(word for setting in settings for word in ("--set", setting))
    program, runs = (
        root / "tests" / "with_short_networks.py",
        (tmp_path / "one", tmp_path / "seven"),
    )
    # The last 45 images of the evaluation cannot be divided among seven.
    for folder, devices in zip(runs, (1, 7), strict=True):
        command = (program, *words, "--out", folder)
        child = run(root, "jax", *command, needs_tensorflow=True, devices=devices)
        assert child.returncode == 0, child.stderr
    with (
        np.load(latest(runs[0] / "checkpoints") / "variables.npz") as one,
        np.load(latest(runs[1] / "checkpoints") / "variables.npz") as seven,
    ):
        for name in one.files:
            np.testing.assert_allclose(seven[name], one[name], atol=1e-6, err_msg=name)
        kernel = "Conv2d_1a_7x7_conv"
        [average] = [name for name in one.files if name.endswith(f"{kernel}_kernel_average")]
        lag = np.abs(one[average] - one[f"model/{kernel}/0-kernel"]).max()
        assert lag > 1e-5  # of the average behind the last steps: they did move it
    rows = [json.loads((latest(f / "checkpoints") / "progress.json").read_text()) for f in runs]
    one, seven = (row["history"][0] for row in rows)
    for name in ("loss", "top1", "val_loss", "val_top1"):
        assert seven[name] == pytest.approx(one[name], abs=1e-5), name


def fine_tuned(root, backend, weights, out):
    """The report of a run in two phases from the weights of another one, by the command."""
    words = ("train", "--model", "inception_v1", "--data", "digits", "--recipe", "finetune")
    words += ("--weights", weights, "--size", 32, "--batch-size", 64, "--epochs", 2)
    words += ("--precision", "float32", "--recalibrate-bn", 4, "--out", out)
    settings = ("model.width_multiplier=0.1", "training.head_epochs=1")
    words += tuple(word for setting in settings for word in ("--set", setting))
    child = run(
        root, backend, root / "tests" / "with_short_networks.py", *words, needs_tensorflow=True
    )
    assert child.returncode == 0, child.stderr
    rows = (out / "history.csv").read_text().splitlines()
    assert len(rows) == 3
    report = json.loads((out / "report.json").read_text())
    assert report["recalibrated_batches"] == 4
    return report


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_benchmark_times_a_train_step(root, tmp_path, backend):
    words = ("benchmark", "train-step", "--backend", "keras", "--model", "inception_v1")
    words += ("--size", 32, "--batch-size", 2, "--precision", "float32", "--steps", 2)
    child = run(
        root,
        backend,
        root / "tests" / "with_short_networks.py",
        *words,
        "--json",
        tmp_path / "x.json",
    )
    assert child.returncode == 0, child.stderr
    assert re.search(r"Train-step across 2 steps, \d+\.\d+ \+/- ", child.stdout)
    (found,) = json.loads((tmp_path / "x.json").read_text())
    assert f"Keras {keras.__version__} on {backend} " in found["backend"]
