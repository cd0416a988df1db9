# SPDX-License-Identifier: Apache-2.0
"""The common start of all conversions: a network in float32, folded, of operations that the runtimes have."""

from __future__ import annotations

import keras
import tensorflow as tf

from inception_tf.inference.optimize import in_precision, optimize_for_inference
from inception_tf.nn.builder import LRN

__all__ = ["INPUT_NAME", "OUTPUT_NAME", "concrete_function", "input_spec", "conversion_model"]

INPUT_NAME, OUTPUT_NAME = "images", "probabilities"  # names of the tensors in every format


class FusedLocalResponseNormalization(keras.layers.Layer):
    """Local response normalization by TensorFlow's own operation, for which every runtime has one.

    Composed of smaller operations, `googlenet` took 1.4 times as long in OpenVINO.
    """

    def call(self, x: tf.Tensor, mask: None = None) -> tf.Tensor:  # as a model is called
        # Of local_response_norm.py: size 5, and alpha divided by the size, as Caffe divides it.
        return tf.nn.local_response_normalization(x, 2, 1.0, 1e-4 / 5, 0.75)


def conversion_model(model: keras.Model) -> keras.Model:
    """Copies a functional model for conversion to float32.

    The converters produce models from bfloat16 layers that do not run or compute wrong outputs, and LiteRT's does from
    float16 layers too.

    Args:
        model: (N, H, W, C) → (N, K), of any precision.

    Returns:
        The same in float32, optimized for inference.
    """
    # In this order: what is folded into kernels of 16 bits would be rounded.
    network = optimize_for_inference(in_precision(model, "float32"))

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, keras.Model) and layer.name.endswith(LRN):
            return FusedLocalResponseNormalization(name=layer.name)
        return type(layer).from_config(layer.get_config())

    result = keras.models.clone_model(network, clone_function=copy)
    result.set_weights(network.get_weights())
    return result


def input_spec(model: keras.Model) -> tf.TensorSpec:
    """Describes the images that a model takes, with a free batch size.

    Args:
        model: One input (N, H, W, C).

    Returns:
        A float32 `tf.TensorSpec` named `INPUT_NAME`.
    """
    return tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.float32, name=INPUT_NAME)


def concrete_function(model: keras.Model) -> tf.types.experimental.ConcreteFunction:
    """Traces the inference of a model as one concrete function, `images` → {`probabilities`}.

    Args:
        model: One input and one output.

    Returns:
        A `tf.types.experimental.ConcreteFunction`.
    """

    @tf.function(input_signature=[input_spec(model)], autograph=False)
    def network(images):
        return {OUTPUT_NAME: model(images, training=False)}

    return network.get_concrete_function()
