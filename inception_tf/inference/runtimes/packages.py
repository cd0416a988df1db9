# SPDX-License-Identifier: Apache-2.0
"""Packages of the extras, imported when they are needed."""

from __future__ import annotations

import importlib
from types import ModuleType

from inception_tf.errors import missing_package
from inception_tf.host.silence import silence

__all__ = ["import_package"]


def import_package(module: str, what: str, package: str, extra: str) -> ModuleType:
    """Imports a module of an optional package, without its output.

    Args:
        module: Dotted name of the module.
        what: What needs it, for the error.
        package: Name of the distribution.
        extra: The extra of this package that installs it.

    Returns:
        The module.

    Raises:
        UserError: The package is missing; the sentence says what to install.
    """
    try:
        with silence():
            return importlib.import_module(module)
    except ImportError as error:
        raise missing_package(what, package, extra) from error
