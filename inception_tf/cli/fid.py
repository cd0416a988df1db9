# SPDX-License-Identifier: Apache-2.0
"""`inception-tf fid`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from inception_tf.cli.fid_tables import (
    anchor_table,
    comparison_lines,
    tool_table,
)
from inception_tf.cli.options import AS_JSON, batch_size_option
from inception_tf.cli.output import echo
from inception_tf.cli.paths import OUTPUT_FILE, WEIGHTS_NAME
from inception_tf.errors import OUR_FAILURE, USER_MISTAKE, UserError, printable
from inception_tf.generative.conventions import CONVENTIONS, TORCH_FIDELITY
from inception_tf.generative.settings import METRICS, TAPS

if TYPE_CHECKING:
    from inception_tf.generative.results import Comparison

__all__ = ["command"]

PREFIXES = ("tfrecord:", "tfds:", "csv:", "folder:")


class ImagesPath(click.ParamType):
    """A set of images by name, or a file of statistics."""

    name = "path"

    def convert(self, value, param, ctx):
        import glob

        known = value.startswith(PREFIXES) or glob.has_magic(value) or os.path.exists(value)
        if not known:
            raise UserError(
                f"there is no {printable(value)}; give a folder of images, a pattern in quotes, tfrecord:GLOB,"
                " or a .npz file of statistics"
            )
        return value


@click.command("fid")
@click.argument("first", metavar="[A]", required=False, type=ImagesPath())
@click.argument("second", metavar="[B]", required=False, type=ImagesPath())
@click.option(
    "--metrics",
    default="fid",
    show_default=True,
    metavar=",".join(METRICS),
    help="Which metrics, separated by commas; is is that of A.",
)
@click.option(
    "--features",
    type=click.Choice(TAPS),
    default="2048",
    show_default=True,
    help="The tap whose features are compared; fewer features need fewer images.",
)
@click.option(
    "--like",
    type=click.Choice(tuple(CONVENTIONS)),
    default=TORCH_FIDELITY,
    show_default=True,
    help="The tool whose resize, scale and definitions are used.",
)
@click.option(
    "--weights",
    type=WEIGHTS_NAME,
    default="fid_2015",
    show_default=True,
    metavar="NAME|FILE",
    help="The network of 2015, or a weights file of Inception V3.",
)
@click.option(
    "--save",
    type=OUTPUT_FILE,
    metavar="STATS.npz",
    help="Write mean and covariance of A's features, as mu and sigma; B may then be missing.",
)
@click.option("--why", is_flag=True, help="Compare in the way of every tool, and say what differs.")
@click.option(
    "--infinity",
    is_flag=True,
    help="Also the standard error of FID, and FID for infinitely many images; holds A's features in memory.",
)
@click.option(
    "--allow-singular",
    is_flag=True,
    help="Compute FID where there are no more images than features.",
)
@click.option(
    "--subset-size",
    type=click.IntRange(min=2),
    help="Images of a subset of KID.  [default: the tool's, 1000]",
)
@click.option(
    "--backend",
    type=click.Choice(("tensorflow", "openvino", "keras")),
    default="tensorflow",
    show_default=True,
    help="keras: the backend of KERAS_BACKEND, such as jax or torch.",
)
@click.option(
    "--precision",
    type=click.Choice(("float32", "bfloat16", "int8")),
    default="float32",
    show_default=True,
    help="Below float32 the error of FID is measured on a part of the images; int8 is OpenVINO's.",
)
@click.option("--key", metavar="KEY", help="The feature of tfrecord: data with the encoded image.")
@click.option(
    "--count", type=click.IntRange(min=1), metavar="N", help="Use the first N images of each set."
)
@click.option("--no-cache", is_flag=True, help="Neither use nor keep features.")
@click.option(
    "--self-check",
    "self_check",
    is_flag=True,
    help="Compute published values of CIFAR-10 with these weights, and say whether they come out.",
)
@batch_size_option("Images")
@AS_JSON
def command(
    first, second, metrics, why, self_check, save, as_json, no_cache, key, count, **options
):
    """Compare the images A, generated, with the images B, real, by the features of Inception V3.

    A and B are folders, patterns in quotes, tfrecord:GLOB, or .npz files with mu and sigma.  An image that cannot be
    read is skipped and reported on stderr, and the exit code is 2.

    \b
    inception-tf fid samples train
    inception-tf fid samples train.npz --like pytorch-fid
    inception-tf fid samples train --metrics fid,is,kid,prc --why
    """
    chosen = tuple(dict.fromkeys(one.strip() for one in metrics.split(",") if one.strip()))
    tap = options.pop("features")
    options |= {"features": tap, "cache": not no_cache}
    if self_check:
        return _self_check(options, as_json, given=first or save or why)
    if first is None:
        raise UserError(
            "give the images to compare: inception-tf fid A B; see inception-tf fid --help"
        )
    if save and Path(save).suffix != ".npz":
        raise UserError(f"{save} must end in .npz, which is how FID's tools know statistics")
    if save and "fid" not in chosen:
        raise UserError("--save writes the statistics of FID; add fid to --metrics")
    if second is None and not save and chosen != ("is",):
        raise UserError(
            "give B, too, or --metrics is, or --save STATS.npz for A's statistics alone"
        )
    options |= {"metrics": chosen}
    # Of statistics alone there is nothing to read, and no TensorFlow is needed.
    options |= {
        name: value for name, value in (("key", key), ("count", count)) if value is not None
    }
    if why:
        return _why(first, second, options, save, as_json)
    from inception_tf.generative.comparison import compute

    found = compute(first, second, **options)
    if save and found.statistics is not None:
        found.statistics.write(Path(save))
    if as_json:
        echo(json.dumps(found.as_json(), indent=2))
    else:
        echo("\n".join(comparison_lines(found)))
        if save:
            echo(f"mean and covariance of {found.first.name}: {save}")
    return _say([found], as_json)


def _why(
    first: str, second: str | None, options: Mapping[str, Any], save: str | None, as_json: bool
) -> int:
    from inception_tf.generative.why import compare_tools, tool_differences

    if second is None or save:
        raise UserError(
            "--why compares A with B, and writes no statistics; give both and no --save"
        )
    options = {name: value for name, value in options.items() if name != "like"}
    found = compare_tools(first, second, **options)
    different = tool_differences()
    if as_json:
        tools = {one.convention.name: one.as_json() for one in found}
        echo(json.dumps({"tools": tools, "differences": different}, indent=2))
    else:
        echo(tool_table(found, different))
    return _say(found, as_json)


def _self_check(options: dict[str, Any], as_json: bool, *, given: object) -> int:
    from inception_tf.generative.self_check import check_anchors, load_cifar10

    if given:
        raise UserError("--self-check takes no images; give it without A and B, --save and --why")
    options = {
        name: options[name] for name in ("weights", "backend", "precision", "batch_size", "cache")
    }
    outcomes = check_anchors(*load_cifar10(), **options)
    if as_json:
        rows = [
            {
                "metric": one.anchor.metric,
                "published": one.anchor.value,
                "found": one.found,
                "agrees": one.agrees,
                "source": one.anchor.source,
            }
            for one in outcomes
        ]
        echo(json.dumps(rows, indent=2))
    else:
        echo(anchor_table(outcomes))
    return 0 if all(one.agrees for one in outcomes) else OUR_FAILURE


def _say(comparisons: list[Comparison], as_json: bool) -> int:
    """Warnings and skipped images on stderr; the exit code."""
    if not as_json:
        for warning in dict.fromkeys(one for found in comparisons for one in found.warnings):
            echo(f"warning: {warning}", err=True)
    skipped: dict[str, str] = {}
    for found in comparisons:
        for side in (found.first, found.second):
            skipped |= side.skipped if side is not None else {}
    for name, reason in sorted(skipped.items()):
        echo(f"inception-tf: {name}: {reason}", err=True)
    return USER_MISTAKE if skipped else 0
