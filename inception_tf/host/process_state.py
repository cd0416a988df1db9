# SPDX-License-Identifier: Apache-2.0
"""State of the whole process: what is changed for a while and then put back, and what a program of this package sets."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["collect_garbage_rarely", "environment_variables", "signal_handler"]


def collect_garbage_rarely() -> None:
    """Lets Python look for unreachable cycles rarely, and not at its end; for the start of a program, never for a library.

    The import of TensorFlow makes half a million objects that stay.  Walking through them again and again is a fifth
    of its time, and the walks at the end of the program take another second.
    """
    gc.set_threshold(50_000, 20, 50)
    atexit.register(gc.freeze)  # runs last: exit functions are called in reverse order


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
