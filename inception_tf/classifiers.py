# SPDX-License-Identifier: Apache-2.0
"""A path that a user gives, a run folder or a weights file, as a network that can be evaluated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import keras

from inception_tf.applications import create_model
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.data.sources.open import open_source
from inception_tf.data.sources.splits import Source, Split
from inception_tf.errors import UserError
from inception_tf.models import find_network
from inception_tf.nn.network import LOGITS
from inception_tf.run_folder import Run
from inception_tf.weights.convert import convert
from inception_tf.weights.detect import check_weights_path, detect_source
from inception_tf.weights.formats import native
from inception_tf.weights.metadata import read_preprocessing, read_switches
from inception_tf.weights.sources import NATIVE, SOURCES

__all__ = ["Classifier", "check_classes", "open_data", "open_classifier", "open_run"]


@dataclass(frozen=True)
class Classifier:
    """One network of an evaluation with the preprocessing of the images that belongs to it.

    model: (N, size, size, 3) float32 as `preprocessing` scales it → (N, K) probabilities.  labels: the K
    classes' names, or None where only their number is known.
    """

    name: str
    network: str
    model: keras.Model
    classes: int
    labels: tuple[str, ...] | None
    preprocessing: Preprocessing


def open_classifier(path: str, model: str | None = None) -> Classifier:
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
    network = find_network(model)
    check_weights_path(path)
    source = detect_source(path, SOURCES)
    if source == NATIVE:
        head = native.read_native(path).get(f"{LOGITS}/0")
        classes = None if head is None else head.shape[-1]
        arguments, weights = read_switches(path), path
        preprocessing = read_preprocessing(path) or Preprocessing(network.size)
    else:
        found = convert(model, source, path)
        classes = found.arguments.get("classes")
        arguments = found.switches
        weights, preprocessing = None, found.preprocessing
    if classes is None:
        raise UserError(f"{path} holds no classifier; evaluate takes weights that have one")
    shape = (preprocessing.size, preprocessing.size, 3)
    built = create_model(model, classes=classes, input_shape=shape, weights=weights, **arguments)
    if weights is None:  # the same without auxiliary classifiers, at the size of its images
        theirs = {variable.path: variable for variable in found.model.weights}
        for variable in built.weights:
            variable.assign(theirs[variable.path])
    return Classifier(path, model, built, classes, None, preprocessing)


def open_run(path: str | Path) -> Classifier:
    """The trained network of a run folder with the preprocessing of the images that its configuration gives it."""
    run = Run(Path(path))
    config, labels = run.config(), run.labels()
    preprocessing = Preprocessing(run.size(), config.data.crop)
    return Classifier(str(path), config.model.name, run.model(), len(labels), labels, preprocessing)


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


def check_classes(member: Classifier, source: Source, split: Split) -> None:
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
