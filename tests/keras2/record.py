# SPDX-License-Identifier: Apache-2.0
"""Writes small models as Keras 2 saves them, and what Keras 2 says of one image, for `tests/test_keras_classifiers.py`.

    pip install --no-deps --target /tmp/keras2 tf_keras
    PYTHONPATH=/tmp/keras2 python tests/keras2/record.py

The models have the pieces of keras.applications' networks, with a head, as people save them: a backbone that is inlined,
one that is a layer, and a Sequential.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tf_keras as keras

HERE = Path(__file__).parent
SIDE = 16


def backbone(image):
    layers = keras.layers
    x = layers.ZeroPadding2D(((0, 1), (0, 1)))(image)
    x = layers.Conv2D(4, 3, strides=2, use_bias=False)(x)
    x = layers.BatchNormalization(axis=3, scale=False)(x)
    x = layers.Activation("relu")(x)
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization(epsilon=1e-3, momentum=0.999)(x)
    x = layers.ReLU(6.0)(x)
    x = layers.SeparableConv2D(5, 3, padding="same")(x)
    pooled = layers.AveragePooling2D(3, strides=1, padding="same")(x)
    return layers.concatenate([x, pooled], axis=3)


def inlined():
    image = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.GlobalAveragePooling2D()(backbone(image))
    x = keras.layers.Dropout(0.2)(x)
    return keras.Model(image, keras.layers.Dense(3, activation="softmax", name="predictions")(x))


def nested():
    inner = keras.Input((SIDE, SIDE, 3))
    base = keras.Model(inner, backbone(inner), name="base")
    base.trainable = False
    image = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = keras.layers.GlobalAveragePooling2D()(base(x, training=False))
    return keras.Model(image, keras.layers.Dense(3)(x))


def sequential():
    image = keras.Input((SIDE, SIDE, 3))
    return keras.Sequential(
        [
            keras.Model(image, backbone(image), name="base"),
            keras.layers.Flatten(),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )


if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).uniform(0, 1, (1, SIDE, SIDE, 3)).astype("float32")
    outputs = {}
    for make in (inlined, nested, sequential):
        model = make()
        rng = np.random.default_rng(1)
        for v in model.weights:
            v.assign(
                rng.uniform(0.2, 0.9, v.shape)
                if "moving" in v.name
                else rng.normal(0, 0.3, v.shape)
            )
        model.compile("sgd", "mse")
        model.save(HERE / f"{make.__name__}.h5")
        scaled = x * 255 if make is nested else x
        outputs[make.__name__] = model(scaled, training=False).numpy()
    np.savez(HERE / "outputs.npz", image=x, **outputs)
