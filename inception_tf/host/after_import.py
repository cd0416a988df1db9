# SPDX-License-Identifier: Apache-2.0
"""Something to do as soon as another package has been imported, without importing it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

__all__ = ["after_import"]


def after_import(package: str, call: Callable[[], None]) -> None:
    """Calls a function once a package is imported: now, if it is already.

    Args:
        package: its name, without dots.
        call: takes nothing.
    """
    if package in sys.modules:
        call()
    else:
        sys.meta_path.insert(0, _Waiting(package, call))


class _Waiting(MetaPathFinder):
    """Finds nothing itself; has the package's own loader call the function at its end, and leaves."""

    def __init__(self, package: str, call: Callable[[], None]):
        self.package = package
        self.call = call

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.package:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is None or spec.loader is None:
            return None
        loader, execute = spec.loader, spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module  # the loader's own again
            execute(module)
            self.call()

        loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
