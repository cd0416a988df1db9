# SPDX-License-Identifier: Apache-2.0
"""Small requests for each signature, generated: for the warm-up log and for checks of an export."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from inception_tf.export.signatures import FEATURE
from inception_tf.savedmodel.call import Call

__all__ = ["sample_calls", "sample_encoded_calls", "sample_images", "encode_jpeg", "bytes_array"]

SIDE = 64  # pixels; the graph resizes to the network's size
TILE = 8  # pixels of one color, which a JPEG keeps


def sample_images(count: int) -> np.ndarray:
    """Draws images of colored tiles, each from its own seed.

    Args:
        count: How many images.

    Returns:
        (count, 64, 64, 3) uint8.
    """
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
    """Encodes an image as a JPEG.

    Args:
        image: uint8 (H, W, 3).

    Returns:
        The content of the file.
    """
    return tf.io.encode_jpeg(image).numpy()


def bytes_array(items: Sequence[bytes]) -> np.ndarray:
    """Puts byte strings into an object array; NumPy's own string type would cut zeros off their ends.

    Args:
        items: N byte strings.

    Returns:
        (N,) object.
    """
    array = np.empty(len(items), object)
    array[:] = items
    return array


def sample_calls(count: int, *, features: bool = False) -> tuple[Call, ...]:
    """Makes one request for each signature, all with the same images.

    Args:
        count: Images per request.
        features: The export has the signature of a feature vector.

    Returns:
        A request for each signature of `contract_of(features)`.
    """
    pictures = sample_images(count)
    encoded = [encode_jpeg(picture) for picture in pictures]
    decoded = Call("image_tensor", {"images": pictures})
    return (*sample_encoded_calls(encoded, features=features), decoded)


def sample_encoded_calls(encoded: Sequence[bytes], *, features: bool = False) -> tuple[Call, ...]:
    """Makes requests for the signatures that read encoded images.

    Args:
        encoded: The content of N image files.
        features: The export has the signature of a feature vector.

    Returns:
        Requests for `serving_default`, `classify` and, where it is there, `features`.
    """
    data = bytes_array(encoded)
    return (
        Call("serving_default", {"image_bytes": data}),
        Call("classify", {"inputs": bytes_array([_example(one) for one in encoded])}),
        *([Call("features", {"image_bytes": data})] if features else []),
    )


def _example(data: bytes) -> bytes:
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[data]))
    return tf.train.Example(
        features=tf.train.Features(feature={FEATURE: feature})
    ).SerializeToString()
