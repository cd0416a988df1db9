# SPDX-License-Identifier: Apache-2.0
"""`inception-tf info`."""

from __future__ import annotations

import json

import click

from inception_tf.cli.options import AS_JSON
from inception_tf.cli.output import echo

__all__ = ["command"]

MISSING = "not installed"
TITLES = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "torch"}


@click.command("info")
@AS_JSON
def command(as_json):
    """Print versions, devices and what is installed: what a bug report needs.

    Takes some seconds: TensorFlow, JAX and torch are each queried for their devices.

    \b
    inception-tf info
    """
    from inception_tf.cli.render import table
    from inception_tf.host.report import report

    found = report()
    echo(json.dumps(found, indent=2) if as_json else table(("item", "value"), _rows(found)))


def _rows(found: dict) -> list[tuple[str, str]]:
    commit = f" (commit {found['commit']})" if found["commit"] else ""
    processor, memory = found["processor"], found["memory"]
    return [
        ("inception_tf", found["inception_tf"] + commit),
        ("Python", found["python"]),
        ("platform", found["platform"]),
        *((name, version or MISSING) for name, version in found["packages"].items()),
        ("processor", processor["name"]),
        ("processor flags", " ".join(processor["flags"]) or "none of the relevant ones"),
        ("memory", f"{_size(memory['total'])}, {_size(memory['available'])} available"),
        *_nvidia(found["nvidia"]),
        *((f"{TITLES[name]} sees", _devices(seen)) for name, seen in found["devices"].items()),
        *_keras(found["keras"]),
    ]


def _nvidia(found: dict | None) -> list[tuple[str, str]]:
    if found is None:
        return [("NVIDIA driver", "no nvidia-smi")]
    if "error" in found:
        return [("NVIDIA driver", f"fails: {found['error']}")]
    gpus = [
        (f"NVIDIA GPU {number}", f"{gpu['name']}, {gpu['memory']}")
        for number, gpu in enumerate(found["gpus"])
    ]
    return [("NVIDIA driver", found["driver"] or "no GPU"), *gpus]


def _devices(seen: list[str] | dict | None) -> str:
    if seen is None:
        return MISSING
    return f"fails: {seen['error']}" if isinstance(seen, dict) else ", ".join(seen)


def _keras(seen: dict | None) -> list[tuple[str, str]]:
    if seen is None or "error" in seen:
        return [("Keras' backend", _devices(seen))]
    rows = [
        ("Keras' backend", seen["backend"]),
        ("computes on", seen["device"] + (", float32 in TF32" if seen["tf32"] else "")),
    ]
    return [*rows, ("hint", seen["hint"])] if seen["hint"] else rows


def _size(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 2**30:.1f} GiB"
