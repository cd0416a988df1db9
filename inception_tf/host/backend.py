# SPDX-License-Identifier: Apache-2.0
"""The door before what only works with Keras on TensorFlow."""

from __future__ import annotations

from inception_tf.errors import UserError, missing_tensorflow

__all__ = ["needs_tensorflow_backend"]


def needs_tensorflow_backend(what: str) -> None:
    """Refuses what other backends of Keras cannot do.

    Args:
        what: as the subject of a sentence.

    Raises:
        UserError: Keras' backend is not TensorFlow, or that is not even installed.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        try:
            import tensorflow  # noqa: F401
        except ModuleNotFoundError as error:
            raise missing_tensorflow(what) from error
        raise UserError(
            f"{what} needs Keras on TensorFlow, and KERAS_BACKEND is {keras.backend.backend()}; unset it: runs and"
            " weights files of any backend can be opened there"
        )
