# SPDX-License-Identifier: Apache-2.0
"""Predictions for very many images: an Apache Beam pipeline that writes each shard once and resumes where it stopped."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
import pyarrow
import pyarrow.parquet
from apache_beam.io.filesystems import FileSystems
from apache_beam.utils.shared import Shared

from inception_tf.data.skipped import OK
from inception_tf.serving.batch import runner, shards
from inception_tf.serving.batch.shards import BatchPlan, OutputFiles, Shard
from inception_tf.serving.predict import find_model, open_model

__all__ = ["BatchResult", "batch_predict"]

THREADS = 32  # for questions to a file system, which may be far away

# Both forms have these columns; of a bad image only the first two are written, always as JSON lines.
SCHEMA = pyarrow.schema(
    {
        "path": pyarrow.string(),
        "status": pyarrow.string(),
        "labels": pyarrow.list_(pyarrow.string()),
        "scores": pyarrow.list_(pyarrow.float32()),
    }
)


@dataclass(frozen=True)
class BatchResult:
    """What lies there after a call, and how much of it this call did."""

    images: int
    bad: int  # of all images
    shards: int
    skipped: int  # shards that were there before
    predicted: int  # images of the other shards
    parts: str  # the files' names, with * for the shard's number
    bad_parts: str


class PredictShard(beam.DoFn):
    """Shard → its number, once its two files are written."""

    def __init__(self, model: str, output: OutputFiles, plan: BatchPlan, batch_size: int):
        self._model, self._output, self._plan = model, output, plan
        self._batch_size = batch_size
        self._shared = Shared()  # one model a process, however many threads it has

    def setup(self):
        self._ask = self._shared.acquire(lambda: open_model(self._model))

    def process(self, shard: Shard):
        part = self._output.part(shard.number, self._plan.shards)
        bad = self._output.bad(shard.number, self._plan.shards)
        # Another attempt of the runner's may have been first.
        if not FileSystems.exists(part):
            rows = self._rows(shard.paths(self._output))
            # The part comes last: where it is, the shard is done.
            refused = [row for row in rows if row["status"] != OK]
            with shards.atomic_file(self._output, bad) as file:
                _write_lines(file, refused)
            with shards.atomic_file(self._output, part) as file:
                write = _write_lines if self._plan.form == "jsonl" else _write_parquet
                write(file, [row for row in rows if row["status"] == OK])
        yield shard.number

    def _rows(self, paths: Sequence[str]) -> list[dict]:
        rows = []
        for start in range(0, len(paths), self._batch_size):
            chunk = paths[start : start + self._batch_size]
            data, unread = _read(chunk)
            for path, (status, best) in zip(chunk, self._ask(data, self._plan.top), strict=True):
                row = {"path": _printable(path), "status": unread.get(path, status)}
                if best:
                    row |= {"labels": [name for name, _ in best], "scores": [s for _, s in best]}
                rows.append(row)
        return rows


def batch_predict(
    saved_model: str | Path,
    images: str,
    output: str,
    *,
    top: int = 5,
    shard_size: int = 256,
    batch_size: int = 32,
    workers: int = 1,
    options: Sequence[str] = (),
) -> BatchResult:
    """Names what each of `images` shows, in files that hold `shard_size` images each.

    saved_model: its folder, where all workers see it.  images: a pattern.  output: NAME.parquet or
    NAME.jsonl, which stands for NAME-00000-of-00040.parquet and so on, with the images that were
    refused in NAME-bad-00000-of-00040.jsonl.  workers: processes on this machine.  options: Beam's
    own, as `--runner=...`; without a runner all is done on this machine.
    A shard that is there already is left as it is.  Raises `UserError` where what lies there is of
    other images, another model, another `top` or `shard_size`.
    """
    beam_options = runner.parse_options(options, workers)
    folder = find_model(saved_model)
    target = shards.parse_output(output)
    lines = shards.list_images(images, target)
    plan = BatchPlan(
        images=len(lines),
        input=shards.hash_image_list(lines),
        model=_fingerprint(folder),
        form=target.form,
        top=top,
        shard_size=shard_size,
    )
    pieces = shards.start_or_resume(target, plan, lines)
    todo = [piece for piece, done in zip(pieces, _done(target, plan), strict=True) if not done]
    if todo:
        predict = PredictShard(os.path.abspath(folder), target, plan, batch_size)
        with runner.run_pipeline(beam_options) as steps:
            # Reshuffled, so that the shards are spread over the workers.
            _ = steps | beam.Create(todo) | beam.Reshuffle() | beam.ParDo(predict)
    shards.remove_unfinished(target)
    return BatchResult(
        images=plan.images,
        bad=_count_bad(target, plan),
        shards=plan.shards,
        skipped=plan.shards - len(todo),
        predicted=sum(piece.images for piece in todo),
        parts=target.part(None, plan.shards),
        bad_parts=target.bad(None, plan.shards),
    )


def _fingerprint(folder: Path) -> str:
    """SHA-256 of all files in a SavedModel's folder and of their names."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder)}\n{path.stat().st_size}\n".encode())
        with path.open("rb") as file:
            while data := file.read(1 << 20):
                digest.update(data)
    return digest.hexdigest()


def _done(output: OutputFiles, plan: BatchPlan) -> list[bool]:
    parts = [output.part(number, plan.shards) for number in range(plan.shards)]
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(FileSystems.exists, parts))


def _count_bad(output: OutputFiles, plan: BatchPlan) -> int:
    paths = [output.bad(number, plan.shards) for number in range(plan.shards)]
    with ThreadPoolExecutor(THREADS) as pool:
        return sum(data.count(b"\n") for data in pool.map(shards.read_file, paths))


def _read(paths: Sequence[str]) -> tuple[list[bytes], dict[str, str]]:
    """Files, and why some cannot be read; an error that may pass fails the shard, which is tried again."""
    data, unread = [], {}
    for path in paths:
        try:
            data.append(shards.read_file(path))
        except (FileNotFoundError, PermissionError) as error:
            data.append(b"")
            unread[path] = f"cannot be read: {error.strerror}"
    return data, unread


def _printable(path: str) -> str:
    """A path whose bytes are no UTF-8, which Linux allows, with these bytes as \\xff."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _write_lines(file: io.BufferedIOBase, rows: Sequence[dict]) -> None:
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def _write_parquet(file: io.BufferedIOBase, rows: Sequence[dict]) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, SCHEMA), file)
