# SPDX-License-Identifier: Apache-2.0
"""What TensorFlow keeps of a training step until the process ends.

Of every sum over replicas and every custom gradient that is traced it registers the gradient under a new name, and never
forgets it.  The gradient refers to the step's graph, which is half a gigabyte for Inception V3: notebooks and programs
that train again and again would run out of memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras

__all__ = ["forget_step_gradients"]

CUSTOM = (
    "CustomGradient-"  # the beginning of the names; those of TensorFlow's operations are others
)


@contextlib.contextmanager
def forget_step_gradients() -> Iterator[None]:
    """Forgets, when the block ends, the custom gradients that were traced while it ran; on TensorFlow alone.

    A graph that was traced meanwhile runs as before.  It can no longer be differentiated by a later gradient.

    Raises:
        UserError: the installed TensorFlow keeps them in another place.
    """
    if keras.backend.backend() != "tensorflow":
        yield
        return
    from inception_tf.host.tensorflow_internals import TENSORFLOW

    gradients = TENSORFLOW.get("gradient_registry")
    TENSORFLOW.require("_registry")
    before = set(gradients.list())
    try:
        yield
    finally:
        for name in set(gradients.list()) - before:
            if name.startswith(CUSTOM):
                gradients._registry.pop(name, None)
