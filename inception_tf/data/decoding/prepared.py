# SPDX-License-Identifier: Apache-2.0
"""Operations that TensorFlow prepares when they are first needed, and not at the start of each pass over a data set."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

__all__ = ["prepared_when_called"]


def prepared_when_called(function: Callable, *signature: tf.TensorSpec) -> Callable:
    """A graph function that its callers call; TensorFlow copies others into their callers and prepares them all.

    A call takes some microseconds more.

    Args:
        function: Makes operations.
        signature: Of its arguments; none: it is traced for each kind of arguments.

    Returns:
        A callable with the arguments and the result of `function`.
    """
    return tf.function(
        function,
        autograph=False,
        input_signature=signature or None,
        experimental_attributes={"_noinline": True},
    )
