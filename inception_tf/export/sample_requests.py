# SPDX-License-Identifier: Apache-2.0
"""Small requests for each signature, made by a rule: for the warm-up log and for checks of an export."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from inception_tf.export.signatures import FEATURE
from inception_tf.savedmodel.call import Call

__all__ = ["sample_calls", "sample_encoded_calls", "sample_images", "encode_jpeg", "bytes_array"]

SIDE = 64  # pixels; the graph resizes, so that the network runs at its own size all the same
TILE = 8  # pixels of one colour, which a JPEG keeps


def sample_images(count: int) -> np.ndarray:
    """(count, 64, 64, 3) uint8: coloured tiles, each image its own."""
    tiles = [
        np.random.default_rng(seed).integers(0, 256, (SIDE // TILE, SIDE // TILE, 3), np.uint8)
        for seed in range(count)
    ]
    return (
        np.array(tiles)
        .reshape(count, SIDE // TILE, SIDE // TILE, 3)
        .repeat(TILE, 1)
        .repeat(TILE, 2)
    )


def encode_jpeg(image: np.ndarray) -> bytes:
    return tf.io.encode_jpeg(image).numpy()


def bytes_array(items: Sequence[bytes]) -> np.ndarray:
    """Bytes as an object array; numpy's own string type would cut zeros off their ends."""
    array = np.empty(len(items), object)
    array[:] = items
    return array


def sample_calls(count: int) -> tuple[Call, ...]:
    """One call of each signature with the same `count` images."""
    pictures = sample_images(count)
    encoded = [encode_jpeg(picture) for picture in pictures]
    return (*sample_encoded_calls(encoded), Call("image_tensor", {"images": pictures}))


def sample_encoded_calls(encoded: Sequence[bytes]) -> tuple[Call, Call]:
    """The two signatures that read encoded images, both with the same ones."""
    return (
        Call("serving_default", {"image_bytes": bytes_array(encoded)}),
        Call("classify", {"inputs": bytes_array([_example(data) for data in encoded])}),
    )


def _example(data: bytes) -> bytes:
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[data]))
    return tf.train.Example(
        features=tf.train.Features(feature={FEATURE: feature})
    ).SerializeToString()
