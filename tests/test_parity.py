# SPDX-License-Identifier: Apache-2.0
"""Networks of torchvision and timm in training mode: logits, every gradient and the statistics after one step."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import parity
import parity_torch
import pytest
import ramps
import torch_file
from parity_torch import JOBS

INTERPRETER = "INCEPTION_TF_PYTHON_WITHOUT_TENSORFLOW"
# The largest difference of an array by its largest value.  Measured: docs/parity.md.
FLOAT64 = 3e-6  # the heads and their products are float32
# Not of single gradients: what rounding moves across the zero of a ReLU changes them by a step.
FLOAT32 = {"eval": 1e-5, "train": 1e-2, "after": 1e-2}


def recorded(job):
    """What torch gave, as `parity_torch.digest` keeps it."""
    with np.load(parity_torch.RECORDED) as file:
        rows = dict(zip(file["names"], file["digests"], strict=True))
    return {name.split("/", 1)[1]: row for name, row in rows.items() if name.split("/")[0] == job}


def state_file(folder, job) -> Path:
    path = folder / "model.safetensors"
    torch_file.write(path, {k: np.ascontiguousarray(a) for k, a in parity.state_of(job).items()})
    return path


def recorded_errors(name, folder, dtype):
    """How far norm and product of each array are from the recorded ones, by the norm."""
    job, expected = JOBS[name], recorded(name)
    found = parity.step(state_file(folder, job), job, dtype)
    assert found.keys() == expected.keys()
    usual = np.median([row[0] for key, row in expected.items() if key.startswith("gradient/")])
    return {
        key: np.abs(parity_torch.digest(key, array) - expected[key]).max()
        / max(expected[key][0], parity.NOTHING * usual)
        for key, array in found.items()
    }


def assert_as_recorded(name, folder):
    with ramps.undrawn():
        errors = recorded_errors(name, folder, "float64")
    assert {key: error for key, error in errors.items() if error > FLOAT64} == {}


def test_a_step_of_torchvisions_googlenet_is_as_recorded(tmp_path):
    assert_as_recorded("googlenet", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in JOBS if name != "googlenet"])
def test_a_step_is_as_recorded(name, tmp_path):
    assert_as_recorded(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["googlenet", "inception_v3", "timm_v3"])
def test_a_step_of_the_fused_operation_is_as_recorded(name, tmp_path):
    errors = recorded_errors(name, tmp_path, "float32")
    kinds = {key: key.split("/")[0] for key in errors}
    gradients = [error for key, error in errors.items() if kinds[key] == "gradient"]
    # Of torch's own float32 single gradients are 0.1 to 0.4 off: activations near zero change sides.
    assert np.median(gradients) < 0.1
    wrong = {k: e for k, e in errors.items() if e > FLOAT32.get(kinds[k], np.inf)}
    assert wrong == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", JOBS)
def test_a_step_is_torchs(name, tmp_path):
    """In float64, as above."""
    python = os.environ.get(INTERPRETER)
    if not python:
        pytest.skip(f"{INTERPRETER} is not set: the Python of an environment with torch and timm")
    words = [python, parity_torch.__file__, str(tmp_path), "float64", name]
    subprocess.run(words, check=True, timeout=900)
    expected = dict(np.load(tmp_path / f"{name}.npz"))
    found = parity.step(tmp_path / f"{name}.safetensors", JOBS[name], "float64")
    errors = parity.errors(found, expected)
    assert {key: error for key, error in errors.items() if error > FLOAT64} == {}
