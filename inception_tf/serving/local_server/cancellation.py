# SPDX-License-Identifier: Apache-2.0
"""Stopping a request's computation when its client has given up, by TensorFlow's cancellation of operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from inception_tf.host.tensorflow_internals import TENSORFLOW

__all__ = ["Cancellation", "cancelable"]


class Cancellation:
    """Whether a request's client has given up; any thread may say so, and the operations that run then end.

    TensorFlow asks between two images that a request's data pipeline reads; the decoding of one image, and a network
    that has started on a request, run to their ends.
    """

    def __init__(self) -> None:
        self.manager = TENSORFLOW.get("CancellationManager")()

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return bool(self.manager.is_cancelled)

    def cancel(self) -> None:
        """Ends what runs, and keeps what has not started from starting; a second call changes nothing."""
        self.manager.start_cancel()


def cancelable(
    function: Callable[..., Sequence[tf.Tensor]], specs: Sequence[tf.TensorSpec]
) -> Callable[[Sequence[tf.Tensor], Cancellation], list[tf.Tensor]]:
    """Traces a function so that each of its calls can be cancelled by itself.

    TensorFlow's context manager for this holds for all threads at once.

    Args:
        function: Takes tensors, returns a list of tensors.
        specs: Those of its arguments.

    Returns:
        The function of a list of tensors and of the call's `Cancellation`; where that is cancelled, it raises
        `tf.errors.CancelledError`.
    """
    concrete = tf.function(function, list(specs), autograph=False).get_concrete_function()
    execute, context = TENSORFLOW.get("execute_with_cancellation"), TENSORFLOW.get("context")

    def call(tensors: Sequence[tf.Tensor], cancellation: Cancellation) -> list[tf.Tensor]:
        outputs = execute(
            concrete.name.decode(),
            num_outputs=len(concrete.outputs),
            inputs=[*tensors, *concrete.captured_inputs],
            attrs=(),
            ctx=context(),
            cancellation_manager=cancellation.manager,
        )
        return list(outputs)

    return call
