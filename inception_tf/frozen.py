# SPDX-License-Identifier: Apache-2.0
"""The door to TensorFlow's constant graphs: a network that can no longer learn, and answers sooner for it."""

from __future__ import annotations

from collections.abc import Callable

import keras

from inception_tf.quiet import quiet

__all__ = ["frozen"]


def frozen(model: keras.Model, batch_size: int | None = None) -> Callable:
    """A model with one input and one output as one TensorFlow graph whose weights are constants.

    (N, H, W, C) float32 tensor → (N, K) tensor; batch_size: N, or None for any.  oneDNN brings a
    constant kernel into its own order once, a variable's at each call: on two cores a sixth of
    Inception V3's time for one image in bfloat16.  The weights are held a second time.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    shape = (batch_size, *model.inputs[0].shape[1:])
    call = tf.function(
        lambda images: model(images, training=False),
        input_signature=[tf.TensorSpec(shape, tf.float32)],
        autograph=False,
    )
    with quiet():  # the conversion tells from C++ how many GPUs it saw
        graph = convert_variables_to_constants_v2(call.get_concrete_function())
    return lambda images: tf.nest.flatten(graph(images))[0]
