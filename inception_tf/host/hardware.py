# SPDX-License-Identifier: Apache-2.0
"""The machine: its processor, its GPU, and the number format that suits them."""

from __future__ import annotations

import contextlib
import os
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = [
    "Precision",
    "device_name",
    "has_vector_bfloat16",
    "machine_memory",
    "peak_memory",
    "processor_flags",
    "processor_name",
    "reset_peak_memory",
    "resolve_precision",
    "sees_gpu",
    "usable_cores",
    "uses_tf32",
]

TF32_SINCE = (8, 0)  # compute capability of NVIDIA's first GPUs that multiply float32 in TF32
TENSOR_CORES_SINCE = (7, 0)  # compute capability of NVIDIA's first GPUs with tensor cores
# Values of jax_default_matmul_precision for which a GPU uses TF32: jax.lax.Precision, DotAlgorithmPreset.
JAX_TF32 = (
    None,
    "default",
    "bfloat16",
    "high",
    "tensorfloat32",
    "TF32_TF32_F32",
    "TF32_TF32_F32_X3",
)
BFLOAT16_FLAGS = ("amx_bf16", "avx512_bf16")  # as Linux names them in /proc/cpuinfo
# What decides how fast a network runs: vector units, bfloat16 and int8, as Linux names them on x86 and Arm.
FLAGS = (
    *("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_int8", "amx_bf16", "amx_fp16"),
    *("asimd", "bf16", "i8mm", "sve", "sme"),
)
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True)
class Precision:
    """A Keras dtype policy and why it was chosen."""

    policy: str  # float32, mixed_float16 or mixed_bfloat16
    reason: str


def resolve_precision(wanted: str) -> Precision:
    """Chooses the dtype policy for this machine.

    Args:
        wanted: a Keras dtype policy, which is returned as it is, or `auto`.

    Returns:
        For `auto` mixed_float16 on a GPU with tensor cores, mixed_bfloat16 on a processor with bfloat16
        units that TensorFlow uses, else float32.
    """
    if wanted != "auto":
        return Precision(wanted, "as asked for")
    gpu = _gpu()
    if gpu:
        if gpu.get("compute_capability", (0, 0)) >= TENSOR_CORES_SINCE:
            return Precision("mixed_float16", f"{gpu['device_name']} has tensor cores")
        return Precision("float32", "this GPU has no tensor cores")
    units = [flag for flag in BFLOAT16_FLAGS if flag in _processor("flags").split()]
    if units and _is_without_onednn():
        return Precision(
            "float32", "TF_ENABLE_ONEDNN_OPTS switches oneDNN off, without which bfloat16 is slow"
        )
    if units:
        return Precision("mixed_bfloat16", f"this processor has {' and '.join(units)}")
    return Precision("float32", "this processor has neither AMX nor AVX512-BF16")


def _is_without_onednn() -> bool:
    """Whether the user has switched off what TensorFlow computes bfloat16 with; read as TensorFlow reads it."""
    import keras

    chosen = os.environ.get("TF_ENABLE_ONEDNN_OPTS", "").lower() in ("0", "false")
    return chosen and keras.backend.backend() == "tensorflow"


def has_vector_bfloat16() -> bool:
    """Whether Keras' backend computes on a processor with AVX512-BF16 and without AMX.

    Returns:
        False on any other processor and on a GPU.
    """
    flags = _processor("flags").split()
    return not _gpu() and "avx512_bf16" in flags and "amx_bf16" not in flags


def processor_name() -> str:
    """The processor's name and the number of cores that this process may use.

    Returns:
        A string such as `AMD EPYC 9B14, 2 cores`.
    """
    cores = usable_cores()
    name = _processor("model name") or platform.processor() or platform.machine()
    return f"{name}, {cores} core{'s' if cores != 1 else ''}"


def processor_flags() -> tuple[str, ...]:
    """The instruction sets of the processor that decide how fast a network runs.

    Returns:
        Those of `FLAGS` that it has; empty where the system is not Linux.
    """
    flags = set(_processor("flags").split() or _processor("Features").split())
    return tuple(flag for flag in FLAGS if flag in flags)


def usable_cores() -> int:
    """The number of cores that this process may use.

    Returns:
        At least 1.
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device_name() -> str:
    """The device that Keras' backend computes on.

    Returns:
        The first GPU's name, or `CPU (...)` with the processor's.
    """
    gpu = _gpu()
    return gpu["device_name"] if gpu else f"CPU ({processor_name()})"


def machine_memory() -> dict[str, int | None]:
    """The machine's memory, or its container's limit where that is lower.

    Returns:
        `total` and `available` in bytes, each None where the system does not report it (`available`: any
        system but Linux).
    """
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows
        total = None
    available = None
    with contextlib.suppress(OSError, IndexError):
        text = Path("/proc/meminfo").read_text(encoding="ascii")
        available = int(text.partition("MemAvailable:")[2].split()[0]) * 1024
    for path in CGROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # the text is "max" without a limit
            limit = int(Path(path).read_text(encoding="ascii"))
            total = min(total or limit, limit)
            available = min(available or limit, limit)
    return {"total": total, "available": available}


def peak_memory() -> int:
    """The most memory that this process has held so far.

    Returns:
        Bytes; 0 where the system does not report it.
    """
    try:
        # On Linux `getrusage` includes the peak before `exec`, which is the parent's.
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
    """Restarts `peak_memory` from what the process holds now; works on Linux only."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def sees_gpu() -> bool:
    """Whether Keras' backend has a GPU to compute on.

    Returns:
        True where it lists at least one.
    """
    return bool(_gpu())


def uses_tf32() -> bool:
    """Whether float32 convolutions are computed in TF32 on the GPU of Keras' backend.

    TF32 keeps float32's range and 10 of its 23 bits of mantissa, and is several times as fast, so a float32
    timing on such a GPU is compared with another peak.  NVIDIA GPUs have it since compute capability 8.0;
    TensorFlow, JAX and torch (convolutions only, not matrix products) use it by default, and
    NVIDIA_TF32_OVERRIDE=0 forbids it to all of them.

    Returns:
        False on a processor and on a GPU without TF32.
    """
    if os.environ.get("NVIDIA_TF32_OVERRIDE") == "0":
        return False
    if _gpu().get("compute_capability", (0, 0)) < TF32_SINCE:
        return False
    import keras

    return _TF32[keras.backend.backend()]()


def _tensorflow_tf32() -> bool:
    import tensorflow as tf

    return tf.config.experimental.tensor_float_32_execution_enabled()


def _jax_tf32() -> bool:
    import jax

    return jax.config.jax_default_matmul_precision in JAX_TF32


def _torch_tf32() -> bool:
    import torch

    convolutions = getattr(torch.backends.cudnn, "conv", None)
    # torch 2.9 has one setting for each kind of operation, and raises an error where this older one is mixed in.
    if convolutions is None:
        return torch.backends.cudnn.allow_tf32
    return convolutions.fp32_precision == "tf32"


_TF32 = {"tensorflow": _tensorflow_tf32, "jax": _jax_tf32, "torch": _torch_tf32}


def _gpu() -> dict:
    """Name and compute capability of the first GPU that Keras' backend computes on; empty without one.

    The capability is missing where the GPU is not NVIDIA's.
    """
    import keras

    # Keras' numpy and openvino backends compute on the processor.
    return _GPUS.get(keras.backend.backend(), dict)()


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
    capability = str(getattr(device, "compute_capability", "")).split(".")
    if not all(part.isdecimal() for part in capability):  # AMD's are called gfx90a
        return {"device_name": device.device_kind}
    return {
        "device_name": device.device_kind,
        "compute_capability": tuple(map(int, capability)),
    }


def _torch_gpu() -> dict:
    import torch

    if not torch.cuda.is_available():
        return {}
    name = {"device_name": torch.cuda.get_device_name()}
    # AMD's GPUs come under the same names.
    is_nvidia = torch.version.cuda is not None
    return name | ({"compute_capability": torch.cuda.get_device_capability()} if is_nvidia else {})


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
