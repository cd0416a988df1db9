# SPDX-License-Identifier: Apache-2.0
"""The rows of one shard as files: predictions as Parquet or JSON lines, rejected images as JSON lines; written and read back."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from typing import Any

import pyarrow
import pyarrow.parquet
from apache_beam.io.filesystems import FileSystems

from inception_tf.data.skipped import OK
from inception_tf.serving.batch import shards
from inception_tf.serving.batch.shards import BatchPlan, OutputFiles, Shard

__all__ = ["is_complete", "printable_path", "write_shard"]

# Both formats have these columns; for a bad image only the first two are written, always as JSON lines.
SCHEMA = pyarrow.schema(
    {
        "path": pyarrow.string(),
        "status": pyarrow.string(),
        "labels": pyarrow.list_(pyarrow.string()),
        "scores": pyarrow.list_(pyarrow.float32()),
    }
)
# What a truncated or overwritten file ends in: no Parquet, a wrong checksum, no JSON, no rows of ours.
DAMAGED = (
    pyarrow.ArrowException,
    *(AttributeError, KeyError, OSError, RecursionError, TypeError, ValueError),
)


def write_shard(
    output: OutputFiles, plan: BatchPlan, shard: Shard, rows: Sequence[dict[str, Any]]
) -> None:
    """Writes the two files of a shard, the predictions last: where they are, the shard is complete.

    Args:
        output: The files of the batch prediction.
        plan: Its settings.
        shard: The unit of work.
        rows: One for each image, in order.
    """
    with shards.atomic_file(output, output.bad(shard.number, plan.shards)) as file:
        _write_lines(file, [row for row in rows if row["status"] != OK])
    with shards.atomic_file(output, output.part(shard.number, plan.shards)) as file:
        write = _write_lines if plan.form == "jsonl" else _write_parquet
        write(file, [row for row in rows if row["status"] == OK])


def is_complete(output: OutputFiles, plan: BatchPlan, shard: Shard) -> bool | None:
    """Opens the two files of a shard and compares their images with the list's.

    Args:
        output: The files of the batch prediction.
        plan: Its settings.
        shard: The unit of work.

    Returns:
        Whether they can be read and have one row for each image; None where the predictions are not there.
    """
    part = output.part(shard.number, plan.shards)
    if not FileSystems.exists(part):
        return None
    try:
        read = _read_lines if plan.form == "jsonl" else _read_parquet
        good = read(shards.read_file(part), plan.top)
        bad = _read_lines(shards.read_file(output.bad(shard.number, plan.shards)), 0)
        return sorted(good + bad) == sorted(map(printable_path, shard.paths(output)))
    except DAMAGED:
        return False


def printable_path(path: str) -> str:
    """Writes a path as text.

    Args:
        path: As Python has it.

    Returns:
        The path, with bytes that are not UTF-8, which Linux allows, as \\xff.
    """
    return os.fsencode(path).decode(errors="backslashreplace")


def _read_parquet(data: bytes, top: int) -> list[str]:
    """The paths of a file's rows, each of which has all that was asked for."""
    table = pyarrow.parquet.read_table(io.BytesIO(data), page_checksum_verification=True)
    return _checked(table.cast(SCHEMA).to_pylist(), top)


def _read_lines(data: bytes, top: int) -> list[str]:
    if data and not data.endswith(b"\n"):
        raise ValueError("a line that does not end")
    return _checked([json.loads(line) for line in data.splitlines()], top)


def _checked(rows: Sequence[dict[str, Any]], top: int) -> list[str]:
    """top: how many classes a row may have; 0 for bad images, which have none."""
    for row in rows:
        found = (len(row.get("labels") or ()), len(row.get("scores") or ()))
        if (row["status"] == OK) is (top == 0) or found[0] != found[1]:
            raise ValueError("a row of another kind")
        if not (0 < found[0] <= top if top else found[0] == 0):
            raise ValueError("a row with other classes")
    return [row["path"] for row in rows]


def _write_lines(file: io.BufferedIOBase, rows: Sequence[dict[str, Any]]) -> None:
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def _write_parquet(file: io.BufferedIOBase, rows: Sequence[dict[str, Any]]) -> None:
    table = pyarrow.Table.from_pylist(rows, SCHEMA)
    pyarrow.parquet.write_table(table, file, write_page_checksum=True)
