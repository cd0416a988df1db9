# SPDX-License-Identifier: Apache-2.0
"""Pooled features of images, as a table with their paths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from inception_tf.classifiers import Classifier
from inception_tf.data import pipeline
from inception_tf.data.decoding.transforms import evaluation_steps
from inception_tf.data.skipped import BadImages
from inception_tf.data.sources.splits import Split
from inception_tf.errors import UserError, missing_package, unknown
from inception_tf.host.atomic_io import atomic_path
from inception_tf.inference.ends import classifier_input
from inception_tf.inference.flatten import flatten
from inception_tf.inference.forward import compiled_forward
from inception_tf.nn.network import GLOBAL_POOL, LOGITS, endpoints, is_network

__all__ = ["FORMS", "Features", "extract_features", "feature_model"]

FORMS = (".npz", ".parquet")


@dataclass(frozen=True)
class Features:
    """Features of the images that could be read."""

    paths: tuple[str, ...]
    values: np.ndarray  # (N, D) float32
    skipped: dict[str, str]  # path → why it could not be read

    def write(self, path: Path) -> None:
        """Writes the table, completely or not at all.

        Args:
            path: .npz, with arrays `paths` and `features`; or .parquet, with columns `path` and `features`.

        Raises:
            UserError: Another ending, or pyarrow is missing for .parquet.
        """
        if path.suffix == ".npz":
            with atomic_path(path) as temporary, open(temporary, "wb") as file:
                np.savez(file, paths=np.array(self.paths, str), features=self.values)
            return
        if path.suffix != ".parquet":
            raise UserError(
                f"{path} ends in neither .npz nor .parquet; its ending decides the format"
            )
        try:
            import pyarrow
            import pyarrow.parquet
        except ModuleNotFoundError as error:
            raise missing_package("a .parquet file", "pyarrow", "beam") from error
        column = pyarrow.FixedSizeListArray.from_arrays(self.values.ravel(), self.values.shape[1])
        table = pyarrow.table({"path": list(self.paths), "features": column})
        with atomic_path(path) as temporary:
            pyarrow.parquet.write_table(table, temporary)


def feature_model(model: keras.Model, endpoint: str | None = None) -> keras.Model:
    """Cuts a network at an endpoint, with the mean over height and width.

    Args:
        model: A functional model, (N, H, W, C) → (N, K).
        endpoint: A name of `endpoints(model)`, or of a layer where the network is not of this package; None: the
            input of its classifier, or the output of a backbone without one.

    Returns:
        A model with the input of `model` and the output (N, D) float32.

    Raises:
        UserError: There is no such endpoint; the nearest is named.
    """
    ends = endpoints(model) if is_network(model) else _outputs_of_layers(model := flatten(model))
    if endpoint is not None and endpoint not in ends:
        raise unknown("endpoint", endpoint, ends)
    endpoint = endpoint or (GLOBAL_POOL if GLOBAL_POOL in ends else None)
    if endpoint:
        features = ends[endpoint]
    else:
        is_backbone = is_network(model) and LOGITS not in ends
        features = model.output if is_backbone else classifier_input(model)
    if len(features.shape) == 4:
        features = keras.layers.GlobalAveragePooling2D(dtype="float32")(features)
    return keras.Model(model.input, features)


def _outputs_of_layers(model: keras.Model) -> dict[str, keras.KerasTensor]:
    """Features by the name of their layer."""
    found = {layer.name: layer.output for layer in model.layers}
    return {
        name: tensor
        for name, tensor in found.items()
        if keras.utils.is_keras_tensor(tensor) and len(tensor.shape) in (2, 4)
    }


def extract_features(
    classifier: Classifier,
    paths: Sequence[str],
    endpoint: str | None = None,
    *,
    mirrored: bool = False,
    batch_size: int = 32,
    on_images: Callable[[int], None] = lambda count: None,
) -> Features:
    """Computes the features of image files.

    Args:
        classifier: The network with its preprocessing.
        paths: The files.
        endpoint: As for `feature_model`.
        mirrored: Of the images with left and right exchanged.
        batch_size: Images that pass through the network together.
        on_images: Called after each batch with its number of images.

    Returns:
        The features, in the order of `paths`, without the images that cannot be read, which it names.

    Raises:
        UserError: No such endpoint, or none of the images can be read.
    """
    network = feature_model(classifier.model, endpoint)
    forward = compiled_forward(network)
    split = Split(np.array(paths, str), np.zeros(len(paths), np.int64))
    bad = BadImages(split, 1.0)
    steps = evaluation_steps(classifier.preprocessing)
    rows, indices = [], []
    for pixels, index in pipeline.evaluation_batches(split, steps, batch_size=batch_size, bad=bad):
        images = pixels.numpy()
        rows.append(forward(images[:, :, ::-1] if mirrored else images).astype(np.float32))
        indices.append(index.numpy())
        on_images(len(index))
    if not rows:
        raise UserError(f"none of the {len(paths)} images can be read")
    found = np.concatenate(indices)
    return Features(tuple(paths[i] for i in found), np.concatenate(rows), dict(bad.reasons))
