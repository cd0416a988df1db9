# SPDX-License-Identifier: Apache-2.0
"""A run again with the batch normalization statistics of other images: a new run folder, the old one untouched."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from inception_tf.data.decoding.transforms import evaluation_steps
from inception_tf.data.formats import is_image_name
from inception_tf.data.labels import write_labels
from inception_tf.data.pipeline import evaluation_batches
from inception_tf.data.preprocessing import preprocessing_of_run
from inception_tf.data.skipped import BadImages
from inception_tf.data.sources.images import find_images
from inception_tf.data.sources.open import open_source
from inception_tf.data.sources.splits import ALL, SPLIT_SEED, Split
from inception_tf.errors import UserError
from inception_tf.host.atomic_io import atomic_write_text, remove_unfinished, temporary_folder
from inception_tf.host.environment import environment
from inception_tf.host.files import check_new_folder
from inception_tf.host.locks import lock_folder
from inception_tf.run_folder import Run
from inception_tf.training.optim.recalibrate import recalibrate
from inception_tf.weights.metadata import read_metadata, write_metadata

__all__ = ["open_images", "recalibrate_run"]

FOLDER = "folder:"


def recalibrate_run(
    run: Run,
    data: str,
    batches: int,
    to: Path,
    *,
    batch_size: int | None = None,
    split: str | None = None,
    reading: Mapping[str, Any] | None = None,
    on_images: Callable[[int], None] = lambda count: None,
) -> dict:
    """Writes a run folder with the weights of a run and the population statistics of other images.

    The labels of the images are not used.  Batches are drawn without replacement, in an order that depends on the
    number of images alone, so that each mixes the classes.  The new run has no checkpoints and no temperature: it
    cannot be resumed, and a fitted temperature would be that of other probabilities.

    Args:
        run: a finished run.
        data: a source's name; `folder:PATH` may hold images without class folders.
        batches: how many, at least 1.
        to: the new folder, which appears whole or not at all.
        batch_size: images of a batch; None: the run's.
        split: of the source; None: `train`, or all images where there is none.
        reading: what else `open_source` takes.
        on_images: called with the number of images of each batch.

    Returns:
        The content of the new run's `report.json`.

    Raises:
        UserError: the run is not finished, is being trained, or has no batch normalization; there are fewer images than
            asked for, or too many cannot be read; or `to` exists.
    """
    check_new_folder(to)
    with ExitStack() as stack:
        if run.path.is_dir() and os.access(run.path, os.W_OK):
            stack.enter_context(lock_folder(run.path, "works in"))
        config = run.config()
        count = batch_size or config.data.batch_size
        images, name = open_images(data, split, reading or {})
        if len(images) < batches * count:
            raise UserError(
                f"{batches} batches of {count} images are {batches * count}, and {data} has {len(images)}"
                f"{'' if name is None else f' in {name}'}; ask for at most {len(images) // count} batches, or smaller ones"
                " with --batch-size"
            )
        model = run.model()
        order = np.random.RandomState(SPLIT_SEED).permutation(len(images))
        shuffled = replace(images.take(order), damaged=images.damaged)
        bad = BadImages(shuffled, config.data.max_bad, option=None)
        steps = evaluation_steps(preprocessing_of_run(config.data, run.size()))
        full = _full_batches(shuffled, steps, count, bad, on_images)
        layers = recalibrate(model, full, batches)
        report = {
            "recalibrated": {
                "run": run.identity(),
                "data": data,
                "split": name,
                "batches": batches,
                "batch_size": count,
                "layers": layers,
                "skipped": bad.reasons,
            },
            "environment": environment(),
        }
        _publish(run, config, model, report, to)
    return report


def open_images(
    name: str, split: str | None, reading: Mapping[str, Any]
) -> tuple[Split, str | None]:
    """Opens a source for its images alone.

    Args:
        name: of the source.  A folder with images directly in it has no classes: all images below it are read.
        split: of the source; None: `train`, or all images where there is none.
        reading: what else `open_source` takes.

    Returns:
        The images, and the name of their split, None of a folder without classes.

    Raises:
        UserError: there is no such data or split, or a folder without classes is to have a split.
    """
    folder = Path(name.removeprefix(FOLDER)).expanduser() if name.startswith(FOLDER) else None
    if folder and folder.is_dir() and any(is_image_name(path.name) for path in folder.iterdir()):
        if split is not None:
            raise UserError(
                f"{name} has images without class folders, and so no split '{split}'; give the folder of the split"
            )
        paths = find_images([str(folder)])
        return Split(np.array(paths, str), np.zeros(len(paths), np.int64)), None
    source = open_source(name, **reading)
    chosen = split or ("train" if "train" in source.splits else ALL)
    return source.split(chosen), chosen


def _full_batches(
    images: Split,
    steps: tuple,
    size: int,
    bad: BadImages,
    on_images: Callable[[int], None],
) -> Iterator[np.ndarray]:
    for pixels, _ in evaluation_batches(images, steps, batch_size=size, bad=bad):
        if len(pixels) == size:
            yield pixels.numpy()
            on_images(size)


def _publish(run: Run, config: Any, model: Any, report: dict, to: Path) -> None:
    """Builds the folder beside its place and renames it."""
    to.parent.mkdir(parents=True, exist_ok=True)
    remove_unfinished(to.parent)
    building = temporary_folder(to.parent, "unfinished")
    try:
        made = Run(building)
        made.write_config(config, uuid.uuid4().hex)
        write_labels(made.labels_file, run.labels())
        model.save(made.model_file)
        write_metadata(made.model_file, read_metadata(run.model_file))
        atomic_write_text(building / "report.json", json.dumps(report, indent=2) + "\n")
        mask = os.umask(0)
        os.umask(mask)
        building.chmod(0o777 & ~mask)  # a temporary folder is for its owner alone
        try:
            os.rename(building, to)
        except OSError:
            check_new_folder(to)  # another process was faster
            raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
