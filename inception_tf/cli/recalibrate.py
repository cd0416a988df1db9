# SPDX-License-Identifier: Apache-2.0
"""`inception-tf recalibrate`."""

from __future__ import annotations

from pathlib import Path

import click

from inception_tf.cli.options import COUNT, DATA, source_options
from inception_tf.cli.output import echo
from inception_tf.cli.paths import DATA_NAME, NEW_FOLDER, InputPath

__all__ = ["command"]


@click.command("recalibrate")
@click.argument("path", metavar="RUN", type=InputPath("a run folder"))
@click.option(
    "--data",
    type=DATA_NAME,
    required=True,
    help=f"The images: {DATA}  Labels are not used; a folder needs no class folders.",
)
@click.option(
    "--batches", required=True, type=COUNT, help="Batches to compute the statistics over."
)
@click.option("--to", required=True, type=NEW_FOLDER, metavar="NEW", help="The new run folder.")
@click.option(
    "--batch-size",
    type=click.IntRange(min=2),
    help="Images of a batch.  [default: those of the run's training]",
)
@click.option("--split", help="Split of the data.  [default: train, or all where there is none]")
@source_options()
def command(path, data, batches, to, batch_size, split, reading):
    """Recompute a run's batch normalization statistics on other images, into a new run folder.

    The weights stay as they are: Algorithm 2 of the batch normalization paper on images that differ from those of the
    training, such as scans or another camera's.  Images that cannot be read are skipped and listed.

    \b
    inception-tf recalibrate runs/photos --data folder:scans --batches 60 --to runs/photos-scans
    """
    from inception_tf.host.backend import needs_tensorflow_backend

    needs_tensorflow_backend("recalibrate")
    from inception_tf.host.progress import progress_bar
    from inception_tf.run_folder import Run
    from inception_tf.training.recalibrated_run import recalibrate_run

    run = Run(Path(path))
    size = batch_size or run.config().data.batch_size
    with progress_bar(batches * size, path, leave=False, delay=1) as bar:  # not over an error
        report = recalibrate_run(
            run,
            data,
            batches,
            Path(to),
            batch_size=batch_size,
            split=split,
            reading=reading,
            on_images=bar.update,
        )
    found = report["recalibrated"]
    for image, reason in sorted(found["skipped"].items()):
        echo(f"inception-tf: skipped {image}: {reason}", err=True)
    part = "without labels" if found["split"] is None else f"split {found['split']}"
    skipped = f", {len(found['skipped'])} images skipped" if found["skipped"] else ""
    echo(
        f"{found['layers']} batch normalizations have the statistics of {batches} batches of {size} images of {data}"
        f" ({part}{skipped}): {to}"
    )
    if run.temperature_file.exists():
        echo(
            f"the temperature of {path} was fitted to other probabilities and is not taken over; fit it again with"
            f" inception-tf evaluate {to} --temperature",
            err=True,
        )
