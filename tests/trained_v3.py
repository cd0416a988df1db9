# SPDX-License-Identifier: Apache-2.0
"""A trained Inception V3 with a head of 256, 128 and 5 units, from `weights/inception_v3_transfer_u8.npz` of the test data.

    PYTHONPATH=tests python tests/trained_v3.py FILE.npz v3.weights.h5     the backbone, for `train --weights`
    PYTHONPATH=tests python tests/trained_v3.py FILE.npz v3.keras          as its makers would save it, in keras.applications

Its classes are of no use here: it calls every photograph of a flower its third class.  `build_flowers` puts a
classifier of the 12 kinds of `flowers12` on its last features, so that there are answers that can change.

The file holds each array as uint8, with its step and its least value under `NAME:scale_min`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import keras
import numpy as np

import inception_tf
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.data.sources.open import open_source
from inception_tf.data.sources.splits import Split
from inception_tf.models import find_network
from inception_tf.nn.network import LOGITS
from inception_tf.weights.metadata import WeightsMetadata, write_metadata
from inception_tf.weights.names.keras_applications import keras_names
from inception_tf.weights.transfer import assign

FILE = "weights/inception_v3_transfer_u8.npz"  # in the test data
NAME = "inception_v3"
HEAD = {"dense_1": 256, "dense_2": 128, "dense_3": 5}
# Its makers resize the whole image and divide pixels by 255.
PREPROCESSING = Preprocessing(299, crop=None, scale="zero_to_one")
METADATA = WeightsMetadata(NAME, {}, PREPROCESSING)
STEP_AND_LEAST = ":scale_min"


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays in float32, by Keras' names: `conv2d_1/kernel`, `dense_3/bias`."""
    with np.load(path) as file:
        stored = dict(file)
    return {
        name: array.astype(np.float32) * stored[name + STEP_AND_LEAST][0]
        + stored[name + STEP_AND_LEAST][1]
        for name, array in stored.items()
        if not name.endswith(STEP_AND_LEAST)
    }


def with_head(backbone: keras.Model, arrays: dict[str, np.ndarray]) -> keras.Model:
    """A classifier of 5 classes, for logits, around a backbone that gives pooled features."""
    x = backbone.output
    for name, units in HEAD.items():
        layer = keras.layers.Dense(
            units, activation=None if name == "dense_3" else "relu", name=name, dtype="float32"
        )
        x = layer(x)
        layer.set_weights([arrays[f"{name}/kernel"], arrays[f"{name}/bias"]])
    return keras.Model(backbone.input, x, name="trained_v3")


def build_backbone(arrays: dict[str, np.ndarray], **arguments) -> keras.Model:
    """Our network without its classifier; `arguments` as `InceptionV3` takes them."""
    model = inception_tf.create_model(NAME, include_top=False, **arguments)
    backbone = {name: a for name, a in arrays.items() if name.split("/")[0] not in HEAD}
    assign(model, backbone, keras_names(find_network(NAME), backbone))
    return model


def build_classifier(arrays: dict[str, np.ndarray], **arguments) -> keras.Model:
    """Our backbone with the trained head: (N, 299, 299, 3) in [0, 1] → (N, 5) logits."""
    return with_head(build_backbone(arrays, pooling="avg", **arguments), arrays)


def build_original(arrays: dict[str, np.ndarray], **arguments) -> keras.Model:
    """The same of `keras.applications`."""
    model = keras.applications.InceptionV3(
        include_top=False, weights=None, pooling="avg", **arguments
    )
    for stem in ("conv2d", "batch_normalization"):
        found = [layer for layer in model.layers if re.fullmatch(rf"{stem}(_\d+)?", layer.name)]
        # Keras numbers the layers of a whole session, in order of creation, and so are the file's.
        found.sort(key=lambda layer: int(layer.name[len(stem) + 1 :] or 0))
        for number, layer in enumerate(found, 1):
            for variable in layer.weights:
                variable.assign(arrays[f"{stem}_{number}/{variable.name}"])
    return with_head(model, arrays)


def photographs(folder: Path, split: str, per_class: int) -> tuple[np.ndarray, np.ndarray]:
    """The first images of each kind of `flowers12`, in the network's view: (N, 299, 299, 3) float32, and their kinds."""
    # TensorFlow, which a machine with a GPU may lack.
    from inception_tf.export.parity import image_batches

    batches = list(
        image_batches(_chosen(folder, split, per_class), PREPROCESSING, batch_size=40, max_bad=0.0)
    )
    pixels, kinds = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return pixels, kinds


def files(folder: Path, split: str, per_class: int) -> list[bytes]:
    """The same images, encoded."""
    return [Path(path).read_bytes() for path in _chosen(folder, split, per_class).images]


def _chosen(folder: Path, split: str, per_class: int) -> Split:
    images = open_source(f"folder:{folder / 'flowers12'}").split(split)
    chosen = [np.flatnonzero(images.classes == kind)[:per_class] for kind in range(12)]
    return images.take(np.concatenate(chosen))


def build_flowers(
    arrays: dict[str, np.ndarray], folder: Path, per_class: int = 20, **switches
) -> keras.Model:
    """Our whole network with the trained backbone and a classifier of 12 kinds of flowers.

    Args:
        arrays: as `read_arrays` gives them.
        folder: the test data.
        per_class: training images of each kind that the classifier is fitted to.
        **switches: of the network.
    """
    from sklearn.linear_model import LogisticRegression

    backbone = build_backbone(arrays, pooling="avg", **switches)
    pixels, kinds = photographs(folder, "train", per_class)
    features = backbone.predict(pixels, batch_size=20, verbose=0)
    fitted = LogisticRegression(C=10.0, max_iter=1000).fit(features, kinds)
    model = inception_tf.create_model(NAME, classes=12, **switches)
    trained = {variable.path: variable for variable in backbone.weights}
    for variable in model.weights:
        if variable.path in trained:
            variable.assign(trained[variable.path])
    model.get_layer(LOGITS).set_weights([fitted.coef_.T, fitted.intercept_])
    return model


def save_flowers(path: Path, model: keras.Model) -> None:
    """`build_flowers`' network as a weights file that says how its images are prepared."""
    model.save_weights(path)
    write_metadata(path, METADATA)


def save_backbone(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """A `.weights.h5` that says what it is, as `convert` writes it."""
    build_backbone(arrays).save_weights(path)
    write_metadata(path, METADATA)


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    if target.name.endswith(".weights.h5"):
        save_backbone(target, read_arrays(source))
    else:
        build_original(read_arrays(source)).save(target)
