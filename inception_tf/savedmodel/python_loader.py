# SPDX-License-Identifier: Apache-2.0
"""SavedModels loaded by TensorFlow's Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inception_tf.errors import UserError

__all__ = ["load_saved_model"]


def load_saved_model(folder: str | Path) -> Any:
    """Loads a SavedModel by TensorFlow's Python.

    Args:
        folder: The SavedModel, a version folder.

    Returns:
        What `tf.saved_model.load` gives; it owns the variables, and must live as long as its signatures.

    Raises:
        UserError: It does not load.
    """
    import tensorflow as tf

    try:
        return tf.saved_model.load(str(folder))
    except (
        Exception
    ) as error:  # a damaged graph ends in KeyError, IndexError, TypeError, RuntimeError, ...
        first = (str(error).splitlines() or [""])[0]
        raise UserError(
            f"'{folder}' does not load ({type(error).__name__}: {first}); inception-tf verify shows what is wrong with it"
        ) from error
