# SPDX-License-Identifier: Apache-2.0
"""GPUs that are there and that a framework sees, or not: with device files and an `nvidia-smi` made here."""

from __future__ import annotations

import os

import pytest

from inception_tf import cli
from inception_tf.host import devices

LISTED = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)"
FAILED = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
TENSORFLOW = (
    "this machine has an NVIDIA GPU, but TensorFlow sees none and computes on the processor;"
    " install its GPU support: pip install 'inception_tf[gpu]'"
)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    for name in ("CUDA_VISIBLE_DEVICES", "JAX_PLATFORMS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def device_files(tmp_path):
    """A function that makes a folder of device files."""

    def make(*names):
        folder = tmp_path / "dev"
        folder.mkdir(exist_ok=True)
        for name in names:
            (folder / name).touch()
        return folder

    return make


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """A function that puts an `nvidia-smi` on PATH which prints a text and ends with a code."""

    def make(text, code=0):
        folder = tmp_path / "bin"
        folder.mkdir()
        script = folder / "nvidia-smi"
        script.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {code}\n")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    return make


@pytest.fixture
def without_gpu():
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        pytest.skip("TensorFlow sees a GPU")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A function that installs a package of a version with one module of this code, for this process and children."""
    folder = tmp_path / "site"

    def install(name, code):
        (folder / f"{name}-9.9.dist-info").mkdir(parents=True)
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.9\n"
        (folder / f"{name}-9.9.dist-info" / "METADATA").write_text(metadata)
        (folder / f"{name}.py").write_text(code)
        monkeypatch.syspath_prepend(folder)
        path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
        monkeypatch.setenv("PYTHONPATH", path)

    return install


@pytest.mark.usefixtures("without_gpu")
def test_a_gpu_that_tensorflow_does_not_see_is_told_with_what_to_install(device_files):
    folder = device_files("nvidia0", "nvidiactl", "null")
    if devices.version_of("nvidia-cuda-nvcc-cu12"):
        pytest.skip("GPU support is installed")
    assert devices.missing_gpu_hint(folder) == TENSORFLOW


@pytest.mark.usefixtures("without_gpu")
def test_where_gpu_support_is_installed_the_driver_is_named(device_files, package):
    package("nvidia_cuda_nvcc_cu12", "")
    hint = devices.missing_gpu_hint(device_files("nvidia0"))
    assert "its GPU support is installed, so look at the driver: nvidia-smi shows" in hint


@pytest.mark.usefixtures("without_gpu")
def test_without_device_files_nvidia_smi_decides(device_files, nvidia_smi):
    folder = device_files("nvidiactl", "nvidia-uvm")
    assert devices.missing_gpu_hint(folder) is None
    nvidia_smi(LISTED)
    assert devices.missing_gpu_hint(folder)


@pytest.mark.parametrize("text", [FAILED, "No devices found."])
def test_an_nvidia_smi_that_lists_none_is_no_gpu(device_files, nvidia_smi, text):
    folder = device_files("null")
    nvidia_smi(text, code=9)
    assert not devices.has_nvidia_gpu(folder)
    assert devices.missing_gpu_hint(folder) is None


@pytest.mark.parametrize("hidden", ["", "-1", "-1,0"])
def test_a_user_who_hides_the_gpu_gets_no_hint(device_files, monkeypatch, hidden):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert devices.missing_gpu_hint(device_files("nvidia0")) is None


@pytest.mark.usefixtures("without_gpu")
def test_a_user_who_chooses_a_gpu_gets_the_hint(device_files, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert devices.missing_gpu_hint(device_files("nvidia0"))


@pytest.mark.usefixtures("without_gpu")
def test_train_says_it_once_before_it_begins(nvidia_smi, monkeypatch, capfd, tmp_path):
    nvidia_smi(LISTED)
    monkeypatch.setenv("TF_CONFIG", "no JSON")  # refused right after the hint
    words = "train --model inception_v1 --data digits --recipe digits --out"
    assert cli.main([*words.split(), str(tmp_path / "run")]) == 2
    hint, refusal = capfd.readouterr().err.splitlines()
    assert hint.startswith("inception-tf: this machine has an NVIDIA GPU, but TensorFlow sees none")
    assert "TF_CONFIG" in refusal


def test_the_driver_and_the_gpus_are_those_of_nvidia_smi(nvidia_smi):
    nvidia_smi("580.95, NVIDIA H100, 81559 MiB\n580.95, NVIDIA L4, 23034 MiB")
    assert devices.nvidia_driver() == {
        "driver": "580.95",
        "gpus": [
            {"name": "NVIDIA H100", "memory": "81559 MiB"},
            {"name": "NVIDIA L4", "memory": "23034 MiB"},
        ],
    }


def test_an_nvidia_smi_that_fails_is_told_in_its_words(nvidia_smi):
    nvidia_smi(FAILED, code=9)
    assert devices.nvidia_driver() == {"error": FAILED}


def test_a_machine_without_nvidia_smi_has_none(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert devices.nvidia_driver() is None


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("raise RuntimeError('built for another libc')", "RuntimeError: built for another libc"),
        ("import os; os.abort()", "its process ended with SIGABRT"),
        ("raise SystemExit(3)", "its process ended with 3"),
        ("print('hello'); raise SystemExit", "its process gave no result"),
    ],
)
def test_a_framework_that_fails_harms_nobody(package, code, sentence):
    package("jax", code)
    assert devices.query_frameworks(["jax"]) == {"jax": {"error": sentence}}


SEES_NONE = "class config:\n    list_physical_devices = staticmethod(lambda: [])"


@pytest.mark.parametrize(
    ("tensorflow", "expected"),
    [
        (SEES_NONE, {"devices": []}),
        ("import os; os.abort()", {"error": "its process ended with SIGABRT"}),
    ],
)
def test_keras_and_its_backend_fail_apart_though_they_share_a_process(
    package, monkeypatch, tensorflow, expected
):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    package("tensorflow", tensorflow)
    package("keras", "raise RuntimeError('of another version')")
    assert devices.query_frameworks(["keras", "tensorflow"]) == {
        "tensorflow": expected,
        "keras": {"error": "RuntimeError: of another version"},
    }
