# SPDX-License-Identifier: Apache-2.0
"""How much memory the weights of a network may take before its file is known to be that network's."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

import numpy as np

from inception_tf.arch.counting import layer_costs, total
from inception_tf.arch.spec import Network
from inception_tf.errors import UserError

if TYPE_CHECKING:
    import keras

__all__ = ["check_size", "class_count", "model_limit", "network_limit"]

FLOAT = 4  # bytes
COPIES = 5  # the weights, an optimizer's slots and moving averages
ROOM = 32 * 2**20  # bytes for names and groups, which outweigh the arrays of a narrow network
LARGEST_HEAD = 512 * 2**20  # bytes; 65,536 classes of 2,048 features


def model_limit(model: keras.Model) -> int:
    """The most bytes to unpack or parse at once from a file for a model.

    Args:
        model: The model.

    Returns:
        Bytes.
    """
    return _limit(sum(math.prod(variable.shape) for variable in model.weights))


def network_limit(network: Network) -> int:
    """The most bytes to unpack or parse at once from a file of a network.

    Args:
        network: The network.

    Returns:
        Bytes.
    """
    aux_logits = bool(network.auxiliaries)
    return _limit(total(layer_costs(network, aux_logits=aux_logits), "params"))


def check_size(path: str | os.PathLike[str], limit: int) -> None:
    """Check that a file that is parsed at once is not larger than a network needs.

    Args:
        path: The file, which must exist.
        limit: int. Bytes, as `network_limit` or `model_limit` has them.

    Raises:
        UserError: It is larger.
    """
    size = os.path.getsize(path)
    if size > limit:
        raise UserError(
            f"'{path}' has {size:,} bytes, and the network needs at most {limit:,}; give the file of this network"
        )


def _limit(parameters: int) -> int:
    return COPIES * FLOAT * parameters + ROOM


def class_count(arrays: list[np.ndarray]) -> int:
    """The number of classes that the arrays of a classifier have.

    Args:
        arrays: Bias and kernel, or what the file has of them.

    Returns:
        The last dimension.

    Raises:
        UserError: There is none, or a model of so many classes would take more memory than any classifier.
    """
    shapes = [array.shape for array in arrays]
    if not all(shapes) or min(shape[-1] for shape in shapes) < 1:
        raise UserError(
            f"the classifier in the file has the shape {shapes[0]}, which has no classes; give an undamaged file"
        )
    if any(math.prod(shape) * FLOAT > LARGEST_HEAD for shape in shapes):
        raise UserError(
            f"the classifier in the file has the shape {max(shapes, key=math.prod)}, more than"
            f" {LARGEST_HEAD // 2**20} MiB; load the backbone alone with skip_head=True (--skip-head), or into a"
            " model that you create with this number of classes"
        )
    return int(shapes[0][-1])
