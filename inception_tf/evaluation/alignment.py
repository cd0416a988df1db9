# SPDX-License-Identifier: Apache-2.0
"""Which output of a network each label of a data set means: background classes, orders of names, their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inception_tf.classifiers import Classifier
from inception_tf.data.labels import has_background_row
from inception_tf.data.sources.splits import Source, Split
from inception_tf.errors import UserError
from inception_tf.weights.registry import FID_CLASSES

__all__ = ["Alignment", "align_classes"]


@dataclass(frozen=True)
class Alignment:
    """How the labels of a data set are those of a network."""

    shift: int  # added to a label of the data to give the network's output: 1, 0 or -1
    note: str  # a sentence for the user; empty where there is nothing to say


def align_classes(
    classifiers: Sequence[Classifier],
    source: Source,
    split: Split,
    label_offset: int | None = None,
) -> list[Alignment]:
    """Settles which output of each network a label of the data means, before any image is read.

    A network may have a background as its first output, and the data may count one as its label 0.  Names say so on
    both sides.  Without names a network of 1,001 classes has one, and the data has one where `label_offset` says so:
    not given, its labels are the outputs of a network with a background, unless an image has label 0.

    Args:
        classifiers: the networks to evaluate together.
        source: the data set, for its class names.
        split: the images to evaluate on, for their labels.
        label_offset: what the user subtracts from the labels; None: not given.

    Returns:
        For each network how its outputs are aligned.

    Raises:
        UserError: the classes of a network are not those of the data, or not those of the other networks.
    """
    for classifier in classifiers:
        _check_order(classifier)
    if split.targets is not None or any(classifier.multi_label for classifier in classifiers):
        _check_multi_label(classifiers, source, split)
        return [Alignment(0, "")] * len(classifiers)
    counted = _counts_background(classifiers, source, split, label_offset)
    aligned = [_align(classifier, source, split, counted) for classifier in classifiers]
    kinds = {classifier.classes - classifier.has_background for classifier in classifiers}
    if len(kinds) > 1:
        found = ", ".join(f"{one.name} {one.classes}" for one in classifiers)
        raise UserError(
            f"the predictions of networks with different classes cannot be averaged: {found}; evaluate"
            " them one by one"
        )
    if counted and (split.classes == 0).any() and not all(c.has_background for c in classifiers):
        without = next(c.name for c in classifiers if not c.has_background)
        raise UserError(
            f"an image has label 0, the background, which {without} does not have; evaluate on images of its classes"
        )
    return aligned


def _check_multi_label(classifiers: Sequence[Classifier], source: Source, split: Split) -> None:
    """Checks that networks of independent classes were trained for those of multi-label data."""
    for classifier in classifiers:
        if not classifier.multi_label:
            raise UserError(
                f"{classifier.name} gives each image one class, and the others here give several; evaluate them one by"
                " one"
                if any(other.multi_label for other in classifiers)
                else f"{classifier.name} gives each image one class, and {source.name} is read with several"
            )
        if split.targets is None:
            raise UserError(
                f"{classifier.name} gives an image several classes, and {source.name} is read with one"
            )
        if classifier.labels is not None and classifier.labels != source.labels:
            ours, theirs = (", ".join(labels) for labels in (classifier.labels, source.labels))
            raise UserError(
                f"{classifier.name} has the classes {ours}, and {source.name} has {theirs}; evaluate on data with the"
                " same classes"
            )


def _counts_background(
    classifiers: Sequence[Classifier], source: Source, split: Split, label_offset: int | None
) -> bool:
    """Whether the labels of the data count a background as 0."""
    if source.named:
        return has_background_row(source.labels)
    having = [classifier for classifier in classifiers if classifier.has_background]
    if label_offset or not having:
        return False
    lowest, highest = int(split.classes.min()), int(split.classes.max())
    if highest >= having[0].classes - 1:
        return True  # more than its classes without the background
    return label_offset is None and lowest > 0


def _align(classifier: Classifier, source: Source, split: Split, counted: bool) -> Alignment:
    shift = int(classifier.has_background) - int(counted)
    _check_classes(classifier, source, split, shift)
    if shift == 1:
        note = (
            f"{classifier.name} has a background as its first class, which the labels do not count"
        )
    elif shift == -1:
        note = f"label 0 is a background, which {classifier.name} does not have"
    elif counted:
        note = f"label 0 is the background, the first class of {classifier.name}"
    else:
        note = ""
    return Alignment(shift, note)


def _check_order(classifier: Classifier) -> None:
    if classifier.labels is None and classifier.classes == FID_CLASSES:
        raise UserError(
            f"{classifier.name} has the {FID_CLASSES:,} classes of the graph of 2015, in the order of its own label"
            " map and not of any data; it is used for its features"
        )


def _check_classes(classifier: Classifier, source: Source, split: Split, shift: int) -> None:
    """Checks that a network was trained for the classes of a data set.

    Classes are compared by name where both have names, else by number: data without names may show fewer
    classes than the network has.
    """
    highest = int(split.classes.max())
    if highest + shift >= classifier.classes:
        hint = (
            "; with --label-offset 1 the data's class 0 is a background"
            if source.name.startswith("tfrecord:") and highest == classifier.classes
            else "; evaluate on the data that the model was trained for"
        )
        raise UserError(
            f"{classifier.name} has {classifier.classes} classes and the data has class {highest}{hint}"
        )
    if not source.named:
        return
    if classifier.classes - shift != len(source.labels):
        raise UserError(
            f"{classifier.name} has {classifier.classes} classes and the data has {len(source.labels)};"
            " evaluate on the data that the model was trained for"
        )
    if classifier.labels is None:
        return
    for index, (ours, theirs) in enumerate(
        zip(
            classifier.labels[max(shift, 0) :],
            source.labels[max(-shift, 0) :],
            strict=True,
        )
    ):
        if ours != theirs:
            raise UserError(
                f"class {index} is '{ours}' in {classifier.name} and '{theirs}' in the data;"
                " evaluate on data with the same class names"
            )
