# SPDX-License-Identifier: Apache-2.0
"""TF1 checkpoints of slim's trainers: the weights or their moving averages, without the training state."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Container, Iterable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np

from inception_tf.errors import UserError, is_without_tensorflow, missing_tensorflow
from inception_tf.host.files import check_content
from inception_tf.weights.formats.stored import (
    NOTHING,
    StoredArray,
    abbreviate,
    damage_is,
    read_wanted,
)
from inception_tf.weights.formats.tf_bundle import check_bundle

__all__ = [
    "BATCH_NORM",
    "GAMMA",
    "ema_names",
    "ema_note",
    "read_tf1_checkpoint",
    "require_tensorflow",
    "training_state",
    "write_tf1_checkpoint",
]

T = TypeVar("T")

BATCH_NORM = ("beta", "moving_mean", "moving_variance")
GAMMA = "gamma"  # of networks trained with batch_norm_scale=True

# Last parts of the names of weights; those of optimizer slots, moving averages and the step differ.
KINDS = {
    "weights",
    "depthwise_weights",
    "pointwise_weights",
    "biases",
    GAMMA,
    *BATCH_NORM,
}
PART = re.compile(r"\.(index|meta|data-\d+-of-\d+)$")  # of a checkpoint in several files
EMA = "/ExponentialMovingAverage"  # appended to a name by tf.train.ExponentialMovingAverage


def ema_names(names: Mapping[str, str]) -> dict[str, str]:
    """The names of the variables' moving averages.

    Args:
        names: Our variable path → slim's variable name.

    Returns:
        Our variable path → the name of that variable's moving average.
    """
    return {ours: theirs + EMA for ours, theirs in names.items()}


def read_tf1_checkpoint(
    path: str, ema: bool = False, wanted: Container[str] = NOTHING
) -> dict[str, np.ndarray]:
    """The weights of a TF1 checkpoint.

    Args:
        path: str. The checkpoint's name, without `.index`.
        ema: bool. Read the moving averages instead, whose names end in `/ExponentialMovingAverage`.
        wanted: Names of the arrays to read; the others are placeholders.

    Returns:
        Variable name, such as `InceptionV3/Conv2d_1a_3x3/weights` → array.

    Raises:
        UserError: The checkpoint is missing or damaged, a variable has no moving average, or TensorFlow is not
            installed.
    """
    return _with_reader(path, lambda reader: read_wanted(_stored(reader, path, ema), wanted))


def write_tf1_checkpoint(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a checkpoint in two files, the index last, without which there is none.

    Args:
        path: The checkpoint's name, without `.index`.
        arrays: Variable name → array.

    Raises:
        UserError: TensorFlow is not installed.
    """
    require_tensorflow(f"'{path}', a TensorFlow 1 checkpoint,")
    import tensorflow as tf

    with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        prefix = Path(folder) / path.name
        tf.raw_ops.SaveV2(
            prefix=str(prefix),
            tensor_names=list(arrays),
            shape_and_slices=[""] * len(arrays),
            tensors=list(arrays.values()),
        )
        for written in sorted(Path(folder).iterdir(), key=lambda one: one.suffix == ".index"):
            written.replace(path.parent / written.name)


def training_state(path: str, ema: bool = False) -> tuple[str, ...]:
    """The variables that `read_tf1_checkpoint` skips: step, optimizer slots, moving averages.

    Args:
        path: str. The checkpoint's name, without `.index`.
        ema: bool. Whether the moving averages are read; then the weights are skipped.

    Returns:
        Sorted names.
    """
    names = _with_reader(path, lambda reader: sorted(reader.get_variable_to_shape_map()))
    kept = set(_weights(names, EMA if ema else ""))
    return tuple(name for name in names if name not in kept)


def ema_note(ema: bool, skipped: Iterable[str]) -> tuple[str, ...]:
    """A note for the report if a checkpoint has both the weights and their moving averages.

    Args:
        ema: bool. Whether the moving averages were read.
        skipped: What `training_state` returned.

    Returns:
        One sentence, or nothing.
    """
    if ema:
        return ("read the moving averages, not the raw weights",)
    has_ema = any(name.endswith(EMA) for name in skipped)
    return ("read the raw weights, not the moving averages (ema)",) if has_ema else ()


def require_tensorflow(what: str, otherwise: str = "") -> None:
    """Check that TensorFlow is installed, without which these files cannot be read.

    Args:
        what: str. The file, the subject of the error sentence.
        otherwise: str. End of the error sentence: what to do instead.

    Raises:
        UserError: TensorFlow is not installed.
    """
    try:
        import tensorflow  # noqa: F401
    except ModuleNotFoundError as error:
        if not is_without_tensorflow(error):
            raise
        raise missing_tensorflow(what, otherwise) from error


def _with_reader(path: str, use: Callable[[Any], T]) -> T:
    """`use` of a checkpoint's reader, with TensorFlow's errors on damaged files as a `UserError`."""
    exists = os.path.isfile(path) or os.path.isfile(f"{path}.index")
    if not exists or PART.search(path):
        raise UserError(
            f"no checkpoint at '{path}'; give its name without .index or .data-00000-of-00001"
        )
    require_tensorflow(
        f"'{path}', a TensorFlow 1 checkpoint,",
        "; or convert it to a .weights.h5 file with inception-tf convert where TensorFlow is installed",
    )
    with damage_is(
        f"'{path}' is not a readable TensorFlow checkpoint; give the name of a complete one,"
        " without .index or .data-00000-of-00001"
    ):
        import tensorflow as tf

        if os.path.exists(f"{path}.index"):
            check_bundle(path)
        else:
            check_content(path)
        return use(tf.train.load_checkpoint(path))


def _weights(names: Iterable[str], suffix: str = "") -> list[str]:
    return [
        name
        for name in names
        if name.endswith(suffix) and name.removesuffix(suffix).rsplit("/", 1)[-1] in KINDS
    ]


def _stored(reader: Any, path: str, ema: bool) -> dict[str, StoredArray]:
    shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    names = sorted(shapes)
    kept = _weights(names)
    if ema:
        averages = set(_weights(names, EMA))
        missing = [name for name in kept if name + EMA not in averages]
        if missing or not averages:
            raise UserError(
                f"'{path}' has no moving average of {len(missing)} of its {len(kept)} variables"
                f" ({abbreviate(missing)}); omit ema to read the raw weights"
            )
        kept = sorted(averages)
    return {
        name: StoredArray(
            tuple(shapes[name]),
            np.dtype(dtypes[name].as_numpy_dtype),
            partial(reader.get_tensor, name),
        )
        for name in kept
    }
