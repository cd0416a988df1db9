# SPDX-License-Identifier: Apache-2.0
"""The devices that each framework sees, queried in separate processes, and the GPUs of the machine itself."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from inception_tf.host.environment import version_of
from inception_tf.host.process_state import collect_garbage_rarely

__all__ = [
    "framework_devices",
    "has_nvidia_gpu",
    "missing_gpu_hint",
    "nvidia_driver",
    "print_devices",
    "query_frameworks",
    "visible_devices",
]

FRAMEWORKS = ("tensorflow", "jax", "torch")
TIMEOUT_S = 180  # the first import from a cold disk takes a minute
SMI_TIMEOUT_S = 30
HIDDEN = ("", "-1")  # first entries of CUDA_VISIBLE_DEVICES that hide all GPUs from CUDA

# Backend → its name, the command that installs GPU support, and packages of which that installs one.
GPU_SUPPORT = {
    # cuDNN is no evidence: torch brings the same package.
    "tensorflow": ("TensorFlow", "pip install 'inception_tf[gpu]'", ("nvidia-cuda-nvcc-cu12",)),
    "jax": (
        "JAX",
        "pip install 'jax[cuda13]'",
        ("jax-cuda13-plugin", "jax-cuda12-plugin"),
    ),
    "torch": ("torch", "a CUDA build of torch in place of this one", ()),
}

# Prints a line of JSON for each; what a framework prints between them is ignored.
PROGRAM = "from inception_tf.host import devices; devices.print_devices({!r})"


def framework_devices() -> dict[str, dict | None]:
    """Asks Keras, TensorFlow, JAX and torch for their devices.

    All are queried at once, each in its own process: one that fails to import, or crashes, is reported and
    affects no other.  Only Keras shares the process of its backend, which it imports anyway.

    Returns:
        `keras` and each of `FRAMEWORKS`, mapped to what `visible_devices` gives, to `{"error": sentence}`, or
        to None where it is not installed.
    """
    missing = [name for name in ("keras", *FRAMEWORKS) if not version_of(name)]
    return query_frameworks(
        [name for name in ("keras", *FRAMEWORKS) if name not in missing]
    ) | dict.fromkeys(missing)


def query_frameworks(names: Sequence[str]) -> dict[str, dict]:
    """Calls `visible_devices` for several frameworks, each in its own process, all at the same time.

    Args:
        names: keras, or any of `FRAMEWORKS`; keras is queried behind its backend, in one process.

    Returns:
        Each name with the result, or with `{"error": sentence}` where its process failed.
    """
    groups: list[tuple[str, ...]] = [(name,) for name in names]
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    together = ((backend,), ("keras",))
    if backend != "keras" and all(group in groups for group in together):
        groups = [(backend, "keras"), *(group for group in groups if group not in together)]
    found = _query(groups)
    # Keras' configuration file may name another backend than the one that their process ended at.
    return found | _query([("keras",)] if "keras" in names and "keras" not in found else [])


def _query(groups: Sequence[tuple[str, ...]]) -> dict[str, dict]:
    """The answers to `visible_devices`, with a process for each group; a process that fails fails its first name."""
    # JAX would reserve three quarters of the memory of each GPU to list it, and TensorFlow logs to stderr.
    environment = {
        **os.environ,
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    children = {
        names: subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(names)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        for names in groups
    }
    try:
        return {
            name: seen
            for names, child in children.items()
            for name, seen in _results(child, names).items()
        }
    finally:
        for child in children.values():
            child.kill()


def print_devices(names: Sequence[str]) -> None:
    """Prints a line of JSON, name and `visible_devices`, for each framework, up to the first that fails; a program.

    Args:
        names: keras, or any of `FRAMEWORKS`.
    """
    collect_garbage_rarely()
    for name in names:
        print(f"\n{json.dumps([name, visible_devices(name)])}", flush=True)


def visible_devices(name: str) -> dict:
    """Lists the devices of a framework, in this process.

    Args:
        name: keras, or one of `FRAMEWORKS`.

    Returns:
        `devices`, a list of strings such as `GPU:0 NVIDIA H100`; for keras instead `backend`, `device` (the one
        it computes on), `tf32` and `hint` (`missing_gpu_hint`).
    """
    return _DEVICES[name]()


def missing_gpu_hint(devices: Path = Path("/dev")) -> str | None:
    """Says what to install where this machine has an NVIDIA GPU and Keras' backend sees none.

    Args:
        devices: the folder of device files.

    Returns:
        The sentence, or None: there is no GPU, the backend sees it, the backend has no GPU support, or the
        user hid the GPUs with CUDA_VISIBLE_DEVICES (JAX: JAX_PLATFORMS).
    """
    if _is_hidden() or not has_nvidia_gpu(devices):
        return None
    import keras

    from inception_tf.host.hardware import sees_gpu

    backend = keras.backend.backend()
    if backend not in GPU_SUPPORT or _is_hidden(backend) or sees_gpu():
        return None
    name, install, distributions = GPU_SUPPORT[backend]
    sentence = (
        f"this machine has an NVIDIA GPU, but {name} sees none and computes on the processor; "
    )
    if any(map(version_of, distributions)) or (backend == "torch" and _is_cuda_build()):
        return sentence + (
            f"its GPU support is installed, so look at the driver: nvidia-smi shows whether it works, and"
            f" whether it is as new as {name} needs"
        )
    return f"{sentence}install its GPU support: {install}"


def has_nvidia_gpu(devices: Path = Path("/dev")) -> bool:
    """Whether this machine, or this container, has an NVIDIA GPU that programs may open.

    /proc/driver/nvidia is no evidence: a container shows its host's.

    Args:
        devices: the folder of device files.

    Returns:
        True where there is a device file, or `nvidia-smi` lists a GPU.
    """
    if any(re.fullmatch(r"nvidia\d+", path.name) for path in devices.glob("nvidia*")):
        return True
    # Under WSL there are no such files.
    return any(line.startswith("GPU ") for line in _smi("-L")[0].splitlines())


def nvidia_driver() -> dict | None:
    """The NVIDIA driver and its GPUs, as `nvidia-smi` reports them.

    Returns:
        `driver` (version) and `gpus` (a list of `name` and `memory`), `{"error": sentence}` where it fails,
        or None where there is no `nvidia-smi`.
    """
    if not shutil.which("nvidia-smi"):
        return None
    out, error = _smi("--query-gpu=driver_version,name,memory.total", "--format=csv,noheader")
    if error:
        return {"error": error}
    rows = [line.split(", ") for line in out.splitlines() if line.count(", ") == 2]
    return {
        "driver": rows[0][0] if rows else None,
        "gpus": [{"name": name, "memory": memory} for _, name, memory in rows],
    }


def _smi(*words: str) -> tuple[str, str]:
    """The output of `nvidia-smi`, and the reason where it fails."""
    try:
        child = subprocess.run(
            ["nvidia-smi", *words],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SMI_TIMEOUT_S,
        )
    except FileNotFoundError:
        return "", "there is no nvidia-smi"
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", f"nvidia-smi: {error}"
    if child.returncode:
        output = (child.stdout + child.stderr).strip()
        return "", " ".join(output.split()) or f"nvidia-smi ends with {child.returncode}"
    return child.stdout, ""


def _is_hidden(backend: str | None = None) -> bool:
    """Whether the user has hidden the GPUs, from all programs or from one backend."""
    if backend == "jax":
        platforms = os.environ.get("JAX_PLATFORMS", "").split(",")
        return bool(platforms[0]) and not {"cuda", "gpu"} & set(platforms)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible is not None and visible.split(",")[0].strip() in HIDDEN


def _is_cuda_build() -> bool:
    import torch

    return torch.version.cuda is not None


def _results(child: subprocess.Popen, names: Sequence[str]) -> dict[str, dict]:
    """What a process of `print_devices` gave, and for the first name that it gave nothing for, why."""
    try:
        out, err = child.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return {name: {"error": f"no result within {TIMEOUT_S} s"} for name in names}
    found: dict[str, dict] = {}
    for line in out.splitlines():
        with contextlib.suppress(ValueError, TypeError):
            name, seen = json.loads(line)
            found[name] = seen
    silent = [name for name in names if name not in found]
    if silent:
        found[silent[0]] = {"error": _failure(child.returncode, err)}
    return found


def _failure(code: int, err: str) -> str:
    """Why a process gave no result."""
    lines = [line.strip() for line in err.splitlines() if line.strip()]
    if code < 0:
        return f"its process ended with {signal.Signals(-code).name}"
    if code:
        return lines[-1] if lines else f"its process ended with {code}"
    return "its process gave no result"


def _keras_devices() -> dict:
    import keras

    from inception_tf.host.hardware import device_name, uses_tf32

    return {
        "backend": keras.backend.backend(),
        "device": device_name(),
        "tf32": uses_tf32(),
        "hint": missing_gpu_hint(),
    }


def _tensorflow_devices() -> dict:
    import tensorflow as tf

    devices = []
    for device in tf.config.list_physical_devices():
        is_gpu = device.device_type == "GPU"
        details = tf.config.experimental.get_device_details(device) if is_gpu else {}
        number = device.name.rpartition(":")[2]
        devices.append(f"{device.device_type}:{number} {details.get('device_name', '')}".strip())
    return {"devices": devices}


def _jax_devices() -> dict:
    import jax

    return {
        "devices": [
            f"{device.platform.upper()}:{device.id} {device.device_kind}"
            if device.platform != "cpu"
            else f"CPU:{device.id}"
            for device in jax.devices()
        ]
    }


def _torch_devices() -> dict:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus = [f"GPU:{number} {torch.cuda.get_device_name(number)}" for number in range(count)]
    return {"devices": ["CPU:0", *gpus]}


_DEVICES = {
    "keras": _keras_devices,
    "tensorflow": _tensorflow_devices,
    "jax": _jax_devices,
    "torch": _torch_devices,
}
