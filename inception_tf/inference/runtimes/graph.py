# SPDX-License-Identifier: Apache-2.0
"""What every conversion starts from: a network in float32, folded, in operations that the runtimes have."""

from __future__ import annotations

import keras
import tensorflow as tf

from inception_tf.inference.optimize import in_precision, optimize_for_inference
from inception_tf.nn.builder import LRN

__all__ = ["INPUT_NAME", "OUTPUT_NAME", "concrete_function", "input_spec", "conversion_model"]

INPUT_NAME, OUTPUT_NAME = "images", "probabilities"  # names of the tensors in every format


class FusedLocalResponseNormalization(keras.layers.Layer):
    """Local response normalization by TensorFlow's own operation, for which every runtime has one.

    Computed by its parts `googlenet` took 1.4 times as long in OpenVINO.
    """

    def call(self, x, mask=None):  # as a model is called
        # Of local_response_norm.py: size 5, and alpha divided by the size, as Caffe divides it.
        return tf.nn.local_response_normalization(x, 2, 1.0, 1e-4 / 5, 0.75)


def conversion_model(model: keras.Model) -> keras.Model:
    """A copy for conversion of a functional model, (N, H, W, C) → (N, K), both float32.

    Float32 whatever the model computes in: what the converters make of bfloat16 layers does not run or
    answers wrongly, and LiteRT's of float16 layers neither.
    """
    # In this order: what goes into kernels of 16 bits would be rounded.
    network = optimize_for_inference(in_precision(model, "float32"))

    def copy(layer):
        if isinstance(layer, keras.Model) and layer.name.endswith(LRN):
            return FusedLocalResponseNormalization(name=layer.name)
        return type(layer).from_config(layer.get_config())

    result = keras.models.clone_model(network, clone_function=copy)
    result.set_weights(network.get_weights())
    return result


def input_spec(model: keras.Model) -> tf.TensorSpec:
    """The images that `model` takes, of any number."""
    return tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.float32, name=INPUT_NAME)


def concrete_function(model: keras.Model):
    """The inference of `model` as one concrete function of TensorFlow: `images` → {`probabilities`}."""

    @tf.function(input_signature=[input_spec(model)], autograph=False)
    def network(images):
        return {OUTPUT_NAME: model(images, training=False)}

    return network.get_concrete_function()
