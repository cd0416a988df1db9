# SPDX-License-Identifier: Apache-2.0
"""The stack on which a thread's signal handlers run, which a library may replace and leave behind."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator

__all__ = ["signal_stack"]


class _Stack(ctypes.Structure):
    """`stack_t` of Linux."""

    _fields_ = [("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


@contextlib.contextmanager
def signal_stack() -> Iterator[None]:
    """Gives this thread, when the block ends, the alternate stack for signal handlers back that it had; on Linux alone.

    OpenVINO's plugin for processors installs one for each model that it compiles, and unmaps it with the model (its class
    `SigAltStackSetup`, openvinotoolkit/openvino#11894).  When an older model is freed before a newer one, the thread is
    left with an unmapped stack, and the next signal, such as Ctrl-C, kills the process.
    """
    if sys.platform != "linux":
        yield
        return
    library, before = ctypes.CDLL(None), _Stack()
    library.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        # Refused where the old one is too small for what the processor now has to save: then it stays as it is.
        library.sigaltstack(ctypes.byref(before), None)
