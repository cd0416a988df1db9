# SPDX-License-Identifier: Apache-2.0
"""The one way of a command's text to the terminal: what files and servers say is shown there, never obeyed."""

from __future__ import annotations

import contextlib
import logging
import re
import warnings
from collections.abc import Iterator

import click

from inception_tf.errors import printable

__all__ = ["echo", "printable_messages"]

LINE_PARTS = re.compile(r"[^\n\t]+")  # line breaks and tabs are the commands' own


def echo(text: object = "", *, err: bool = False) -> None:
    """Prints lines with control characters as escapes.

    A label or a server's message may hold sequences that move the cursor, clear the screen or name a window.

    Args:
        text: One or several lines.
        err: To stderr, not to stdout.
    """
    click.echo(_printable_lines(str(text)), err=err)


@contextlib.contextmanager
def printable_messages() -> Iterator[None]:
    """Prints warnings and log lines, which name files, with control characters as escapes while the block runs."""
    theirs, log = warnings.formatwarning, logging.getLogger("inception_tf")

    def formatted(*arguments, **named):
        return _printable_lines(theirs(*arguments, **named))

    def spelled(record):
        record.msg, record.args = _printable_lines(record.getMessage()), ()
        return True

    warnings.formatwarning = formatted
    log.addFilter(spelled)
    try:
        yield
    finally:
        warnings.formatwarning = theirs
        log.removeFilter(spelled)


def _printable_lines(text: str) -> str:
    return LINE_PARTS.sub(lambda part: printable(part[0]), text)
