# SPDX-License-Identifier: Apache-2.0
"""Other projects' converters talk on both streams, from C++ as well; a command's stdout is its result."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator

from inception_tf.errors import UserError

__all__ = ["silence"]

STREAMS = (1, 2)  # file descriptors of stdout and stderr


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Nothing is printed by this process meanwhile; after an error that nobody expected, what was
    kept back goes to stderr.

    For the seconds of a conversion: other threads are silent as well.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as kept:
        sys.stdout.flush()
        sys.stderr.flush()
        before = [os.dup(stream) for stream in STREAMS]
        for stream in STREAMS:
            os.dup2(kept.fileno(), stream)
        told = ""
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
            told = kept.read()
            raise
        finally:
            kept.flush()
            for stream, copy in zip(STREAMS, before, strict=True):
                os.dup2(copy, stream)
                os.close(copy)
            sys.stderr.write(told)
