# SPDX-License-Identifier: Apache-2.0
"""TF1 checkpoints of slim's trainers: the weights or their moving averages, told from what else a trainer keeps."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

import numpy as np

from inception_tf.errors import UserError, is_without_tensorflow, missing_tensorflow
from inception_tf.weights.transfer import listed

__all__ = ["BATCH_NORM", "averaged", "choice", "read", "require_tensorflow", "set_aside"]

BATCH_NORM = ("beta", "moving_mean", "moving_variance")
GAMMA = "BatchNorm/gamma"  # of networks that were trained with batch_norm_scale=True

# Last parts of the names of weights; optimizer slots, moving averages and the step end otherwise.
KINDS = {
    "weights",
    "depthwise_weights",
    "pointwise_weights",
    "biases",
    "gamma",
    *BATCH_NORM,
}
PART = re.compile(r"\.(index|meta|data-\d+-of-\d+)$")  # of a checkpoint in several files
AVERAGE = "/ExponentialMovingAverage"  # what tf.train.ExponentialMovingAverage adds to a name


def averaged(names: Mapping[str, str]) -> dict[str, str]:
    """Our variable path → the name of the moving average of slim's variable."""
    return {ours: theirs + AVERAGE for ours, theirs in names.items()}


def read(path: str, ema: bool = False) -> dict[str, np.ndarray]:
    """`{"InceptionV3/Conv2d_1a_3x3/weights": array}` of a TF1 checkpoint, weights only, every gamma folded in.

    ema: the moving averages instead, under their own names, which end in `/ExponentialMovingAverage`.
    Raises `UserError` where a variable has none.
    """
    return _opened(path, lambda file: _folded(_arrays(file, path, ema), AVERAGE if ema else ""))


def set_aside(path: str, ema: bool = False) -> tuple[str, ...]:
    """The variables of a checkpoint that `read` passes over: the step, an optimizer's slots, the averages."""
    names = _opened(path, lambda file: sorted(file.get_variable_to_shape_map()))
    kept = set(_weights(names, AVERAGE if ema else ""))
    return tuple(name for name in names if name not in kept)


def choice(ema: bool, left: Iterable[str]) -> tuple[str, ...]:
    """What a report says where a checkpoint has both the weights and their moving averages."""
    if ema:
        return ("the moving averages taken, not the plain values",)
    has_averages = any(name.endswith(AVERAGE) for name in left)
    return ("the plain values taken, not the moving averages (ema)",) if has_averages else ()


def require_tensorflow(what: str, otherwise: str = "") -> None:
    """Raises `UserError` where TensorFlow, which alone reads these files, is not installed.

    Args:
        what: the file, as the sentence begins with it.
        otherwise: the sentence's end, what to do instead.
    """
    try:
        import tensorflow  # noqa: F401
    except ModuleNotFoundError as error:
        if not is_without_tensorflow(error):
            raise
        raise missing_tensorflow(what, otherwise) from error


def _opened(path: str, use):
    """`use` of a checkpoint's reader; what TensorFlow says of a damaged one is one sentence."""
    exists = os.path.isfile(path) or os.path.isfile(f"{path}.index")
    if not exists or PART.search(path):
        raise UserError(
            f"no checkpoint at '{path}'; give its name without .index or .data-00000-of-00001"
        )
    require_tensorflow(
        f"'{path}', a TensorFlow 1 checkpoint,",
        "; or turn it into a .weights.h5 with inception-tf convert where TensorFlow is installed",
    )
    import tensorflow as tf

    try:
        return use(tf.train.load_checkpoint(path))
    except UserError:  # a ValueError too
        raise
    # IndexError: what TensorFlow makes of a file that ends too soon.
    except (tf.errors.OpError, RuntimeError, ValueError, IndexError) as error:
        raise UserError(
            f"'{path}' is no readable TensorFlow checkpoint; give the name of a complete one,"
            " without .index or .data-00000-of-00001"
        ) from error


def _weights(names: Iterable[str], suffix: str = "") -> list[str]:
    return [
        name
        for name in names
        if name.endswith(suffix) and name.removesuffix(suffix).rsplit("/", 1)[-1] in KINDS
    ]


def _arrays(file, path: str, ema: bool) -> dict[str, np.ndarray]:
    names = sorted(file.get_variable_to_shape_map())
    kept = _weights(names)
    if ema:
        averages = set(_weights(names, AVERAGE))
        missing = [name for name in kept if name + AVERAGE not in averages]
        if missing or not averages:
            raise UserError(
                f"'{path}' has no moving average of {len(missing)} of its {len(kept)} variables"
                f" ({listed(missing)}); leave out ema to take the plain values"
            )
        kept = sorted(averages)
    return {name: file.get_tensor(name) for name in kept}


def _folded(arrays: dict[str, np.ndarray], suffix: str) -> dict[str, np.ndarray]:
    """Without gammas: gamma * (w*x - mean) / s is ((gamma*w)*x - gamma*mean) / s for any gamma."""
    for name in [name for name in arrays if name.endswith(GAMMA + suffix)]:
        layer = name.removesuffix(GAMMA + suffix)
        kernel, mean = f"{layer}weights{suffix}", f"{layer}BatchNorm/moving_mean{suffix}"
        if kernel in arrays and mean in arrays:
            gamma = arrays.pop(name)
            arrays[kernel], arrays[mean] = arrays[kernel] * gamma, arrays[mean] * gamma
    return arrays
