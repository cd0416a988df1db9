# SPDX-License-Identifier: Apache-2.0
"""`inception-tf info`: versions and devices, with frameworks that are missing or broken as lines of their own."""

from __future__ import annotations

import json
import os
import subprocess
from importlib import metadata

import forked
import keras
import pytest
import tensorflow as tf

import inception_tf
from inception_tf import cli
from inception_tf.cli.info import _rows
from inception_tf.host.report import EXTRAS


def call(capfd, *words):
    code = cli.main(["info", *words])
    out, err = capfd.readouterr()
    assert (code, err) == (0, "")
    return out


@pytest.fixture(scope="module")
def broken_torch(tmp_path_factory):
    """A torch whose import takes its process down, put before all else that is installed."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "torch-9.9.dist-info").mkdir()
    text = "Metadata-Version: 2.1\nName: torch\nVersion: 9.9\n"
    (folder / "torch-9.9.dist-info" / "METADATA").write_text(text)
    (folder / "torch.py").write_text("import os; os.abort()")
    return folder


def test_json_tells_versions_machine_and_devices(capfd, monkeypatch, broken_torch):
    monkeypatch.syspath_prepend(broken_torch)
    monkeypatch.setattr(subprocess, "Popen", forked.popen)
    path = filter(None, (str(broken_torch), os.environ.get("PYTHONPATH")))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    found = json.loads(call(capfd, "--json"))
    assert found["inception_tf"] == inception_tf.__version__
    assert found["packages"].keys() == {"tensorflow", "jax", "torch", "keras", "numpy", *EXTRAS}
    assert found["packages"]["keras"] == metadata.version("keras")
    assert found["packages"]["torch"] == "9.9"
    assert found["processor"]["cores"] == len(os.sched_getaffinity(0))
    assert found["memory"]["total"] > 2**28
    assert found["keras"]["backend"] == keras.backend.backend()
    seen = [device.split()[0] for device in found["devices"]["tensorflow"]]
    assert seen == [
        f"{device.device_type}:{device.name[-1]}" for device in tf.config.list_physical_devices()
    ]
    assert found["devices"]["torch"] == {"error": "its process ended with SIGABRT"}


FOUND = {
    "inception_tf": "0.1.0",
    "commit": None,
    "python": "3.11.7",
    "platform": "Linux",
    "packages": {"tensorflow": "2.20.0", "jax": None},
    "processor": {"name": "Xeon, 8 cores", "cores": 8, "flags": ["avx2", "amx_bf16"]},
    "memory": {"total": 64 * 2**30, "available": None},
    "nvidia": {"driver": "580.95", "gpus": [{"name": "NVIDIA H100", "memory": "81559 MiB"}]},
    "keras": {"backend": "tensorflow", "device": "NVIDIA H100", "tf32": True, "hint": "a hint"},
    "devices": {
        "tensorflow": ["CPU:0", "GPU:0 NVIDIA H100"],
        "jax": None,
        "torch": {"error": "its process ended with SIGABRT"},
    },
}


def test_the_table_has_a_row_for_each():
    assert _rows(FOUND) == [
        ("inception_tf", "0.1.0"),
        ("Python", "3.11.7"),
        ("platform", "Linux"),
        ("tensorflow", "2.20.0"),
        ("jax", "not installed"),
        ("processor", "Xeon, 8 cores"),
        ("processor flags", "avx2 amx_bf16"),
        ("memory", "64.0 GiB, unknown available"),
        ("NVIDIA driver", "580.95"),
        ("NVIDIA GPU 0", "NVIDIA H100, 81559 MiB"),
        ("TensorFlow sees", "CPU:0, GPU:0 NVIDIA H100"),
        ("JAX sees", "not installed"),
        ("torch sees", "fails: its process ended with SIGABRT"),
        ("Keras' backend", "tensorflow"),
        ("computes on", "NVIDIA H100, float32 in TF32"),
        ("hint", "a hint"),
    ]


def test_what_fails_or_is_missing_is_a_row():
    found = FOUND | {"nvidia": None, "keras": {"error": "No module named 'jax'"}}
    rows = dict(_rows(found))
    assert rows["NVIDIA driver"] == "no nvidia-smi"
    assert rows["Keras' backend"] == "fails: No module named 'jax'"
    assert dict(_rows(found | {"nvidia": {"error": "no driver"}}))["NVIDIA driver"] == (
        "fails: no driver"
    )
