# SPDX-License-Identifier: Apache-2.0
"""Paths on the command line, checked when they are read: before TensorFlow is imported and any work is done."""

from __future__ import annotations

import os
import re
from pathlib import Path

import click

from inception_tf.errors import UserError

__all__ = ["INPUT_SAVED_MODEL", "INPUT_WEIGHTS", "OUTPUT_FILE", "OUTPUT_FOLDER", "InputPath"]

PART = re.compile(r"\.(index|meta|data-\d+-of-\d+)$")  # of a checkpoint in several files


class InputPath(click.ParamType):
    """A path that has to exist, or, where `or_address`, the address of a server.

    A TF1 checkpoint exists under the name that its `.index` file begins with.
    """

    name = "path"

    def __init__(self, wanted: str, *, or_address: bool = False):
        self.wanted = wanted
        self.or_address = or_address

    def convert(self, value, param, ctx):
        if self.or_address and "://" in value:
            return value
        is_part = PART.search(value)  # the command itself says which name it wants
        if not is_part and not os.path.exists(value) and not os.path.exists(f"{value}.index"):
            raise UserError(f"there is no {value}; give {self.wanted}")
        return value


class _Output(click.ParamType):
    """A path to write to: its folder is there, or can be made, and may be written."""

    name = "path"

    def __init__(self, *, folder: bool):
        self.folder = folder

    def convert(self, value, param, ctx):
        path = Path(value)
        if self.folder and path.exists() and not path.is_dir():
            raise UserError(f"{value} is a file; give the name of a folder")
        if not self.folder and path.is_dir():
            raise UserError(f"{value} is a folder; give the name of a file")
        if not self.folder and not path.parent.exists():
            raise UserError(
                f"cannot write {value}: there is no folder {path.parent}; make it first"
            )
        there = next(p for p in (path, *path.absolute().parents) if p.is_dir())
        if not os.access(there, os.W_OK | os.X_OK):
            raise UserError(f"cannot write {value}: the folder {there} may not be written to")
        return value


INPUT_WEIGHTS = InputPath("a run folder or a weights file")
INPUT_SAVED_MODEL = InputPath("saved_models/NAME or saved_models/NAME/VERSION")
OUTPUT_FILE = _Output(folder=False)
OUTPUT_FOLDER = _Output(folder=True)
