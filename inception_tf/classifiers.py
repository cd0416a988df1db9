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
from inception_tf.data.labels import has_background_output, has_background_row
from inception_tf.data.preprocessing import Preprocessing, preprocessing_of_run
from inception_tf.data.sources.open import open_source
from inception_tf.data.sources.splits import Source, Split
from inception_tf.errors import UserError
from inception_tf.keras_classifiers import read_keras_classifier
from inception_tf.models import find_network
from inception_tf.nn.network import LOGITS, gives_several_classes
from inception_tf.run_folder import Run
from inception_tf.weights import load_weights
from inception_tf.weights.convert import convert
from inception_tf.weights.detect import check_weights_path, detect_source
from inception_tf.weights.formats.keras_model import is_whole_model
from inception_tf.weights.hub import local_file
from inception_tf.weights.limits import network_limit
from inception_tf.weights.metadata import layer_arguments, read_metadata
from inception_tf.weights.names.torch import FID_CLASSES
from inception_tf.weights.recognize import describe_file, is_of_package
from inception_tf.weights.sources import NATIVE, SOURCES
from inception_tf.weights.transfer import HeadError

__all__ = [
    "Alignment",
    "Classifier",
    "align_classes",
    "open_classifier",
    "open_data",
    "open_run",
    "open_weights",
]


RGB = 3  # input channels
OF_THE_NETWORK = ("multi_label", "label_separator")  # settings of `data` that a run's network keeps
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


@dataclass(frozen=True)
class Alignment:
    """How the labels of a data set are those of a network."""

    shift: int  # added to a label of the data to give the network's output: 1, 0 or -1
    note: str  # a sentence for the user; empty where there is nothing to say


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
    stored = read_metadata(path).preprocessing
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


def open_data(path: str, name: str | None = None, **reading: Any) -> Source:
    """Opens a named data set, or the one that a run was trained on.

    Args:
        path: a run folder; only read where `name` is None.
        name: a data set as `--data` takes it; None: the run's.
        **reading: how it is read, as `DataConfig.reading` has it; what is missing: as the run does, or the default.

    Returns:
        The data source.

    Raises:
        UserError: `name` is None and `path` is a weights file, which has no data set.
    """
    run = Run(Path(path))
    config = run.config().data if run.config_file.is_file() else None
    if name:
        # What the network tells apart decides what its data is.
        kept = {} if config is None else {key: getattr(config, key) for key in OF_THE_NETWORK}
        return open_source(name, **(kept | reading))
    if Path(path).is_file():
        raise UserError(f"{path} is a weights file; say with --data what to evaluate it on")
    config = config or run.config().data  # its error, where there is no run
    return open_source(config.name, **(config.reading() | reading))


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
