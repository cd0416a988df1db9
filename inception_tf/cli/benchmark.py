# SPDX-License-Identifier: Apache-2.0
"""`inception-tf benchmark`."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from statistics import median

import click

from inception_tf.benchmark.case import BACKENDS, COMPILES, INPUTS, PRECISIONS
from inception_tf.cli.options import (
    COUNT,
    JSON_FILE,
    SETTINGS,
    as_settings,
    keras_options,
    source_options,
)
from inception_tf.cli.output import echo
from inception_tf.cli.paths import DATA_NAME, INPUT_LABELS, OUTPUT_FILE, InputPath

__all__ = ["command"]

COMPARED = (
    "model",
    "what",
    "precision",
    "batch",
    "size",
    "A s",
    "B s",
    "speed-up of A over B",
    "suspect",
)


@click.group("benchmark")
def command() -> None:
    """Time networks on this machine.

    \b
    inception-tf benchmark forward --model inception_v3 --batch-size 32
    """


def _timed(kind: str) -> Callable:
    """The decorator for the command of one kind of step; all share these options."""
    options: tuple[Callable, ...] = (
        click.option(
            "--model", "models", multiple=True, default=("inception_v3",), show_default=True
        ),
        click.option(
            "--batch-size",
            "batch_sizes",
            type=int,
            multiple=True,
            default=(32,),
            show_default=True,
            help="Images per step.",
        ),
        click.option(
            "--size",
            "sizes",
            type=int,
            multiple=True,
            help="Height and width in pixels.  [default: the published size]",
        ),
        click.option(
            "--precision",
            "precisions",
            type=click.Choice(PRECISIONS),
            multiple=True,
            default=("auto",),
            show_default=True,
        ),
        click.option(
            "--backend",
            type=click.Choice(BACKENDS),
            default="tensorflow",
            show_default=True,
            help="keras: the backend of KERAS_BACKEND, such as jax or torch.",
        ),
        click.option("--threads", type=int, help="[default: all cores]"),
        click.option(
            "--steps",
            type=int,
            default=100,
            show_default=True,
            help="Timed steps, after ten burn-in steps.",
        ),
        click.option(
            "--compile",
            "compile_",
            type=click.Choice(COMPILES),
            help="One graph, XLA, or eager (none).  [default: graph; none on torch]",
        ),
        click.option(
            "--input",
            "input_",
            type=click.Choice(INPUTS),
            default="constant",
            show_default=True,
            help="redrawn: new random images inside each timed step, as in the documents.",
        ),
        click.option(
            "--json",
            "json_file",
            type=OUTPUT_FILE,
            metavar="FILE",
            help="Also write every figure as JSON.",
        ),
        click.option(
            "--csv",
            "csv_file",
            type=OUTPUT_FILE,
            metavar="FILE",
            help="Also write a line per timing as CSV.",
        ),
        click.option(
            "--plot",
            "plot_file",
            type=OUTPUT_FILE,
            metavar="FILE.png",
            help="Draw a bar per timing.",
        ),
        click.option(
            "--compare",
            nargs=2,
            type=click.Path(),
            metavar="A.json B.json",
            help="Time nothing; compare the timings that two --json files have in common.",
        ),
    )

    if kind == "train-step":
        options = (
            *options,
            click.option(
                "--recipe",
                default="default",
                show_default=True,
                help="Recipe for optimizer and losses: a name or a file.",
            ),
        )

    def decorate(function):
        for option in reversed(options):
            function = option(function)
        return command.command(kind)(function)

    return decorate


@_timed("forward")
def forward(compare, **chosen):
    """Time the forward pass: one line for every tenth step, then mean and standard deviation.

    A step ends when the probabilities of the whole batch are in memory.  --model, --batch-size, --size
    and --precision may be repeated: all combinations are timed, and a table is printed at the end.

    \b
    inception-tf benchmark forward --model inception_v1 --model inception_v3 --json times.json
    """
    _compare(*compare) if compare else _time("forward", **chosen)


@_timed("forward-backward")
def forward_backward(compare, **chosen):
    """Time the forward pass and the gradients of all weights, without updating them.

    A step ends when the loss and the norm of all gradients are in memory.

    \b
    inception-tf benchmark forward-backward --model inception_v3 --batch-size 8
    """
    _compare(*compare) if compare else _time("forward-backward", **chosen)


@_timed("train-step")
def train_step(compare, **chosen):
    """Time a training step as `fit` runs it: forward, backward and the optimizer's update.

    The network, its losses, its metrics and its optimizer are those that `train` compiles.  A step ends
    when the weights are updated and the loss is in memory.

    \b
    inception-tf benchmark train-step --model inception_v3 --batch-size 16
    """
    _compare(*compare) if compare else _time("train-step", **chosen)


def _time(
    kind,
    models,
    batch_sizes,
    sizes,
    precisions,
    json_file,
    csv_file,
    plot_file,
    compile_,
    input_,
    **same,
):
    from inception_tf.benchmark import tables
    from inception_tf.benchmark.case import Case
    from inception_tf.benchmark.plot import plot
    from inception_tf.benchmark.run import time_case
    from inception_tf.cli.render import table
    from inception_tf.host.atomic_io import atomic_write_text
    from inception_tf.host.devices import missing_gpu_hint

    cases = [
        Case(
            model,
            kind,
            batch_size=batch,
            size=size,
            precision=precision,
            compile=compile_,
            input=input_,
            **same,
        ).checked()
        for model, batch, size, precision in itertools.product(
            models, batch_sizes, sizes or (None,), precisions
        )
    ]
    hint = missing_gpu_hint() if same["backend"] != "openvino" else None
    if hint:
        echo(f"inception-tf: {hint}", err=True)
    timings = []
    for case in cases:
        timings.append(time_case(case, echo, peak=True).as_dict())
        # After each, so that the timings are kept if the next one fails.
        if json_file:
            atomic_write_text(Path(json_file), json.dumps(timings, indent=2) + "\n")
        if csv_file:
            atomic_write_text(Path(csv_file), tables.timings_to_csv(timings))
    if plot_file:
        plot(timings, plot_file)
    echo(table(tables.COLUMNS, tables.timing_rows(timings)))
    for line in tables.suspect_lines(timings):
        echo(line)


def _compare(first: str, second: str) -> None:
    from inception_tf.benchmark.tables import compare_timings, read_timings
    from inception_tf.cli.render import table
    from inception_tf.errors import UserError

    found = compare_timings(read_timings(first), read_timings(second))
    if not found:
        raise UserError(f"{first} and {second} have no timing in common")
    echo(table(COMPARED, found))


@command.command("data")
@click.option("--data", type=DATA_NAME, default="digits", show_default=True, help="As for `train`.")
@source_options()
@click.option("--model", default="inception_v3", show_default=True)
@click.option("--recipe", default="default", show_default=True, help="A recipe's name or a file.")
@click.option("--batch-size", type=int, help="Images per step.  [default: the recipe's]")
@click.option("--size", type=int, help="Height and width in pixels.  [default: the published size]")
@click.option("--steps", type=int, default=20, show_default=True, help="Timed batches.")
@SETTINGS
@JSON_FILE
def data_(data, reading, model, recipe, batch_size, size, steps, settings, json_file):
    """Time the input pipeline stage by stage, and compare it with the network.

    \b
    inception-tf benchmark data --data folder:flowers --model inception_v3
    """
    from inception_tf.benchmark.data import time_data
    from inception_tf.cli.render import table
    from inception_tf.data.sources.open import with_absolute_path
    from inception_tf.host.atomic_io import atomic_write_text
    from inception_tf.training.recipes import read_recipe

    words = [
        f"model.name={model}",
        *as_settings({"name": with_absolute_path(data), **reading}),
        *([f"data.batch_size={batch_size}"] if batch_size is not None else []),
        *([f"model.size={size}"] if size is not None else []),
    ]
    timing = time_data(read_recipe(recipe).override([*words, *settings]), steps)
    echo(f"{timing.data}: batch {timing.batch_size}, {timing.size}x{timing.size}, recipe {recipe}")
    rows = [
        (stage, f"{timing.milliseconds[stage]:.2f}", f"{rate:.0f}")
        for stage, rate in timing.stages.items()
    ]
    echo(table(("stage", "ms per image", "images/s up to here"), rows))
    slow, fast = sorted((timing.data_rate, timing.step))
    other = "model" if timing.slower == "data" else "data"
    echo(
        f"{model}, {timing.precision}: {timing.step:.1f} images/s of training;"
        f" the {timing.slower} is the bottleneck, the {other} is {fast / slow:.1f} times as fast"
    )
    if json_file:
        atomic_write_text(Path(json_file), json.dumps(timing.as_dict(), indent=2) + "\n")


@command.command("start-up")
@click.argument("path", metavar="RUN|SAVED_MODEL", type=InputPath("a run folder or a SavedModel"))
@click.argument("image", metavar="IMAGE")
@click.option(
    "--runs",
    type=int,
    default=5,
    show_default=True,
    help="Timed runs, after one that is not counted.",
)
@JSON_FILE
def start_up(path, image, runs, json_file):
    """Time `inception-tf predict` on one image, from its start to its first prediction.

    Each run is a separate process.  The peak is the most memory that it held.

    \b
    inception-tf benchmark start-up saved_models/digits digit.png
    """
    from inception_tf.benchmark.start_up import time_start_up
    from inception_tf.cli.render import table
    from inception_tf.host.atomic_io import atomic_write_text

    found = time_start_up(path, image, runs)
    echo(f"{found.model}: one image, {found.device}, median of {runs}")
    rows = [
        ("Python alone", found.python, ""),
        ("inception-tf --help", found.help, ""),
        ("first prediction", found.first_answer, f"{median(found.peak_memory) / 2**20:,.0f}"),
    ]
    cells = [
        (name, f"{median(times):.2f}", f"{max(times):.2f}", peak) for name, times, peak in rows
    ]
    echo(table(("what", "s", "slowest", "peak MiB"), cells))
    if json_file:
        atomic_write_text(Path(json_file), json.dumps(found.as_dict(), indent=2) + "\n")


@command.command("exports")
@click.argument(
    "path", metavar="RUN|WEIGHTS|KERAS_MODEL", type=InputPath("a run folder or a weights file")
)
@click.option("--model", help="The network of a weights file that does not say it.")
@click.option(
    "--labels",
    type=INPUT_LABELS,
    metavar="FILE",
    help="Names of the classes, for what has none of its own.",
)
@keras_options
@click.option("--data", type=DATA_NAME, help="The images, as for evaluate.  [default: the run's]")
@source_options("labels")
@click.option("--images", type=COUNT, default=200, show_default=True, help="Images to compare on.")
@click.option(
    "--repeats", type=COUNT, default=20, show_default=True, help="Single images that are timed."
)
@click.option(
    "--plot", "plot_file", type=OUTPUT_FILE, metavar="FILE.png", help="Draw a bar per format."
)
@JSON_FILE
def exports(path, model, labels, keras_model, data, reading, images, repeats, plot_file, json_file):
    """Export to every installed format, and compare size, agreement, accuracy and latency.

    All formats get the same encoded images; a time is from an image's bytes to its probabilities.
    The exports are removed afterwards.

    \b
    inception-tf benchmark exports runs/digits --plot exports.png
    """
    from inception_tf.classifiers import open_classifier
    from inception_tf.cli.render import table
    from inception_tf.data.labels import read_class_names
    from inception_tf.host.atomic_io import atomic_write_text
    from inception_tf.run_folder import open_data
    from inception_tf.serving import comparison

    found = open_classifier(path, model, keras_model)
    found = found.with_labels(read_class_names(labels) if labels else None)
    if found.labels is None:
        found = found.with_labels(tuple(map(str, range(found.classes))))
    measured = comparison.compare_exports(
        found,
        open_data(path, data, **reading),
        images=images,
        repeats=repeats,
        label_offset=reading.get("label_offset"),
        log=lambda line: echo(line, err=True),
    )
    echo(table(comparison.COLUMNS, comparison.comparison_rows(measured)))
    if plot_file:
        comparison.plot_comparison(measured, plot_file)
    if json_file:
        figures = [one.as_dict() for one in measured]
        atomic_write_text(Path(json_file), json.dumps(figures, indent=2) + "\n")
