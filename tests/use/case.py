# SPDX-License-Identifier: Apache-2.0
"""A network of the family with what the ways of using it need: models, images, targets, comparisons."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import ramps
from short_networks import shorten

from inception_tf.arch.spec import Dropout, Network
from inception_tf.models import NETWORKS
from inception_tf.nn.network import build_model

CLASSES = 3
ROUNDING = 2e-5  # of probabilities: sums in another order


@dataclass(frozen=True)
class Case:
    """A network, narrow, and at full depth if there is no function that cuts it, as `short_networks` has two."""

    name: str
    cut: Callable[[Network], Network] | None = shorten

    @property
    def network(self) -> Network:
        network = NETWORKS[self.name]
        network = self.cut(network) if self.cut else network
        # The dropout between steps of the baselines would make two trainings differ.
        backbone = tuple(step for step in network.backbone if not isinstance(step[1], Dropout))
        return dataclasses.replace(network, backbone=backbone)

    @property
    def side(self) -> int:
        return max(self.network.min_size, 48)

    @property
    def has_batch_norm(self) -> bool:
        return self.network.batch_norm or self.network.hidden_batch_norm

    def model(self, **arguments) -> keras.Model:
        """Built, with weights and statistics as a trained network has them."""
        defaults = {
            "input_shape": (self.side, self.side, 3),
            "classes": CLASSES,
            "width_multiplier": 0.05,
            "dropout": 0.0,
        }
        model = build_model(self.network, **(defaults | arguments))
        ramps.fill(model)
        return model

    def base(self) -> keras.Model:
        """Without its classifier: images to (N, C) features."""
        return self.model(include_top=False, pooling="avg")

    @property
    def x(self) -> np.ndarray:
        """Four images."""
        return ramps.images(4, self.side, self.side, 3)

    @property
    def y(self) -> np.ndarray:
        """Their classes, one-hot."""
        return np.eye(CLASSES, dtype="float32")[[0, 1, 2, 0]]


def predicted(model, x) -> np.ndarray:
    """Outputs in inference, as float64."""
    return np.asarray(keras.ops.convert_to_numpy(model(x, training=False)), "float64")


def same(found, expected, tolerance=ROUNDING):
    np.testing.assert_allclose(
        np.asarray(found, "float64"), np.asarray(expected, "float64"), atol=tolerance, rtol=1e-4
    )


def different(found, expected):
    assert np.abs(np.asarray(found, "float64") - np.asarray(expected, "float64")).max() > 1e-6


def norms(model) -> list[keras.layers.BatchNormalization]:
    layers = model._flatten_layers(include_self=False)
    return [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]


def compiled(model, **options) -> keras.Model:
    """For training with plain SGD, whose step is the gradient."""
    arguments = {
        "optimizer": keras.optimizers.SGD(0.01),
        "loss": "categorical_crossentropy",
        "jit_compile": False,
    }
    model.compile(**(arguments | options))
    return model


def snapshot(model) -> dict[str, np.ndarray]:
    """The values of all weights, by path."""
    return {v.path: np.array(keras.ops.convert_to_numpy(v)) for v in model.weights}


def changed(model, before: dict) -> set[str]:
    """Paths of the weights that are no longer what they were."""
    after = snapshot(model)
    return {path for path in before if not np.array_equal(before[path], after[path])}
