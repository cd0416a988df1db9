# SPDX-License-Identifier: Apache-2.0
"""Packages of the extras, imported when they are needed."""

from __future__ import annotations

import importlib
from types import ModuleType

from inception_tf.errors import missing_package
from inception_tf.host.silence import silence

__all__ = ["import_package"]


def import_package(module: str, what: str, package: str, extra: str) -> ModuleType:
    """The module of that name, imported in silence; `UserError` with what to install where it is missing."""
    try:
        with silence():
            return importlib.import_module(module)
    except ImportError as error:
        raise missing_package(what, package, extra) from error
