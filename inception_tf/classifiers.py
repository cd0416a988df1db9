# SPDX-License-Identifier: Apache-2.0
"""A run folder or a weights file, as the user names it, opened as a network that can be evaluated."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from inception_tf.applications import create_model
from inception_tf.data.keras_options import SCALE_NAMES, KerasOptions
from inception_tf.data.labels import has_background_output
from inception_tf.data.preprocessing import Preprocessing, preprocessing_of_run
from inception_tf.errors import UserError
from inception_tf.keras_classifiers import read_keras_classifier
from inception_tf.models import find_network
from inception_tf.nn.network import LOGITS, gives_several_classes
from inception_tf.run_folder import Run
from inception_tf.weights.convert import convert
from inception_tf.weights.detect import check_weights_path, detect_source
from inception_tf.weights.formats.keras_model import is_whole_model
from inception_tf.weights.heads import HeadError
from inception_tf.weights.hub import local_file
from inception_tf.weights.limits import network_limit
from inception_tf.weights.load import load_weights
from inception_tf.weights.metadata import layer_arguments, stored_metadata
from inception_tf.weights.recognize import describe_file, is_of_package
from inception_tf.weights.sources import NATIVE, SOURCES

__all__ = [
    "Classifier",
    "open_classifier",
    "open_run",
    "open_weights",
]


RGB = 3  # input channels
NOTHING_SAID = KerasOptions()


@dataclass(frozen=True)
class Classifier:
    """A network with its labels and its preprocessing.

    Example:

        classifier = open_classifier("runs/digits")
        classifier.model.predict(images)
    """

    name: str  # the path that it was opened from
    network: str
    # (N, size, size, 3) float32, scaled as `preprocessing` says → (N, K) probabilities
    model: keras.Model
    classes: int  # K; 0: the backbone alone, whose output is its final feature map
    labels: tuple[str, ...] | None  # K class names; None where only their number is known
    preprocessing: Preprocessing
    temperature: float = 1.0  # that the logits were divided by
    multi_label: bool = False  # the classes are independent, and an image shows any number of them
    # The switches, `activation` and `width_multiplier` of the network, where they are not its defaults; None: not known.
    switches: Mapping[str, Any] | None = None
    # What its user said of it, where it is a Keras model of another project.
    keras_options: KerasOptions | None = None
    notes: tuple[str, ...] = ()  # sentences for the user: what was found in such a model

    def with_labels(self, labels: Sequence[str] | None) -> Classifier:
        """Names the classes.

        Args:
            labels: K class names; None: as they are.

        Returns:
            A classifier with these labels.

        Raises:
            UserError: Their number is not K.
        """
        if labels is None:
            return self
        if len(labels) != self.classes:
            raise UserError(
                f"there are {len(labels)} labels for the {self.classes} classes of {self.name}"
            )
        return dataclasses.replace(self, labels=tuple(labels))

    @property
    def has_background(self) -> bool:
        """Whether the first output is a background, which no image shows."""
        return has_background_output(self.classes, self.labels)


def open_classifier(
    path: str,
    model: str | None = None,
    options: KerasOptions = NOTHING_SAID,
    *,
    backbone: bool = False,
) -> Classifier:
    """Opens a run folder, a weights file of this or another project, or a Keras model of another project.

    A weights file says how many classes it has and, where it was converted or downloaded, how its images are
    prepared; other files of this project are assumed to need slim's preprocessing.

    Args:
        path: a run folder, or a weights file as `load_weights` accepts it, also of the Hub (`hf://`).
        model: the name of the network that a weights file of another project belongs to; None for a file of this
            project, which says so itself; ignored for a run folder.
        options: what the user says of a Keras model that is no network of this package.
        backbone: accept a weights file without a classifier, or with one of the user's, too, whose network then ends
            with its final feature map.

    Returns:
        The classifier, without auxiliary classifiers.

    Raises:
        UserError: nothing is at `path`, `model` is missing, or the file holds no classifier.
    """
    path = local_file(path)
    if Path(path).is_dir() and not path.endswith(".keras"):
        _refuse_options(path, "a run, which says", options)
        return open_run(path)
    if not Path(path).exists() and not Path(f"{path}.index").exists():
        raise UserError(f"there is no {path}; give a run folder or a weights file")
    check_weights_path(path)
    if model is None and is_whole_model(path) and (options.given() or not is_of_package(path)):
        return _open_keras(path, options)
    _refuse_options(path, "a weights file of a known network, which says", options)
    source = detect_source(path, SOURCES, _limit(model))
    if source == NATIVE:
        return _open_native(path, model, backbone)
    if model is None:
        raise UserError(f"{path} is a weights file; say with --model which network it belongs to")
    try:
        found = convert(model, source, path)
    except HeadError:
        if not backbone:
            raise
        found = convert(model, source, path, skip_head=True)
    classes, preprocessing = found.arguments.get("classes"), found.preprocessing
    built = _built(path, model, classes, preprocessing, found.switches, backbone)
    # The same without auxiliary classifiers, at the size of its images.
    theirs = {variable.path: variable for variable in found.model.weights}
    for variable in built.weights:
        variable.assign(theirs[variable.path])
    return Classifier(
        *(path, model, built, classes or 0, None, preprocessing), switches=found.switches
    )


def _open_keras(path: str, options: KerasOptions) -> Classifier:
    """A model of Keras' own layers, whatever network it is."""
    stored = stored_metadata(path).preprocessing
    if stored and options.scale and SCALE_NAMES.get(options.scale) != stored.scale:
        raise UserError(
            f"'{path}' says that its pixels are scaled as '{stored.scale}', and --scale says {options.scale}"
        )
    found = read_keras_classifier(path, options)
    return Classifier(
        *(path, found.model.name, found.model, found.model.output_shape[-1], None),
        preprocessing=found.preprocessing,
        multi_label=found.head == "sigmoid",
        keras_options=options,
        notes=found.notes,
    )


def _refuse_options(path: str, what: str, options: KerasOptions) -> None:
    if options.given():
        named = ", ".join(f"--{name}" for name in options.given())
        raise UserError(
            f"{path} is {what} itself how its images are prepared; {named} is for Keras models of other projects"
        )


def _open_native(path: str, model: str | None, backbone: bool) -> Classifier:
    """A weights file of this project, which says what it is."""
    found = describe_file(path, model)
    switches = found.switches | found.layers
    arguments = switches | {"classifier_activation": found.activation}
    built = _built(path, found.network, found.classes, found.preprocessing, arguments, backbone)
    load_weights(built, path, NATIVE)
    return Classifier(
        *(path, found.network, built, found.classes or 0, None, found.preprocessing),
        multi_label=found.classes is not None and gives_several_classes(built),
        switches=switches,
    )


def _limit(model: str | None) -> int | None:
    return network_limit(find_network(model)) if model else None


def _built(
    path: str,
    network: str,
    classes: int | None,
    preprocessing: Preprocessing,
    arguments: Mapping[str, Any],
    backbone: bool,
) -> keras.Model:
    """The network without auxiliary classifiers, at the size of its images."""
    shape = (preprocessing.size, preprocessing.size, 3)
    if classes is not None:
        return create_model(network, classes=classes, input_shape=shape, **arguments)
    if not backbone:
        raise UserError(
            f"{path} holds no classifier, and so names no classes; train --weights starts from it, and features"
            " writes what its layers see"
        )
    return create_model(network, include_top=False, input_shape=shape, **arguments)


def open_weights(
    path: str, model: str | None = None, source: str | None = None
) -> tuple[str, dict[str, Any], keras.Model]:
    """Opens a run folder, or a weights file of this or another project, with all the classifiers that it has.

    Args:
        path: a run folder, or a weights file as `load_weights` accepts it.
        model: the name of the network that a weights file belongs to; ignored for a run folder.
        source: the project that a weights file is from; None: by its name and format.

    Returns:
        The network's name, its variant switches, and the model.

    Raises:
        UserError: nothing is at `path`, `model` is missing, or the file does not fit the network.
    """
    if Path(path).is_dir() and not path.endswith(".keras"):
        run = Run(Path(path))
        config = run.config().model
        return config.name, dict(config.switches), run.model()
    check_weights_path(path)
    source = source or detect_source(path, SOURCES, _limit(model))
    if source != NATIVE:
        if model is None:
            raise UserError(
                f"{path} is a weights file; say with --model which network it belongs to"
            )
        converted = convert(model, source, path)
        return model, converted.switches, converted.model
    found = describe_file(path, model)
    arguments: dict[str, Any] = (
        {"include_top": False} if found.classes is None else {"classes": found.classes}
    )
    if found.classes is not None and found.aux_logits:
        arguments["aux_logits"] = True
    if found.channels != RGB:
        size = find_network(found.network).size
        arguments["input_shape"] = (size, size, found.channels)
    built = create_model(found.network, **arguments, **found.switches, **found.layers)
    load_weights(built, path, NATIVE)
    return found.network, found.switches, built


def open_run(path: str | Path) -> Classifier:
    """Opens a run folder with the preprocessing of its configuration, and its temperature in the weights of its logits.

    Args:
        path: the run folder.

    Returns:
        The trained classifier.
    """
    run = Run(Path(path))
    config, labels = run.config(), run.labels()
    preprocessing = preprocessing_of_run(config.data, run.size())
    model, temperature = run.model(), run.temperature()
    logits = model.get_layer(LOGITS)
    if temperature != 1:
        for variable in logits.weights:
            variable.assign(keras.ops.convert_to_numpy(variable) / temperature)
    layers, switches = layer_arguments(config.model.structure())
    return Classifier(
        *(str(path), config.model.name, model, len(labels), labels, preprocessing),
        temperature,
        config.data.multi_label,
        layers | switches,
    )
