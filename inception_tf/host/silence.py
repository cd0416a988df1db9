# SPDX-License-Identifier: Apache-2.0
"""Converters of other projects print on both streams, from C++ as well; a command's stdout is for its result."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator

from inception_tf.errors import UserError

__all__ = ["hold_stderr", "silence"]

_ONE_THREAD = threading.RLock()
STREAMS = (1, 2)  # file descriptors of stdout and stderr


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keeps back all output of the process while the block runs; after an unexpected error it goes to stderr.

    C++ code prints past Python, so this redirects the file descriptors 1 and 2, of which a process has
    one each: the output of other threads is kept back and lost too.  Meant for the seconds of a conversion
    or of loading a model.  Blocks of several threads run one after the other, so that each finds the
    descriptors as they were and puts them back.
    """
    with _ONE_THREAD, tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as kept:
        sys.stdout.flush()
        sys.stderr.flush()
        before = [os.dup(stream) for stream in STREAMS]
        for stream in STREAMS:
            os.dup2(kept.fileno(), stream)
        kept_back = ""
        try:
            with (
                contextlib.redirect_stdout(kept),
                contextlib.redirect_stderr(kept),
                warnings.catch_warnings(),
            ):
                warnings.simplefilter("ignore")
                yield
        except UserError:  # its sentence is all there is to say
            raise
        except Exception:
            kept.seek(0)
            kept_back = kept.read()
            raise
        finally:
            kept.flush()
            for stream, copy in zip(STREAMS, before, strict=True):
                os.dup2(copy, stream)
                os.close(copy)
            sys.stderr.write(kept_back)


@contextlib.contextmanager
def hold_stderr() -> Iterator[None]:
    """Keeps back what any thread or child writes to stderr while the block runs; after an unexpected error it is written.

    For work of minutes in threads of other libraries, which `silence` would stop: libjpeg's words for a damaged image
    do not name it, and gRPC's threads print tracebacks when a worker is lost.
    """
    with tempfile.TemporaryFile() as kept:
        sys.stderr.flush()
        before = os.dup(STREAMS[1])
        os.dup2(kept.fileno(), STREAMS[1])
        try:
            yield
        except UserError:
            raise
        except Exception:
            kept.seek(0)
            os.write(before, kept.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(before, STREAMS[1])
            os.close(before)
