# SPDX-License-Identifier: Apache-2.0
"""Logits of torch's and slim's networks, loaded by their own packages in processes of their own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from pathlib import Path

import forked
import numpy as np
import pytest

HERE = Path(__file__).parent
INTERPRETER = "INCEPTION_TF_PYTHON_WITHOUT_TENSORFLOW"
NO_TORCH = f"{INTERPRETER} is not set: the Python of an environment with torch and timm"


def of_torch(folder, images, lines):
    """The logits of torch's networks, of the lines that load them."""
    if INTERPRETER not in os.environ:
        pytest.skip(NO_TORCH)
    np.save(folder / "images.npy", images)
    (folder / "lines.json").write_text(json.dumps(lines))
    names = [str(folder / name) for name in ("images.npy", "lines.json", "out.npz")]
    script = str(HERE / "torch_restore.py")
    subprocess.run([os.environ[INTERPRETER], script, *names], check=True, timeout=900)
    return np.load(folder / "out.npz")


def of_slim(folder, images, path, name, classes, *options):
    """The logits of tf_slim's network restored from a checkpoint."""
    np.save(folder / "images.npy", images)
    words = [path, name, classes, folder / "images.npy", folder / "out.npy", *options]
    child = forked.run([HERE / "slim_restore.py", *words])
    assert child.returncode == 0, child.stderr
    return np.load(folder / "out.npy").reshape(len(images), -1)


# For what has nothing to ask without them.
has_torch = pytest.mark.skipif(INTERPRETER not in os.environ, reason=NO_TORCH)
has_slim = pytest.mark.skipif(
    not (importlib.util.find_spec("tf_slim") and importlib.util.find_spec("tf_keras")),
    reason="needs tf_slim and tf_keras, the oracle: install the development extra",
)
