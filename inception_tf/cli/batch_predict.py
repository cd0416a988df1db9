# SPDX-License-Identifier: Apache-2.0
"""`inception-tf batch-predict`."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator

import click

from inception_tf.cli.options import batch_size_option, top_option
from inception_tf.cli.output import echo
from inception_tf.cli.paths import INPUT_SAVED_MODEL
from inception_tf.errors import USER_MISTAKE, UserError, missing_package
from inception_tf.host.silence import hold_stderr

__all__ = ["command"]


@click.command("batch-predict")
@click.argument("saved_model", metavar="SAVED_MODEL", type=INPUT_SAVED_MODEL)
@click.argument("beam_options", nargs=-1, type=click.UNPROCESSED, metavar="[-- BEAM_OPTION...]")
@click.option(
    "--input",
    "images",
    required=True,
    metavar="GLOB",
    help="The images; quote the pattern, * and ** are expanded here.",
)
@click.option(
    "--output",
    required=True,
    metavar="PARQUET|JSONL",
    help="NAME.parquet or NAME.jsonl; the files are NAME-00000-of-00040.parquet and so on.",
)
@top_option()
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes on this machine.",
)
@click.option(
    "--shard-size",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    help="Images per file; an interrupted call loses at most one file per worker.",
)
@batch_size_option("Images")
def command(saved_model, beam_options, images, output, **settings):
    """Classify large numbers of images with an exported SavedModel, as an Apache Beam pipeline.

    Each file is written completely or not at all, and the same call resumes an interrupted one.  Images
    that cannot be read go to NAME-bad-00000-of-00040.jsonl, with the reason, and the exit code is 2, as
    predict's.  Options after -- are passed to Beam: --runner=... and the options of that runner.

    \b
    inception-tf batch-predict saved_models/digits --input 'photos/**.jpg' --output out/photos.parquet
    """
    if beam_options and not beam_options[0].startswith("-"):
        raise UserError(
            f"'{beam_options[0]}' is no option of Beam; quote the pattern after --input, and put"
            " Beam's options after --"
        )
    started = time.perf_counter()
    with _silence_beam():
        try:
            import apache_beam  # noqa: F401
        except ModuleNotFoundError as error:
            raise missing_package("batch-predict", "apache-beam", "beam") from error
        from inception_tf.serving.batch.pipeline import batch_predict

        with hold_stderr():
            result = batch_predict(saved_model, images, output, options=beam_options, **settings)
    seconds = time.perf_counter() - started
    done = result.shards - result.skipped
    echo(f"images  {result.images}: {result.images - result.bad} ok, {result.bad} bad")
    echo(f"shards  {result.shards}: {done} done, {result.skipped} skipped because they exist")
    echo(f"time    {seconds:.1f} seconds, {result.predicted / seconds:.1f} images/s")
    echo(f"ok in   {result.parts}")
    echo(f"bad in  {result.bad_parts}")
    if result.damaged:
        echo(
            f"inception-tf: the files of {result.damaged} shards could not be read and were written again",
            err=True,
        )
    if result.bad:
        echo(
            f"inception-tf: {result.bad} of {result.images} images cannot be read; {result.bad_parts} has the reasons",
            err=True,
        )
        return USER_MISTAKE
    return None


@contextlib.contextmanager
def _silence_beam() -> Iterator[None]:
    """Suppresses Beam's log: its warnings are about parts that are not installed, and its errors are raised too."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
