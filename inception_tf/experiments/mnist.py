# SPDX-License-Identifier: Apache-2.0
"""MNIST as the batch normalization paper uses it: binary images, all in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from inception_tf.data.sources.splits import Split
from inception_tf.data.sources.tfds import open_tfds

__all__ = ["BinaryMnist", "binarize", "load_mnist"]

THRESHOLD = 128  # the first of 256 levels that is ink; the paper does not give one
CHUNK = 5000  # images decoded at a time
FEATURES = {
    "image": tf.io.FixedLenFeature((), tf.string),
    "label": tf.io.FixedLenFeature((), tf.int64),
}


@dataclass(frozen=True)
class BinaryMnist:
    """Two splits: images (N, 784) float32, 0 or 1, row by row; classes (N,) int32."""

    images: np.ndarray
    classes: np.ndarray
    test_images: np.ndarray
    test_classes: np.ndarray


def load_mnist(folder: str | None = None) -> BinaryMnist:
    """Loads the 60,000 training and 10,000 test images of TFDS' `mnist`.

    Args:
        folder: where TFDS has prepared it; None: TFDS' own folder, downloading what is missing (11 MB).

    Returns:
        Both splits.

    Raises:
        UserError: there is no MNIST.
    """
    source = open_tfds("tfds:mnist", "mnist", folder)
    return BinaryMnist(*_read(source.split("train")), *_read(source.split("test")))


def binarize(pixels: np.ndarray) -> np.ndarray:
    """Turns gray levels into ink or paper.

    Args:
        pixels: (N, H, W, 1) uint8.

    Returns:
        (N, H * W) float32: 1 where the level is 128 or more, else 0.
    """
    return (pixels >= THRESHOLD).reshape(len(pixels), -1).astype(np.float32)


def _read(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Binary images and their classes, in the order of the files."""

    def parse(record):
        example = tf.io.parse_single_example(record, FEATURES)
        return tf.io.decode_png(example["image"], channels=1), example["label"]

    # Sequentially: reading each record by its index takes three times as long.
    records = tf.data.TFRecordDataset(list(split.images.files))
    chunks = records.map(parse, num_parallel_calls=tf.data.AUTOTUNE).batch(CHUNK)
    images, classes = zip(*chunks.as_numpy_iterator(), strict=True)
    return binarize(np.concatenate(images)), np.concatenate(classes).astype(np.int32)
