# SPDX-License-Identifier: Apache-2.0
"""The facts that a bug report needs: versions, processor, memory, and the devices each framework sees."""

from __future__ import annotations

import platform

from inception_tf.host.devices import FRAMEWORKS, framework_devices, nvidia_driver
from inception_tf.host.environment import PACKAGES, environment, version_of
from inception_tf.host.hardware import machine_memory, processor_flags, processor_name, usable_cores

__all__ = ["EXTRAS", "report"]

# Distributions of the extras, each with a part of this package that needs it.
EXTRAS = (
    "ai-edge-litert",
    "apache-beam",
    "kserve",
    "onnxruntime",
    "openvino",
    "tensorflow-datasets",
    "tensorflow-serving-api",
    "tf-models-official",
)


def report() -> dict:
    """Collects versions and devices for `inception-tf info`.

    Takes as long as importing the frameworks, each in its own process.

    Returns:
        `inception_tf`, `commit`, `python`, `platform`: strings, the commit or None.
        `packages`: each of `PACKAGES` and `EXTRAS` to its version, or None where it is not installed.
        `processor`: `name`, `cores` that this process may use, `flags`.
        `memory`: `total`, `available` in bytes, either of them None where the system does not report it.
        `nvidia`: as `devices.nvidia_driver` gives it.
        `keras`: `backend`, `device`, `tf32` and `hint`, `{"error": sentence}`, or None.
        `devices`: TensorFlow, JAX and torch, each to a list of strings, `{"error": sentence}`, or None.
    """
    versions = environment()
    seen = framework_devices()
    return {
        "inception_tf": versions["inception_tf"],
        "commit": versions["commit"],
        "python": versions["python"],
        "platform": platform.platform(),
        "packages": {name: version_of(name) for name in (*PACKAGES, *EXTRAS)},
        "processor": {
            "name": processor_name(),
            "cores": usable_cores(),
            "flags": list(processor_flags()),
        },
        "memory": machine_memory(),
        "nvidia": nvidia_driver(),
        "keras": seen["keras"],
        "devices": {name: _devices(seen[name]) for name in FRAMEWORKS},
    }


def _devices(seen: dict | None) -> list[str] | dict | None:
    return seen.get("devices", seen) if seen else None
