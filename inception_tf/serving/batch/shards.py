# SPDX-License-Identifier: Apache-2.0
"""Which images a batch prediction takes, in which shards, and the files it writes, on any file system that Beam knows.

`photos.parquet` stands for photos-00000-of-00040.parquet and so on, with what was refused in
photos-bad-00000-of-00040.jsonl, the images in photos-images.jsonl and the plan in photos-plan.json.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from apache_beam.io.filesystem import CompressionTypes, FileSystem
from apache_beam.io.filesystems import FileSystems

from inception_tf.errors import UserError
from inception_tf.host.atomic_io import fsync

__all__ = [
    "OutputFiles",
    "BatchPlan",
    "Shard",
    "atomic_file",
    "start_or_resume",
    "remove_unfinished",
    "hash_image_list",
    "list_images",
    "parse_output",
    "read_file",
]

FORMS = ("parquet", "jsonl")
PATTERN = "*?["  # what Beam's file systems take for a pattern, and nothing quotes it
AS_IT_IS = CompressionTypes.UNCOMPRESSED  # an image called x.gz is not unpacked


@dataclass(frozen=True)
class OutputFiles:
    """The names of one batch prediction's files."""

    stem: str  # path without the ending
    form: str  # `parquet` or `jsonl`

    @property
    def plan(self) -> str:
        return f"{self.stem}-plan.json"

    @property
    def images(self) -> str:
        return f"{self.stem}-images.jsonl"

    @property
    def unfinished(self) -> str:
        """A folder for files that are being written."""
        return f"{self.stem}-unfinished"

    def part(self, number: int | None, shards: int) -> str:
        """The file of one shard; `None`: a * for its number."""
        return f"{self.stem}-{_digits(number)}-of-{shards:05}.{self.form}"

    def bad(self, number: int | None, shards: int) -> str:
        """The same for the images that were refused."""
        return f"{self.stem}-bad-{_digits(number)}-of-{shards:05}.jsonl"


@dataclass(frozen=True)
class BatchPlan:
    """All that decides what is written; a second call goes on only with the same."""

    images: int
    input: str  # SHA-256 of the images' paths and sizes
    model: str  # SHA-256 of the SavedModel's files
    form: str
    top: int  # classes named for each image
    shard_size: int  # images a shard

    @property
    def shards(self) -> int:
        return -(-self.images // self.shard_size)


@dataclass(frozen=True)
class Shard:
    """One piece of the work: a range of bytes in the list of images, whole lines."""

    number: int
    images: int
    begin: int
    size: int

    def paths(self, output: OutputFiles) -> list[str]:
        """The shard's images, read from the list."""
        with FileSystems.open(output.images, compression_type=AS_IT_IS) as file:
            file.seek(self.begin)
            return [json.loads(line)[0] for line in file.read(self.size).splitlines()]


def parse_output(output: str) -> OutputFiles:
    """`photos.parquet` or `photos.jsonl`, a local path or one with a scheme, as the names of its files."""
    stem, dot, form = output.rpartition(".")
    if not dot or form not in FORMS or not os.path.basename(stem):
        raise UserError(
            f"the output '{output}' ends in neither .parquet nor .jsonl; its ending says what is written"
        )
    if set(output) & set(PATTERN):
        raise UserError(f"the output '{output}' has one of {PATTERN} in it; give another name")
    return OutputFiles(_absolute(stem), form)


def list_images(pattern: str, output: OutputFiles) -> list[bytes]:
    """What `pattern` matches, sorted by path, as lines of the list of images.

    pattern: a path with *, ?, [...] within one folder's names and ** across folders.  Raises
    `UserError` where it matches nothing, or would match the files of `output`.
    """
    if os.path.isdir(pattern):
        raise UserError(f"'{pattern}' is a folder; give a pattern such as '{pattern}/*.jpg'")
    wanted = _absolute(pattern)
    if re.match(FileSystem.translate_pattern(wanted), output.plan):
        raise UserError(f"'{pattern}' matches the output too; give an --output in another folder")
    try:
        found = FileSystems.match([wanted])[0].metadata_list
    except (OSError, ValueError) as error:
        raise UserError(f"cannot list '{pattern}': {_reason(error)}") from error
    if not found:
        raise UserError(
            f"no file matches '{pattern}'; * and ? stand for letters of a name, ** for folders too"
        )
    rows = sorted((file.path, file.size_in_bytes) for file in found)
    return [f"{json.dumps(row)}\n".encode() for row in rows]


def start_or_resume(output: OutputFiles, plan: BatchPlan, lines: Sequence[bytes]) -> list[Shard]:
    """All shards of `plan`, which is written with the list of images where this is the first call.

    Raises `UserError` where another prediction lies there already.
    """
    try:
        begun = json.loads(read_file(output.plan)) if FileSystems.exists(output.plan) else None
        if begun is None:
            # The plan comes last: where it is, the list is whole.
            with atomic_file(output, output.images) as file:
                file.writelines(lines)
            with atomic_file(output, output.plan) as file:
                file.write(json.dumps(dataclasses.asdict(plan), indent=2).encode() + b"\n")
    except (OSError, ValueError) as error:  # ValueError: a scheme that Beam has no file system for
        raise UserError(f"cannot write '{output.plan}': {_reason(error)}") from error
    if begun is not None:
        _compare(output, begun, plan)
    shards, start = [], 0
    for number in range(plan.shards):
        own = lines[number * plan.shard_size : (number + 1) * plan.shard_size]
        shards.append(Shard(number, len(own), start, sum(map(len, own))))
        start += shards[-1].size
    return shards


def hash_image_list(lines: Sequence[bytes]) -> str:
    """SHA-256 of a list of images."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line)
    return digest.hexdigest()


@contextlib.contextmanager
def atomic_file(output: OutputFiles, path: str) -> Iterator[io.BufferedIOBase]:
    """A file to write to, which has the name `path` when it is whole and on the disk."""
    # Its own name for each attempt: a runner may try one shard twice at the same time.
    temporary = f"{output.unfinished}/{uuid.uuid4().hex}"
    with FileSystems.create(temporary, compression_type=AS_IT_IS) as file:
        yield file
        # An object store has no file to wait for: what is closed is stored.
        with contextlib.suppress(io.UnsupportedOperation):
            fsync(file)
    FileSystems.rename([temporary], [path])


def remove_unfinished(output: OutputFiles) -> None:
    """Removes what attempts that were killed left behind."""
    if FileSystems.exists(output.unfinished):
        FileSystems.delete([output.unfinished])


def read_file(path: str) -> bytes:
    """A whole file, as it is."""
    with FileSystems.open(path, compression_type=AS_IT_IS) as file:
        return file.read()


def _digits(number: int | None) -> str:
    return "*" if number is None else f"{number:05}"


def _compare(output: OutputFiles, begun: dict, plan: BatchPlan) -> None:
    for name, value in dataclasses.asdict(plan).items():
        if begun.get(name) == value:
            continue
        what = {
            "images": f"{begun.get(name)} images, not {value}",
            "input": "other images",
            "model": "another model",
        }.get(name, f"{name.replace('_', ' ')} {begun.get(name)}, not {value}")
        raise UserError(
            f"'{output.plan}' is of a prediction with {what}; give another --output, or delete"
            f" what begins with '{output.stem}-'"
        )


def _absolute(path: str) -> str:
    """Workers have folders of their own; a path with a scheme is whole already."""
    return path if re.match(r"\w[\w.+-]*://", path) else os.path.abspath(path)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error).partition("\n")[0]
