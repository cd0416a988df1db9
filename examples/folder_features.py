# SPDX-License-Identifier: Apache-2.0
"""Parts of the other scripts: a folder of photographs and a network, and the features of the one by the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import click
import numpy as np

from inception_tf.classifiers import Classifier, open_classifier
from inception_tf.data.sources.open import open_source
from inception_tf.data.sources.splits import Source, Split
from inception_tf.errors import USER_MISTAKE, UserError
from inception_tf.evaluation.features import extract_features
from inception_tf.host.progress import progress_bar


@dataclass(frozen=True)
class Images:
    """Images with their features."""

    paths: tuple[str, ...]
    features: np.ndarray  # (N, D) float32
    classes: np.ndarray  # (N,) int


def arguments(command: Callable) -> Callable:
    """The arguments and options that the scripts have in common."""
    for option in (
        click.option(
            *("--per-class", "per_class"),
            default=8,
            show_default=True,
            type=click.IntRange(min=1),
            help="Training images of each class, spread over their names.",
        ),
        click.option("--endpoint", help="Whose features.  [default: the classifier's input]"),
        click.option("--model", help="The network of a weights file that does not say it."),
        click.argument("weights", metavar="RUN|WEIGHTS"),
        click.argument("folder"),
    ):
        command = option(command)
    return command


@contextmanager
def one_sentence() -> Iterator[None]:
    """What a user can fix ends the script with one sentence and exit code 2."""
    try:
        yield
    except UserError as error:
        refusal = click.ClickException(str(error))
        refusal.exit_code = USER_MISTAKE
        raise refusal from error


def open_both(folder: str, weights: str, model: str | None) -> tuple[Source, Classifier]:
    """The class folders, of which a tenth is the test where there is no such split, and the network."""
    return open_source(f"folder:{folder}"), open_classifier(weights, model, backbone=True)


def some_of_each(split: Split, count: int) -> Split:
    """`count` images of each class, evenly spaced by name: neighbors often show the same plant, person or place."""
    order = np.argsort(split.images, kind="stable")
    chosen = []
    for one in np.unique(split.classes):
        members = order[split.classes[order] == one]
        chosen.append(members[np.linspace(0, len(members) - 1, count).round().astype(int)])
    return split.take(np.unique(np.concatenate(chosen)))


def features_of(
    network: Classifier, splits: Sequence[Split], endpoint: str | None, *, mirrored: bool = False
) -> list[Images]:
    """The features of each split's images, in one pass; what cannot be read is named on stderr."""
    numbers = [dict(zip(map(str, split.images), split.classes, strict=True)) for split in splits]
    paths = [path for number in numbers for path in number]
    with progress_bar(len(paths), "features", leave=False) as bar:
        found = extract_features(network, paths, endpoint, mirrored=mirrored, on_images=bar.update)
    if not mirrored:  # once is enough
        for path, reason in found.skipped.items():
            click.echo(f"{path}: {reason}", err=True)
    images = []
    for number in numbers:
        rows = [row for row, path in enumerate(found.paths) if path in number]
        read = tuple(found.paths[row] for row in rows)
        images.append(Images(read, found.values[rows], np.array([number[path] for path in read])))
    return images
