# SPDX-License-Identifier: Apache-2.0
"""The network whose features FID compares, with its taps, as one function of batches of pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from inception_tf.applications import create_model
from inception_tf.classifiers import Classifier, open_classifier
from inception_tf.errors import UserError, unknown
from inception_tf.generative.settings import check_backend
from inception_tf.inference.constant_graph import make_graph
from inception_tf.inference.forward import compiled_forward
from inception_tf.inference.optimize import optimize_for_inference
from inception_tf.inference.runtimes import openvino
from inception_tf.nn.network import LOGITS, endpoints
from inception_tf.weights.download import fetch_release
from inception_tf.weights.registry import FID, check_release_name, find_release, release_names

__all__ = [
    "TAPS",
    "FeatureNetwork",
    "OpenedWeights",
    "check_keras",
    "open_weights_for_features",
]

NETWORK = "inception_v3"
SIZE = 299  # pixels
# Tap → the endpoint whose mean over height and width it is; the logits are computed from the last.
TAPS = {"64": "MaxPool_3a_3x3", "192": "MaxPool_5a_3x3", "768": "Mixed_6e", "2048": "Mixed_7c"}
POOL = "2048"
LOGITS_TAP, BIASED_TAP = "logits_unbiased", "logits"  # torch-fidelity's names
CLASSES_2015 = 1008
GAMMA = "gamma"

Forward = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class OpenedWeights:
    """A weights file as a network at 299 pixels."""

    name: str  # as the user named it
    model: keras.Model  # (N, 299, 299, 3) → probabilities, or the final feature map
    digest: str  # SHA-256 of the weights, whatever file they came from
    is_form_of_2015: bool  # the last block pools by maximum, and there are 1,008 classes
    head: tuple[np.ndarray, np.ndarray] | None  # kernel and bias of the classifier
    # What was compiled before, by its settings: two tools differ in the pixels alone.
    compiled: dict[tuple[Any, ...], FeatureNetwork] = field(default_factory=dict, compare=False)

    @property
    def note(self) -> str | None:
        """What a reader of the numbers has to know of the weights; None where they are in the form of 2015."""
        if self.is_form_of_2015:
            return None
        return (
            f"{self.name} is not the network of 2015, whose last block pools by maximum and which has"
            f" {CLASSES_2015:,} classes: these numbers compare with those of no paper"
        )

    def widths(self, taps: Sequence[str]) -> dict[str, int]:
        """How many features taps have, which are their names where the network has its full width.

        Args:
            taps: Names of `TAPS`, or of logits.

        Returns:
            Tap → D.

        Raises:
            UserError: A tap is unknown, or the weights have no classifier to give logits.
        """
        ends = endpoints(self.model)
        found = {}
        for tap in taps:
            if tap in (LOGITS_TAP, BIASED_TAP):
                found[tap] = len(self._head()[1])
            elif tap in TAPS:
                found[tap] = ends[TAPS[tap]].shape[-1]
            else:
                raise unknown("tap", tap, [*TAPS, BIASED_TAP, LOGITS_TAP])
        return found

    def network(
        self,
        taps: Sequence[str],
        *,
        batch_size: int = 32,
        backend: str = "tensorflow",
        precision: str = "float32",
        calibration: Sequence[np.ndarray] | None = None,
    ) -> FeatureNetwork:
        """Compiles the network up to the deepest of some taps.

        Args:
            taps: Names of `TAPS`, "logits_unbiased" (without the classifier's bias) or "logits".
            batch_size: Images per call.
            backend: "tensorflow"; "openvino"; or "keras", which is the backend of KERAS_BACKEND.
            precision: "float32"; "bfloat16"; or "int8", of OpenVINO, which needs `calibration`.
            calibration: Batches of pixels as the network takes them, for the ranges of int8.

        Returns:
            The network.

        Raises:
            UserError: A tap, a backend or a precision is unknown or does not exist together, or a package is missing.
        """
        settings = (*taps, batch_size, backend, precision)
        if calibration is None and settings in self.compiled:
            return self.compiled[settings]
        widths = self.widths(taps)
        check_backend(backend, precision)
        check_keras(backend)
        wanted = {POOL if tap in (LOGITS_TAP, BIASED_TAP) else tap for tap in taps}
        pooled = [tap for tap in TAPS if tap in wanted]
        ends = endpoints(self.model)
        means = [
            keras.layers.GlobalAveragePooling2D(dtype="float32", name=f"tap_{tap}")(ends[TAPS[tap]])
            for tap in pooled
        ]
        joined = keras.ops.concatenate(means, axis=-1) if len(means) > 1 else means[0]
        features = keras.Model(self.model.input, joined)
        forward = _compiled(features, batch_size, backend, precision, calibration)
        edges = np.cumsum([mean.shape[-1] for mean in means])
        parts = dict(zip(pooled, zip([0, *edges[:-1]], edges, strict=True), strict=True))
        head = self.head if wanted - set(taps) or POOL in wanted else None
        made = FeatureNetwork(widths, batch_size, forward, parts, head)
        if calibration is None:
            self.compiled[settings] = made
        return made

    def _head(self) -> tuple[np.ndarray, np.ndarray]:
        if self.head is None:
            raise UserError(
                f"{self.name} holds no classifier, and so gives no logits, which the inception score is computed from"
            )
        return self.head


@dataclass(frozen=True)
class FeatureNetwork:
    """The network up to some taps, compiled for batches of one size.

    Example:

        network = open_weights_for_features("fid_2015").network(["2048"])
        network(pixels)["2048"]
    """

    widths: dict[str, int]  # tap → D
    batch_size: int
    forward: Forward  # (B, 299, 299, 3) float32 → (B, all pooled taps)
    parts: dict[str, tuple[int, int]]  # pooled tap → its columns in that
    head: tuple[np.ndarray, np.ndarray] | None

    def __call__(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Computes the features of a batch.

        Args:
            pixels: (N, 299, 299, 3) float32 in [-1, 1], N up to the batch size.

        Returns:
            Tap → (N, D) float32.
        """
        count = len(pixels)
        if count < self.batch_size:
            # The last batch: a graph is compiled for one size.
            rest = np.zeros((self.batch_size - count, *pixels.shape[1:]), pixels.dtype)
            pixels = np.concatenate([pixels, rest])
        columns = np.asarray(self.forward(pixels), np.float32)[:count]
        found = {}
        for tap in self.widths:
            if tap in self.parts:
                first, after = self.parts[tap]
                found[tap] = columns[:, first:after]
            else:
                assert self.head is not None
                first, after = self.parts[POOL]
                kernel, bias = self.head
                logits = columns[:, first:after] @ kernel
                found[tap] = logits + bias if tap == BIASED_TAP else logits
        return found


def open_weights_for_features(weights: str = FID) -> OpenedWeights:
    """Opens weights of Inception V3 for their features.

    Args:
        weights: "fid_2015", the network of 2015, which is downloaded once, or another release; or a run folder or a
            weights file: `.pth`, `.safetensors`, `.pb`, `.weights.h5`, `.keras`.

    Returns:
        The network, at 299 pixels.

    Raises:
        UserError: There is no such file, it cannot be read, or it is of another network.
    """
    check_release_name(NETWORK, weights)
    path = weights
    if weights in release_names(NETWORK):
        path = str(fetch_release(find_release(NETWORK, weights)))
    classifier = open_classifier(path, NETWORK, backbone=True)
    if classifier.network != NETWORK:
        raise UserError(
            f"{weights} is a file of {classifier.network}; FID is defined by the features of {NETWORK}"
        )
    model = _at_size(classifier)
    head = None
    if any(layer.name == LOGITS for layer in model.layers):
        kernel, bias = model.get_layer(LOGITS).get_weights()
        head = (kernel.astype(np.float32), bias.astype(np.float32))
    is_form = classifier.classes == CLASSES_2015 and _pools_by_maximum(model)
    return OpenedWeights(weights, model, _digest(model), is_form, head)


def _at_size(classifier: Classifier) -> keras.Model:
    """The model for 299 pixels; a run's may be for others, with the same weights."""
    if classifier.model.input_shape[1:] == (SIZE, SIZE, 3):
        return classifier.model
    top = {"classes": classifier.classes} if classifier.classes else {"include_top": False}
    model = create_model(
        NETWORK, input_shape=(SIZE, SIZE, 3), **top, **dict(classifier.switches or {})
    )
    theirs = {variable.path: variable for variable in classifier.model.weights}
    for variable in model.weights:
        variable.assign(theirs[variable.path])
    return model


def _pools_by_maximum(model: keras.Model) -> bool:
    last = [
        layer
        for layer in model.layers
        if layer.name.startswith("Mixed_7c") and isinstance(layer, keras.layers.MaxPooling2D)
    ]
    return bool(last)


def check_keras(backend: str) -> None:
    """Checks that Keras' backend is the one that is asked for.

    Args:
        backend: Of `settings.BACKENDS`.

    Raises:
        UserError: It is TensorFlow, and Keras' is another.
    """
    if backend == "tensorflow" and keras.backend.backend() != "tensorflow":
        raise UserError(
            f"Keras' backend is {keras.backend.backend()}: give --backend keras to compute the features with it"
        )


def _digest(model: keras.Model) -> str:
    """SHA-256 of the weights by name; gammas of 1, which some files have and others do not, count as none."""
    digest = hashlib.sha256()
    for variable in sorted(model.weights, key=lambda one: one.path):
        values = np.ascontiguousarray(keras.ops.convert_to_numpy(variable), np.float32)
        if variable.path.endswith(GAMMA) and (values == 1).all():
            continue
        digest.update(f"{variable.path} {values.shape}\n".encode())
        digest.update(values)
    return digest.hexdigest()


def _compiled(
    features: keras.Model,
    batch_size: int,
    backend: str,
    precision: str,
    calibration: Sequence[np.ndarray] | None,
) -> Forward:
    if backend == "openvino":
        openvino.check_installed(int8=precision == "int8")
        return openvino.compile_for_cpu(features, calibration, precision)
    network = optimize_for_inference(features, precision)
    dtype = network.inputs[0].dtype
    if backend == "keras" and keras.backend.backend() != "tensorflow":
        forward = compiled_forward(network)
        return lambda pixels: forward(pixels.astype(dtype))
    run = make_graph(network, batch_size)
    return lambda pixels: np.asarray(run(_cast(pixels, dtype)))


def _cast(pixels: np.ndarray, dtype: str) -> np.ndarray:
    import tensorflow as tf

    return pixels if dtype == "float32" else tf.cast(pixels, dtype).numpy()
