# SPDX-License-Identifier: Apache-2.0
"""State of the whole process that is changed for a while and then put back: environment variables, signal handlers."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["environment_variables", "signal_handler"]


@contextlib.contextmanager
def environment_variables(**values: str) -> Iterator[None]:
    """Sets environment variables while the block runs, for libraries that take a setting in no other way.

    Other threads see them too.  For a child process, pass `env` to `subprocess` instead.

    Args:
        **values: Names and values.
    """
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def signal_handler(number: signal.Signals, handler: Callable[..., Any]) -> Iterator[None]:
    """Handles a signal while the block runs; for the main thread alone, as Python has it.

    Args:
        number: The signal.
        handler: Called with the signal's number and the interrupted frame.
    """
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        # None: a handler that was not installed from Python, which cannot be put back.
        signal.signal(number, signal.SIG_DFL if before is None else before)
