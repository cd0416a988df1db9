# SPDX-License-Identifier: Apache-2.0
"""Where TensorFlow is not installed: networks, weights and the commands that need it not, in processes of their own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

import inception_tf
from inception_tf.errors import TENSORFLOW

INTERPRETER = "INCEPTION_TF_PYTHON_WITHOUT_TENSORFLOW"
TIMEOUT_S = 900


def environment(root, *folders, **variables):
    """Variables of a child that finds the package, the tests' modules, and first of all `folders`."""
    path = os.pathsep.join(map(str, (*folders, root, root / "tests")))
    return {**os.environ, "PYTHONPATH": path, **variables}


def run(python, words, environment):
    return subprocess.run(
        [python, *map(str, words)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )


def test_networks_weights_and_commands_work_where_tensorflow_is_hidden(root, tmp_path):
    """By Keras' OpenVINO backend: of those that run a network without TensorFlow, the one that `.[dev]` installs."""
    pytest.importorskip("openvino")
    folder = root / "tests" / "without_tensorflow"
    child = run(
        sys.executable,
        [folder / "program.py", tmp_path, "--short", "googlenet", "inception_v2"],
        environment(root, folder, KERAS_BACKEND="openvino"),
    )
    assert child.returncode == 0, child.stderr


def test_a_backend_that_is_not_installed_is_one_sentence(root, tmp_path):
    folder = root / "tests" / "without_tensorflow"
    told = (
        "Keras' backend needs tensorflow, which is not installed: set the environment variable KERAS_BACKEND"
        f" to jax or torch where one of these is, or pip install '{TENSORFLOW}'"
    )
    hidden = environment(root, folder, KERAS_BACKEND="tensorflow")
    (tmp_path / "x").touch()
    words = f"convert --model inception_v1 --source timm {tmp_path}/x {tmp_path}/x.weights.h5"
    child = run(sys.executable, ["-m", "inception_tf", *words.split()], hidden)
    assert (child.returncode, child.stderr) == (2, f"inception-tf: {told}\n")
    program = (
        "import inception_tf\n"
        "for call in (inception_tf.GoogLeNet, lambda: inception_tf.load_weights):\n"
        "    try:\n        call()\n"
        "    except inception_tf.UserError as error:\n        print(error)\n"
    )
    child = run(sys.executable, ["-c", program], hidden)
    assert child.stdout.splitlines() == [told, told], child.stderr


def test_the_sentence_names_the_version_that_setup_cfg_requires(root):
    text = (root / "setup.cfg").read_text(encoding="utf-8")
    assert f"    {TENSORFLOW}\n" in text
    assert f"    {TENSORFLOW.replace('tensorflow', 'tensorflow[and-cuda]')}\n" in text


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_all_of_it_works_in_an_environment_without_tensorflow(root, tmp_path, backend):
    python = os.environ.get(INTERPRETER)
    if not python:
        pytest.skip(
            f"{INTERPRETER} is not set: the Python of an environment with jax and torch and without TensorFlow"
        )
    variables = environment(root, KERAS_BACKEND=backend)
    program = root / "tests" / "without_tensorflow" / "program.py"
    child = run(python, [program, tmp_path, *inception_tf.list_models()], variables)
    assert child.returncode == 0, child.stderr
    for kind in ("forward", "forward-backward", "train-step"):
        words = f"benchmark {kind} --backend keras --model inception_v1 --size 64 --batch-size 2"
        words = ["-m", "inception_tf", *words.split(), "--steps", 2, "--json", tmp_path / "t.json"]
        child = run(python, words, variables)
        assert child.returncode == 0, child.stderr
        assert re.search(r"across 2 steps, ", child.stdout)
        (figures,) = json.loads((tmp_path / "t.json").read_text())
        assert figures["what"].lower() == kind
        assert figures["environment"][backend]
        assert "tensorflow" not in figures["environment"]
