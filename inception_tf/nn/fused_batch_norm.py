# SPDX-License-Identifier: Apache-2.0
"""Batch normalization as one TensorFlow operation; imported by `batch_norm.py` where TensorFlow is the backend."""

from __future__ import annotations

import tensorflow as tf

__all__ = ["DTYPES", "LEAST_EPSILON", "infer", "moments_of_all", "replicas", "safe_here", "train"]

DTYPES = ("bfloat16", "float16", "float32")  # of x; all else is float32
LEAST_EPSILON = 1.001e-5  # cuDNN takes no smaller one: tf.nn.fused_batch_norm, nn_impl.py
# The first release whose kernels can be called eagerly from two threads, in training and in inference: with
# oneDNN, earlier ones keep the number of channels of their last call.  All eager layers share one kernel, which then
# writes past the end of the shorter one's arrays; in a graph each layer has a kernel of its own.
THREAD_SAFE = (2, 21)
IS_THREAD_SAFE = tuple(int(part) for part in tf.__version__.split(".")[:2]) >= THREAD_SAFE


def safe_here() -> bool:
    """Whether the operations may run here: in a graph always, eagerly from `THREAD_SAFE` on.

    Returns:
        False while TensorFlow executes eagerly in a release whose kernels are not safe for threads.
    """
    return IS_THREAD_SAFE or not tf.executing_eagerly()


def replicas() -> int:
    """The number of replicas over which the current `tf.distribute` strategy sums gradients.

    Returns:
        At least 1; 1 without a strategy.
    """
    return tf.distribute.get_strategy().num_replicas_in_sync


def train(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float) -> tuple:
    """Normalizes a batch by its own statistics.  Call it only where `safe_here()`.

    Args:
        x: (N, H, W, C), one of `DTYPES`.
        gamma: (C,) float32, the scale.
        beta: (C,) float32, the offset.
        epsilon: added to the variance, at least `LEAST_EPSILON`.

    Returns:
        Outputs, of x's shape and dtype; means, (C,) float32; variances, (C,) float32, over n = N*H*W
        values as Keras computes them: the operation itself returns them over n - 1 (Bessel).
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
    # The unbiased variance of a single value is 0 / 0: a kernel may return NaN.
    return y, mean, tf.math.multiply_no_nan(variance, (count - 1) / count)


def moments_of_all(x: tf.Tensor, axes: list[int]) -> tuple:
    """Mean and variance over `axes` and over all replicas, by one message per layer, where Keras sends three.

    Args:
        x: a float tensor with C channels on the axis that is not in `axes`.
        axes: all axes but one.

    Returns:
        Means and variances over n values, (C,) each, in x's dtype.
    """
    context = tf.distribute.get_replica_context()
    if context is None:  # outside of a training step there are no other replicas
        return tf.nn.moments(x, axes)
    total, squares = tf.reduce_sum(x, axes), tf.reduce_sum(tf.square(x), axes)
    count = tf.cast(tf.size(x) // tf.size(total), x.dtype)[tf.newaxis]
    sizes = [*total.shape, *squares.shape, 1]
    sums = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.concat((total, squares, count), 0))
    total, squares, count = tf.split(sums, sizes)
    mean = total / count
    return mean, tf.maximum(squares / count - tf.square(mean), 0.0)


def infer(
    x: tf.Tensor,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    mean: tf.Tensor,
    variance: tf.Tensor,
    epsilon: float,
) -> tf.Tensor:
    """Normalizes by given statistics.  Call it only where `safe_here()`.

    Args:
        x: (N, H, W, C), one of `DTYPES`.
        gamma: (C,) float32, the scale.
        beta: (C,) float32, the offset.
        mean: (C,) float32.
        variance: (C,) float32.
        epsilon: added to the variance, at least `LEAST_EPSILON`.

    Returns:
        Of x's shape and dtype.
    """
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
