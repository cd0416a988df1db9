# SPDX-License-Identifier: Apache-2.0
"""The versions that a run was computed with."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

from inception_tf import __version__

__all__ = ["environment", "version_of"]

PACKAGES = ("tensorflow", "jax", "torch", "keras", "numpy")


def version_of(package: str) -> str | None:
    """The installed version of a package.

    Args:
        package: its name on PyPI.

    Returns:
        The version, or None where it is not installed.
    """
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def environment() -> dict:
    """The installed versions and the git commit, for `config.yaml` and the reports.

    Returns:
        `inception_tf`, `python`, each of `PACKAGES` that is installed, and `commit`, the git commit of a
        source checkout or None.
    """
    versions = {package: version_of(package) for package in PACKAGES}
    return {
        "inception_tf": __version__,
        "python": platform.python_version(),
        **{package: version for package, version in versions.items() if version},
        "commit": _commit(),
    }


@cache
def _commit() -> str | None:
    """The git commit of a source checkout; None where the package is installed without one."""
    here = Path(__file__).parent
    try:
        result = subprocess.run(
            ["git", "-C", str(here), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None
