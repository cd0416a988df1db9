# SPDX-License-Identifier: Apache-2.0
"""The machine under a run: its processor, its GPU, and the number format that suits them."""

from __future__ import annotations

import contextlib
import os
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = [
    "Precision",
    "computes_bfloat16_in_vectors",
    "device_name",
    "reset_peak_memory",
    "peak_memory",
    "processor_name",
    "resolve_precision",
    "usable_cores",
]

TENSOR_CORES_SINCE = (7, 0)  # compute capability of NVIDIA's first GPUs with float16 matrix units
BFLOAT16_FLAGS = ("amx_bf16", "avx512_bf16")  # as Linux names them in /proc/cpuinfo


@dataclass(frozen=True)
class Precision:
    """A dtype policy and why it was taken."""

    policy: str  # float32, mixed_float16 or mixed_bfloat16
    reason: str


def resolve_precision(wanted: str) -> Precision:
    """`auto` → float16 on a GPU with matrix units, bfloat16 on a processor that computes in it, else float32."""
    if wanted != "auto":
        return Precision(wanted, "as asked for")
    gpu = _gpu()
    if gpu:
        if gpu.get("compute_capability", (0, 0)) >= TENSOR_CORES_SINCE:
            return Precision("mixed_float16", f"{gpu['device_name']} has matrix units for float16")
        return Precision("float32", "this GPU has no matrix units for float16")
    units = [flag for flag in BFLOAT16_FLAGS if flag in _processor("flags").split()]
    if units:
        return Precision("mixed_bfloat16", f"this processor has {' and '.join(units)}")
    return Precision("float32", "this processor has neither AMX nor AVX512-BF16")


def computes_bfloat16_in_vectors() -> bool:
    """Does Keras' backend compute on a processor with AVX512-BF16 and without AMX?"""
    flags = _processor("flags").split()
    return not _gpu() and "avx512_bf16" in flags and "amx_bf16" not in flags


def processor_name() -> str:
    """The processor as its maker names it, with the number of cores that this process may use."""
    cores = usable_cores()
    name = _processor("model name") or platform.processor() or platform.machine()
    return f"{name}, {cores} core{'s' if cores != 1 else ''}"


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device_name() -> str:
    """What Keras' backend computes on: the first GPU's name, or `CPU (...)`."""
    gpu = _gpu()
    return gpu["device_name"] if gpu else f"CPU ({processor_name()})"


def peak_memory() -> int:
    """The most memory that this process has held so far, in bytes; 0 where the system does not say."""
    try:
        # On Linux `getrusage` also knows what the process had before it became this program: its parent's.
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, IndexError):
        pass
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


def reset_peak_memory() -> None:
    """Lets `peak_memory` begin anew, with what the process holds now; only Linux can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _gpu() -> dict:
    """Name and compute capability of the first GPU that Keras' backend computes on; empty without one."""
    import keras

    return _GPUS[keras.backend.backend()]()


def _tensorflow_gpu() -> dict:
    import tensorflow as tf

    devices = tf.config.list_physical_devices("GPU")
    if not devices:
        return {}
    return {"device_name": "GPU", **tf.config.experimental.get_device_details(devices[0])}


def _jax_gpu() -> dict:
    import jax

    device = jax.devices()[0]
    if device.platform != "gpu":
        return {}
    capability = tuple(map(int, str(device.compute_capability).split(".")))
    return {"device_name": device.device_kind, "compute_capability": capability}


def _torch_gpu() -> dict:
    import torch

    if not torch.cuda.is_available():
        return {}
    return {
        "device_name": torch.cuda.get_device_name(),
        "compute_capability": torch.cuda.get_device_capability(),
    }


_GPUS = {"tensorflow": _tensorflow_gpu, "jax": _jax_gpu, "torch": _torch_gpu}


@cache
def _processor(field: str) -> str:
    """One field of Linux' description of the first processor; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == field:
            return value.strip()
    return ""
