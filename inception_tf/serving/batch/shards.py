# SPDX-License-Identifier: Apache-2.0
"""The shards of a batch prediction and the files it writes, on any file system that Beam supports.

`photos.parquet` stands for photos-00000-of-00040.parquet and so on, with rejected images in
photos-bad-00000-of-00040.jsonl, the list of images in photos-images.jsonl and the plan in photos-plan.json.
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
from typing import Any

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
    "has_scheme",
    "list_images",
    "parse_output",
    "read_file",
]

FORMS = ("parquet", "jsonl")
PATTERN = "*?["  # characters of a pattern in Beam's file systems, which cannot be escaped
UNCOMPRESSED = CompressionTypes.UNCOMPRESSED  # an image called x.gz is not decompressed


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
        """Names the file of one shard's predictions.

        Args:
            number: Index of the shard; None for a * in its place.
            shards: Number of all shards.

        Returns:
            The path.
        """
        return f"{self.stem}-{_digits(number)}-of-{shards:05}.{self.form}"

    def bad(self, number: int | None, shards: int) -> str:
        """Names the file of one shard's rejected images.

        Args:
            number: Index of the shard; None for a * in its place.
            shards: Number of all shards.

        Returns:
            The path.
        """
        return f"{self.stem}-bad-{_digits(number)}-of-{shards:05}.jsonl"


@dataclass(frozen=True)
class BatchPlan:
    """All settings that decide what is written; a second call resumes only with the same."""

    images: int
    input: str  # SHA-256 of the images' paths and sizes
    model: str  # SHA-256 of the SavedModel's files
    form: str
    top: int  # best classes written for each image
    shard_size: int  # images per shard

    @property
    def shards(self) -> int:
        return -(-self.images // self.shard_size)


@dataclass(frozen=True)
class Shard:
    """One unit of work: a range of bytes in the list of images, whole lines."""

    number: int
    images: int
    begin: int
    size: int

    def paths(self, output: OutputFiles) -> list[str]:
        """Reads the paths of the shard's images.

        Args:
            output: The files of the batch prediction.

        Returns:
            Paths in order.
        """
        with FileSystems.open(output.images, compression_type=UNCOMPRESSED) as file:
            file.seek(self.begin)
            return [json.loads(line)[0] for line in file.read(self.size).splitlines()]


def parse_output(output: str) -> OutputFiles:
    """Parses the name of the output.

    Args:
        output: `photos.parquet` or `photos.jsonl`, a local path or one with a scheme.

    Returns:
        The names of its files.

    Raises:
        UserError: It has another ending, or characters of a pattern.
    """
    stem, dot, form = output.rpartition(".")
    if not dot or form not in FORMS or not os.path.basename(stem):
        raise UserError(
            f"the output '{output}' ends in neither .parquet nor .jsonl; its ending decides the format"
        )
    if set(output) & set(PATTERN):
        raise UserError(f"the output '{output}' has one of {PATTERN} in it; give another name")
    return OutputFiles(_absolute(stem), form)


def list_images(pattern: str, output: OutputFiles) -> list[bytes]:
    """Lists the files that match a pattern, sorted by path.

    Args:
        pattern: A path with *, ?, [...] within the names of one folder and ** across folders.
        output: The files of the batch prediction, which must not match.

    Returns:
        Lines of the list of images: path and size as JSON.

    Raises:
        UserError: Nothing matches, or the files of `output` would.
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
            f"no file matches '{pattern}'; * and ? match characters of a name, ** folders too"
        )
    rows = sorted((file.path, file.size_in_bytes) for file in found)
    return [f"{json.dumps(row)}\n".encode() for row in rows]


def start_or_resume(output: OutputFiles, plan: BatchPlan, lines: Sequence[bytes]) -> list[Shard]:
    """Writes the plan and the list of images, or checks that those which exist are the same.

    Args:
        output: The files of the batch prediction.
        plan: The settings.
        lines: The list of images.

    Returns:
        All shards.

    Raises:
        UserError: Another prediction exists there, or the plan cannot be written.
    """
    try:
        existing = json.loads(read_file(output.plan)) if FileSystems.exists(output.plan) else None
        if existing is None:
            # The plan is written last: where it exists, the list is complete.
            with atomic_file(output, output.images) as file:
                file.writelines(lines)
            with atomic_file(output, output.plan) as file:
                file.write(json.dumps(dataclasses.asdict(plan), indent=2).encode() + b"\n")
    except (OSError, ValueError) as error:  # ValueError: a scheme that Beam has no file system for
        raise UserError(f"cannot write '{output.plan}': {_reason(error)}") from error
    if existing is not None:
        _compare(output, existing, plan)
    shards: list[Shard] = []
    start = 0
    for number in range(plan.shards):
        part = lines[number * plan.shard_size : (number + 1) * plan.shard_size]
        shards.append(Shard(number, len(part), start, sum(map(len, part))))
        start += shards[-1].size
    return shards


def hash_image_list(lines: Sequence[bytes]) -> str:
    """Computes the SHA-256 sum of a list of images.

    Args:
        lines: The list.

    Returns:
        Hexadecimal digits.
    """
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line)
    return digest.hexdigest()


@contextlib.contextmanager
def atomic_file(output: OutputFiles, path: str) -> Iterator[io.BufferedIOBase]:
    """Opens a file that gets its name when it is complete and on the disk.

    Args:
        output: The files of the batch prediction.
        path: The name.

    Yields:
        The file to write to.
    """
    # Another name for each attempt: a runner may run one shard twice at the same time.
    temporary = f"{output.unfinished}/{uuid.uuid4().hex}"
    with FileSystems.create(temporary, compression_type=UNCOMPRESSED) as file:
        yield file
        # An object store has no file to sync: what is closed is stored.
        with contextlib.suppress(io.UnsupportedOperation):
            fsync(file)
    FileSystems.rename([temporary], [path])


def remove_unfinished(output: OutputFiles) -> None:
    """Removes the files of attempts that were killed.

    Args:
        output: The files of the batch prediction.
    """
    if FileSystems.exists(output.unfinished):
        FileSystems.delete([output.unfinished])


def read_file(path: str) -> bytes:
    """Reads a whole file without decompression.

    Args:
        path: Local or with a scheme.

    Returns:
        Its content.
    """
    with FileSystems.open(path, compression_type=UNCOMPRESSED) as file:
        return file.read()


def _digits(number: int | None) -> str:
    return "*" if number is None else f"{number:05}"


def _compare(output: OutputFiles, existing: dict[str, Any], plan: BatchPlan) -> None:
    for name, value in dataclasses.asdict(plan).items():
        if existing.get(name) == value:
            continue
        what = {
            "images": f"{existing.get(name)} images, not {value}",
            "input": "other images",
            "model": "another model",
        }.get(name, f"{name.replace('_', ' ')} {existing.get(name)}, not {value}")
        raise UserError(
            f"'{output.plan}' is of a prediction with {what}; give another --output, or delete"
            f" the files that begin with '{output.stem}-'"
        )


def has_scheme(path: str) -> bool:
    """Tells the path of another file system, such as gs://, from one of this machine.

    Args:
        path: Either of them.

    Returns:
        True where the path names its file system.
    """
    return re.match(r"\w[\w.+-]*://", path) is not None


def _absolute(path: str) -> str:
    """An absolute path, because workers run in other folders; one with a scheme stays as it is."""
    return path if has_scheme(path) else os.path.abspath(path)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error).partition("\n")[0]
