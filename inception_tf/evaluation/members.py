# SPDX-License-Identifier: Apache-2.0
"""A path that a user gives, a run folder or a weights file, as a network that can be evaluated."""

from __future__ import annotations

from pathlib import Path

from inception_tf.applications import create_model
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.data.sources import open_source
from inception_tf.data.splits import Source, Split
from inception_tf.errors import UserError
from inception_tf.evaluation.scores import Member
from inception_tf.models import find
from inception_tf.models.build import LOGITS
from inception_tf.training.run import Run
from inception_tf.weights import own
from inception_tf.weights.convert import SOURCES, convert
from inception_tf.weights.guess import check, guess
from inception_tf.weights.view import read_switches, read_view

__all__ = ["check_classes", "open_data", "open_member", "open_run"]


def open_member(path: str, model: str | None = None) -> Member:
    """A run folder by itself, or a weights file, our own or another project's, of the network `model`.

    The file says how many classes it tells apart and, if it was converted or fetched, how its
    images are prepared; any other of our own is taken for slim's way.
    """
    if Path(path).is_dir() and not path.endswith(".keras"):
        return open_run(path)
    if not Path(path).exists() and not Path(f"{path}.index").exists():
        raise UserError(f"there is no {path}; give a run folder or a weights file")
    if model is None:
        raise UserError(f"{path} is a weights file; say with --model which network it belongs to")
    network = find(model)
    check(path)
    source = guess(path, ("own", *SOURCES))
    if source == "own":
        head = own.read(path).get(f"{LOGITS}/0")
        classes = None if head is None else head.shape[-1]
        arguments, weights = read_switches(path), path
        view = read_view(path) or Preprocessing(network.size)
    else:
        found = convert(model, source, path)
        classes = found.arguments.get("classes")
        arguments = found.switches
        weights, view = None, found.view
    if classes is None:
        raise UserError(f"{path} holds no classifier; evaluate takes weights that have one")
    shape = (view.size, view.size, 3)
    built = create_model(model, classes=classes, input_shape=shape, weights=weights, **arguments)
    if weights is None:  # the same without auxiliary classifiers, at the size of its images
        theirs = {variable.path: variable for variable in found.model.weights}
        for variable in built.weights:
            variable.assign(theirs[variable.path])
    return Member(path, model, built, classes, None, view)


def open_run(path: str | Path) -> Member:
    """The trained network of a run folder with the view of the images that its configuration gives it."""
    run = Run(Path(path))
    config, labels = run.config(), run.labels()
    view = Preprocessing(run.size(), config.data.crop)
    return Member(str(path), config.model.name, run.model(), len(labels), labels, view)


def open_data(path: str, name: str | None = None, label_offset: int | None = None) -> Source:
    """The data called `name`, or that of the run `path` as it was trained on.

    label_offset: as `open_source` takes it; None: the run's, or 0.
    """
    if name:
        return open_source(name, label_offset=label_offset or 0)
    if Path(path).is_file():
        raise UserError(f"{path} is a weights file; say with --data what to evaluate it on")
    config = Run(Path(path)).config().data
    offset = config.label_offset if label_offset is None else label_offset
    return open_source(config.name, label_offset=offset)


def check_classes(member: Member, source: Source, split: Split) -> None:
    """Raises `UserError` where the network's classes are not those of the data.

    Classes are compared by name where both have names, else by number: data that does not name its
    classes may show fewer than the network tells apart.
    """
    highest = int(split.classes.max())
    if highest >= member.classes:
        hint = (
            "; with --label-offset 1 the data's class 0 is a background"
            if source.name.startswith("tfrecord:") and highest == member.classes
            else "; evaluate on the data that the model was trained for"
        )
        raise UserError(
            f"{member.name} has {member.classes} classes and the data has class {highest}{hint}"
        )
    if not source.named:
        return
    if member.classes != len(source.labels):
        raise UserError(
            f"{member.name} has {member.classes} classes and the data has {len(source.labels)};"
            " evaluate on the data that the model was trained for"
        )
    for index, (ours, theirs) in enumerate(
        zip(member.labels or source.labels, source.labels, strict=True)
    ):
        if ours != theirs:
            raise UserError(
                f"class {index} is '{ours}' in {member.name} and '{theirs}' in the data;"
                " evaluate on data with the same class names"
            )
