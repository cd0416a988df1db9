# SPDX-License-Identifier: Apache-2.0
"""Predictions for very many images: an Apache Beam pipeline that writes each shard once and resumes where it stopped."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.utils.shared import Shared

from inception_tf.host.files import not_regular
from inception_tf.serving.batch import parts, runner, shards
from inception_tf.serving.batch.shards import BatchPlan, OutputFiles, Shard
from inception_tf.serving.predict import find_model, open_model

__all__ = ["BatchResult", "batch_predict"]

THREADS = 32  # for calls to a file system, which may be remote
# Of one image, whatever is tried again; Beam's other file systems raise the classes without a number.
PERMANENT = (errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR)
PERMANENT_ERRORS = (FileNotFoundError, PermissionError, IsADirectoryError)


@dataclass(frozen=True)
class BatchResult:
    """The state of the output after a call, and how much of it this call did."""

    images: int
    bad: int  # images that could not be read
    shards: int
    skipped: int  # shards that were complete before this call
    damaged: int  # shards that this call wrote again because their files could not be read
    predicted: int  # images of the other shards
    parts: str  # pattern of the files, with * for the shard's number
    bad_parts: str


class PredictShard(beam.DoFn):
    """Beam's step for one shard, whose output is the shard's number once its two files are written."""

    def __init__(self, model: str, output: OutputFiles, plan: BatchPlan, batch_size: int) -> None:
        self._model, self._output, self._plan = model, output, plan
        self._batch_size = batch_size
        self._shared = Shared()  # one model per process, whatever the number of threads

    def setup(self) -> None:
        self._classify = self._shared.acquire(lambda: open_model(self._model))

    def process(self, shard: Shard) -> Iterator[int]:
        # Another attempt by the runner may have finished first.
        if not parts.is_complete(self._output, self._plan, shard):
            rows = self._rows(shard.paths(self._output))
            parts.write_shard(self._output, self._plan, shard, rows)
        yield shard.number

    def _rows(self, paths: Sequence[str]) -> list[dict[str, Any]]:
        rows = []
        for start in range(0, len(paths), self._batch_size):
            chunk = paths[start : start + self._batch_size]
            data, unread = _read(chunk)
            for path, (status, best) in zip(
                chunk, self._classify(data, self._plan.top), strict=True
            ):
                row: dict[str, Any] = {
                    "path": parts.printable_path(path),
                    "status": unread.get(path, status),
                }
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
    """Classifies very many images into files of `shard_size` images each.

    A shard that is complete is skipped, so that a stopped call can be repeated to resume; one whose files cannot be
    read, or have other images, is written again.

    Args:
        saved_model: saved_models/NAME or one version of it, in a folder that all workers see.
        images: A pattern of paths, with *, ?, [...] and ** across folders.
        output: NAME.parquet or NAME.jsonl, for NAME-00000-of-00040.parquet and so on; images that cannot be read go to
            NAME-bad-00000-of-00040.jsonl.
        top: How many of the best classes are written for each image.
        shard_size: Images per file.
        batch_size: Images that the network computes at the same time.
        workers: Processes on this machine.
        options: Beam's options, such as `--runner=...`; without a runner everything runs on this machine.

    Returns:
        Counts of images and shards, and where the files are.

    Raises:
        UserError: An argument is not valid, a worker stopped, or the output exists for other images, another model,
            another `top` or `shard_size`.

    Example:
        batch_predict("saved_models/digits", "photos/**.jpg", "out/photos.parquet", workers=4)
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
    with ThreadPoolExecutor(THREADS) as pool:
        done = list(pool.map(lambda piece: parts.is_complete(target, plan, piece), pieces))
    todo = [piece for piece, complete in zip(pieces, done, strict=True) if not complete]
    if todo:
        predict = PredictShard(os.path.abspath(folder), target, plan, batch_size)
        with runner.run_pipeline(beam_options) as steps:
            # Reshuffled, so that Beam distributes the shards over the workers.
            _ = steps | beam.Create(todo) | beam.Reshuffle() | beam.ParDo(predict)
    shards.remove_unfinished(target)
    return BatchResult(
        images=plan.images,
        bad=_count_bad(target, plan),
        shards=plan.shards,
        skipped=plan.shards - len(todo),
        damaged=done.count(False),
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


def _count_bad(output: OutputFiles, plan: BatchPlan) -> int:
    paths = [output.bad(number, plan.shards) for number in range(plan.shards)]
    with ThreadPoolExecutor(THREADS) as pool:
        return sum(data.count(b"\n") for data in pool.map(shards.read_file, paths))


def _read(paths: Sequence[str]) -> tuple[list[bytes], dict[str, str]]:
    """File contents, and why some cannot be read; a temporary error fails the shard, which is tried again."""
    data: list[bytes] = []
    unread: dict[str, str] = {}
    for path in paths:
        try:
            # A pipe would wait for its writer, and a device may never end.
            kind = None if shards.has_scheme(path) else not_regular(os.stat(path))
            reason = f"it is {kind}" if kind else None
            content = b"" if reason else shards.read_file(path)
        except OSError as error:
            if error.errno not in PERMANENT and not isinstance(error, PERMANENT_ERRORS):
                raise
            content, reason = b"", error.strerror
        data.append(content)
        if reason:
            unread[path] = f"cannot be read: {reason}"
    return data, unread
