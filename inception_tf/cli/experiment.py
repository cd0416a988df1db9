# SPDX-License-Identifier: Apache-2.0
"""`inception-tf experiment`."""

from __future__ import annotations

import click

__all__ = ["command"]


@click.group("experiment")
def command():
    """Run the batch normalization paper's experiments and draw its figures.

    \b
    inception-tf experiment bn-mnist --out runs/bn-mnist
    """
