# SPDX-License-Identifier: Apache-2.0
"""Batch normalization as one TensorFlow operation; `layers.py` opens this door only where TensorFlow is the backend."""

from __future__ import annotations

import tensorflow as tf

__all__ = ["DTYPES", "LEAST_EPSILON", "infer", "moments_of_all", "replicas", "train"]

DTYPES = ("bfloat16", "float16", "float32")  # of x; all else is float32
LEAST_EPSILON = 1.001e-5  # cuDNN takes no smaller one: tf.nn.fused_batch_norm, nn_impl.py


def replicas() -> int:
    """Over how many replicas the present `tf.distribute` strategy adds up gradients; 1 without one."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def train(x, gamma, beta, epsilon: float):
    """(N, H, W, C) normalized by its own statistics → the same shape and dtype, mean (C,), variance (C,).

    gamma, beta: (C,) float32.  The variance is the population's, sum of squares over N*H*W, as Keras
    has it: the operation itself returns the sample's, over N*H*W - 1 (Bessel).
    """
    nothing = tf.zeros(0)
    y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x,
        scale=gamma,
        offset=beta,
        mean=nothing,
        variance=nothing,
        epsilon=epsilon,
        exponential_avg_factor=1.0,
        data_format="NHWC",
        is_training=True,
    )
    count = tf.cast(tf.size(x) // x.shape[-1], tf.float32)
    # Of a single value the sample's variance is 0 / 0: a kernel may say so.
    return y, mean, tf.math.multiply_no_nan(variance, (count - 1) / count)


def moments_of_all(x, axes):
    """Mean and population variance of x over `axes`, all but one, and over all replicas → (C,), (C,), as x float32.

    One message a layer, where Keras sends three.
    """
    context = tf.distribute.get_replica_context()
    if context is None:  # outside of a training step there is nobody to ask
        return tf.nn.moments(x, axes)
    total, squares = tf.reduce_sum(x, axes), tf.reduce_sum(tf.square(x), axes)
    count = tf.cast(tf.size(x) // tf.size(total), x.dtype)[tf.newaxis]
    sizes = [*total.shape, *squares.shape, 1]
    sums = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.concat((total, squares, count), 0))
    total, squares, count = tf.split(sums, sizes)
    mean = total / count
    return mean, tf.maximum(squares / count - tf.square(mean), 0.0)


def infer(x, gamma, beta, mean, variance, epsilon: float):
    """(N, H, W, C) normalized by the given statistics → the same shape and dtype; the rest (C,) float32."""
    y, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x,
        scale=gamma,
        offset=beta,
        mean=mean,
        variance=variance,
        epsilon=epsilon,
        exponential_avg_factor=1.0,
        data_format="NHWC",
        is_training=False,
    )
    return y
