# SPDX-License-Identifier: Apache-2.0
"""Raw images in, named answers out, in Python."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

import keras
import numpy as np
import tensorflow as tf

from inception_tf.classifiers import Classifier, open_classifier, open_run
from inception_tf.data.keras_options import KerasOptions
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.errors import UserError
from inception_tf.host.backend import needs_tensorflow_backend
from inception_tf.inference.prediction import THRESHOLD, Prediction, read_image
from inception_tf.nn.network import gives_several_classes
from inception_tf.run_folder import Run
from inception_tf.serving.predict import (
    BATCH_SIZE,
    PredictFunction,
    in_process,
    open_model,
    ranked,
    threshold_of,
    wanted,
)

__all__ = ["ImageClassifier", "Images", "classifier", "function_of"]

Image: TypeAlias = str | os.PathLike | np.ndarray
Images: TypeAlias = Image | Iterable[Image]


class ImageClassifier:
    """A network with its preprocessing and its class names; made by `inception_tf.classifier`.

    Args:
        classify: A function of encoded images, as `open_model` gives it.
        threshold: The lowest probability of a class that is predicted, of independent classes; None: the best ones are.
        network: Opens the network that `classify` runs, for `explain`; None: there is none with gradients.
    """

    def __init__(
        self,
        classify: PredictFunction,
        threshold: float | None = None,
        network: Callable[[], Classifier] | None = None,
    ):
        self._classify = classify
        self._threshold = threshold
        self._network = network

    def predict(
        self, images: Images, top: int | None = None, threshold: float | None = None
    ) -> list[Prediction]:
        """Classifies images.

        Args:
            images: A path, an array (H, W, 3) or (H, W, 1) or (H, W) uint8, an array (N, H, W, C) of several, or a
                list of paths and arrays.
            top: How many of the best classes a prediction has; None: 5, or with a threshold all above it.
            threshold: The lowest probability of a class that a prediction has; None: 0.5 where the classes are
                independent, so that an image has any number of them, else none.

        Returns:
            A prediction for each image, in order: `image`, its path or its number; `top`, pairs (class name,
            probability), best first; `status`, `ok` or why the image cannot be read, which has no classes.

        Raises:
            UserError: An array is not of these shapes or not uint8.
        """
        if isinstance(images, str | os.PathLike) or (
            isinstance(images, np.ndarray) and images.ndim < 4
        ):
            images = [images]
        items = list(images)
        threshold = self._threshold if threshold is None else threshold
        top = wanted(top, threshold)
        predictions: list[Prediction] = []
        for start in range(0, len(items), BATCH_SIZE):
            chunk = items[start : start + BATCH_SIZE]
            read = [_encoded(image, start + place) for place, image in enumerate(chunk)]
            found = self._classify([data for _, data, _ in read], top)
            predictions += [
                Prediction(name, reason or status, best).above(threshold)
                for (name, _, reason), (status, best) in zip(read, found, strict=True)
            ]
        return predictions

    def explain(
        self,
        images: str | os.PathLike | Iterable[str | os.PathLike],
        folder: str | os.PathLike,
        endpoint: str | None = None,
    ) -> list[Path]:
        """Draws beside each image where the network sees its best class (Grad-CAM, Selvaraju et al. 2017).

        Args:
            images: Paths of image files.
            folder: Where to write a PNG for each image, made where it is missing.
            endpoint: Whose feature maps are drawn, a name of `endpoints(model)`; None: the last mixed block.

        Returns:
            The files, in order, of the images that can be read.

        Raises:
            UserError: The model is an export, which has no gradients, or has no such endpoint, or matplotlib is missing.

        Example:
            classifier("runs/photos").explain(["rose.jpg"], "heat")
        """
        if self._network is None:
            raise UserError(
                "an export has no gradients to explain its answers by; open the run or the weights that it was made of"
            )
        from inception_tf.inference.saliency import choose_endpoint
        from inception_tf.serving.explain import explain

        paths = [images] if isinstance(images, str | os.PathLike) else list(images)
        for path in paths:
            if not isinstance(path, str | os.PathLike):
                raise UserError(f"explain takes paths of image files, got {type(path).__name__}")
        network = self._network()
        endpoint = choose_endpoint(network.model, endpoint)
        return explain(network, self.predict(paths, top=1), Path(folder), endpoint)


def classifier(
    source: str | os.PathLike | Run | keras.Model,
    *,
    model: str | None = None,
    labels: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    scale: str | None = None,
    size: int | None = None,
    head: str | None = None,
) -> ImageClassifier:
    """Opens a network for raw images.

    Args:
        source: A run or its folder, a SavedModel, a folder of another runtime, a weights file, or a Keras model
            (N, S, S, 3) → (N, K) probabilities.
        model: The name of the network, for a weights file that does not say it.
        labels: K class names, for what has none of its own; None: the numbers of the classes.
        preprocessing: What a Keras model expects; None: images of its input's size, the whole image, in [-1, 1].
        scale: Of the pixels that a Keras model's file expects: unit, zero_one, torch, vgg, caffe or none.
        size: Height and width of its images, where it takes any.
        head: What it gives, where its last layer does not show it: softmax, sigmoid or logits.

    Returns:
        The classifier.

    Raises:
        UserError: There is nothing to open, or the number of labels is not that of the classes.

    Example:
        for answer in classifier("runs/photos").predict(["rose.jpg", "tulip.jpg"], top=1):
            print(answer.image, answer.top)
    """
    if isinstance(source, keras.Model):
        threshold = THRESHOLD if gives_several_classes(source) else None
        opened = _of_model(source, preprocessing)
        return ImageClassifier(function_of(opened, labels), threshold, lambda: opened)
    path = str(source.path if isinstance(source, Run) else source)
    if Path(path).is_dir() and labels is None and not path.endswith(".keras"):
        opens = partial(open_run, path) if Run(Path(path)).config_file.is_file() else None
        return ImageClassifier(open_model(path), threshold_of(path), opens)
    found = open_classifier(path, model, KerasOptions(scale, size, head))
    threshold = THRESHOLD if found.multi_label else None
    return ImageClassifier(function_of(found, labels), threshold, lambda: found)


def function_of(found: Classifier, labels: Sequence[str] | None = None) -> PredictFunction:
    """Makes a function of encoded images from an open classifier.

    Args:
        found: The network with its preprocessing.
        labels: K class names; None: its own, or the numbers of the classes.

    Returns:
        As `open_model` does.

    Raises:
        UserError: The number of labels is not K.
    """
    needs_tensorflow_backend("predicting with a network that is not exported")
    names = tuple(labels or found.labels or map(str, range(found.classes)))
    if len(names) != found.classes:
        raise UserError(
            f"there are {len(names)} labels for the {found.classes} classes of {found.name}"
        )
    return ranked(in_process(found.model, names, found.preprocessing), names)


def _of_model(model: keras.Model, preprocessing: Preprocessing | None) -> Classifier:
    shape = model.input_shape
    if (
        isinstance(shape, list)
        or len(shape) != 4
        or shape[3] != 3
        or isinstance(model.output_shape, dict)
    ):
        raise UserError(
            f"a classifier takes one batch of RGB images, (N, H, W, 3), and gives one of probabilities; '{model.name}'"
            f" takes {shape} and gives {model.output_shape}"
        )
    if preprocessing is None:
        if shape[1] is None or shape[1] != shape[2]:
            raise UserError(
                f"'{model.name}' takes images of {shape[1]}x{shape[2]} pixels; say with preprocessing=Preprocessing(size)"
                " what it expects"
            )
        preprocessing = Preprocessing(shape[1], None)
    classes = model.output_shape[-1]
    return Classifier(model.name, model.name, model, classes, None, preprocessing)


def _encoded(image: Image, number: int) -> tuple[str, bytes, str]:
    """(name, bytes, why there are none) of a path or an array; PNG keeps an array's pixels as they are."""
    if not isinstance(image, np.ndarray):
        path = os.fspath(image)
        return (path, *read_image(path))
    pixels = image[..., np.newaxis] if image.ndim == 2 else image
    if (
        pixels.dtype != np.uint8
        or pixels.ndim != 3
        or pixels.shape[2] not in (1, 3)
        or not pixels.size
    ):
        raise UserError(
            f"image {number} must be (H, W, 3), (H, W, 1) or (H, W) uint8 with values in 0..255, got"
            f" {image.shape} {image.dtype}"
        )
    return f"image {number}", tf.io.encode_png(pixels).numpy(), ""
