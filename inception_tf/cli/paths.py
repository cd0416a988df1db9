# SPDX-License-Identifier: Apache-2.0
"""Paths on the command line, checked when they are parsed: before TensorFlow is imported and any work is done."""

from __future__ import annotations

import os
import re
from pathlib import Path

import click

from inception_tf.errors import UserError
from inception_tf.host.files import check_new_folder

__all__ = [
    "DATA_NAME",
    "INPUT_LABELS",
    "INPUT_SAVED_MODEL",
    "INPUT_WEIGHTS",
    "InputPath",
    "NEW_FOLDER",
    "OUTPUT_FILE",
    "OUTPUT_FOLDER",
    "WEIGHTS_NAME",
]

# A server's, without http:// or grpc://, or with another spelling of that: a port or TensorFlow Serving's path shows it.
ADDRESS = re.compile(
    r"(?:(?P<scheme>https?|grpcs?):)?/*(?P<rest>(?:\[[0-9a-f:.]+\]|[\w.-]+)(?::\d+(?:/|$)|(?::\d+)?/v1/models/).*)",
    re.IGNORECASE,
)
PATH = re.compile(r"[/\\]|\.\w+$")  # in weights that are no release's name
PART = re.compile(r"\.(index|meta|data-\d+-of-\d+)$")  # a file of a TF1 checkpoint


class InputPath(click.ParamType):
    """A path that must exist, or, with `or_address`, the address of a server.

    A TF1 checkpoint is named without the `.index` of its file; a file of the Hub (`hf://`) is downloaded by the command.
    """

    name = "path"

    def __init__(self, wanted: str, *, or_address: bool = False):
        self.wanted = wanted
        self.or_address = or_address

    def convert(self, value, param, ctx):
        if value.startswith("hf://"):
            return value
        if self.or_address and "://" in value:
            from inception_tf.serving.client.address import parse_address

            parse_address(value)
            return value
        address = ADDRESS.match(value) if self.or_address and not os.path.exists(value) else None
        if address:
            scheme = (address["scheme"] or "http").lower()
            raise UserError(
                f"there is no {value}; a server's address begins with http:// or grpc://, as in"
                f" {scheme}://{address['rest']}"
            )
        is_part = PART.search(value)  # the command says which name to give
        if not is_part and not os.path.exists(value) and not os.path.exists(f"{value}.index"):
            raise UserError(f"there is no {value}; give {self.wanted}")
        return value


class _WeightsName(InputPath):
    """A release, or the path of weights, which its ending or a folder shows, and which must exist."""

    def convert(self, value, param, ctx):
        return super().convert(value, param, ctx) if PATH.search(value) else value


class _DataName(click.ParamType):
    """A name of data: one of its kinds, and where it has a path, something is there."""

    name = "text"

    def convert(self, value, param, ctx):
        from inception_tf.data.sources.names import check_source_name

        check_source_name(value)
        return value


class _Output(click.ParamType):
    """A path to write to: its folder exists, or can be created, and is writable."""

    name = "path"

    def __init__(self, *, folder: bool, new: bool = False):
        self.folder = folder
        self.new = new

    def convert(self, value, param, ctx):
        path = Path(value)
        if self.folder and path.exists() and not path.is_dir():
            raise UserError(f"{value} is a file; give the name of a folder")
        if not self.folder and path.is_dir():
            raise UserError(f"{value} is a folder; give the name of a file")
        if not self.folder and not path.parent.exists():
            raise UserError(
                f"cannot write {value}: there is no folder {path.parent}; create it first"
            )
        if self.new:
            check_new_folder(path)
        there = next(p for p in (path, *path.absolute().parents) if p.is_dir())
        if not os.access(there, os.W_OK | os.X_OK):
            raise UserError(f"cannot write {value}: the folder {there} is not writable")
        return value


DATA_NAME = _DataName()
INPUT_LABELS = InputPath("a file with one class name per line")
INPUT_WEIGHTS = InputPath("a run folder or a weights file")
INPUT_SAVED_MODEL = InputPath("saved_models/NAME or saved_models/NAME/VERSION")
OUTPUT_FILE = _Output(folder=False)
NEW_FOLDER = _Output(folder=True, new=True)
OUTPUT_FOLDER = _Output(folder=True)
WEIGHTS_NAME = _WeightsName("a release, such as imagenet, or a weights file")
