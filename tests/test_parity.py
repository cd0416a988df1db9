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
import torch_file
from parity_torch import JOBS

INTERPRETER = "INCEPTION_TF_PYTHON_WITHOUT_TENSORFLOW"
# The largest difference of an array by its largest value.  Measured: docs/parity.md.
FLOAT64 = 3e-6  # the heads and their products are float32
FLOAT32 = {"eval": 1e-5, "train": 1e-3, "gradient": 1e-2, "after": 1e-3}


def recorded(job):
    """What torch gave, as `parity_torch.digest` keeps it."""
    with np.load(parity_torch.RECORDED) as file:
        rows = dict(zip(file["names"], file["digests"], strict=True))
    return {name.split("/", 1)[1]: row for name, row in rows.items() if name.split("/")[0] == job}


def state_file(folder, job) -> Path:
    path = folder / "model.safetensors"
    torch_file.write(path, {k: np.ascontiguousarray(a) for k, a in parity.state_of(job).items()})
    return path


def assert_as_recorded(name, folder, dtype, tolerances):
    job, expected = JOBS[name], recorded(name)
    found = parity.step(state_file(folder, job), job, dtype)
    assert found.keys() == expected.keys()
    wrong = {}
    for key, array in found.items():
        norm, product = parity_torch.digest(key, array)
        error = max(abs(norm - expected[key][0]), abs(product - expected[key][1]))
        if error > tolerances[key.split("/")[0]] * expected[key][0]:
            wrong[key] = error / expected[key][0]
    assert not wrong


def test_a_step_of_torchvisions_googlenet_is_as_recorded(tmp_path):
    """By TensorFlow's fused operation: what a training runs."""
    assert_as_recorded("googlenet", tmp_path, "float32", FLOAT32)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in JOBS if name != "googlenet"])
def test_a_step_is_as_recorded(name, tmp_path):
    """In float64: deep networks on few images magnify what float32 rounds (docs/parity.md)."""
    assert_as_recorded(name, tmp_path, "float64", dict.fromkeys(FLOAT32, FLOAT64))


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
