# SPDX-License-Identifier: Apache-2.0
"""Passes over data without tf.data's tuner, which can end them late."""

from __future__ import annotations

import tensorflow as tf

from inception_tf.host.hardware import usable_cores

__all__ = ["untuned"]

MOST_THREADS = (
    16  # of a parallel step whose number nothing tunes (TensorFlow's kAutotuneDefaultParallelism)
)


def untuned(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Switch off tf.data's tuning of threads and buffers, on machines where it has nothing to find.

    The tuner sleeps between its looks, each time twice as long: 10 ms to a minute.  At the end of a pass TensorFlow
    wakes it, and only then marks it as cancelled, so that it may fall asleep again, and the pass waits for it: 2 of 10
    evaluations of 1.4 s took 2.6 s (TensorFlow 2.20).  Without it a step with `tf.data.AUTOTUNE` has a thread for each
    core, up to 16; with more cores the tuner stays.

    Args:
        batches: Any data set; what is made of it is not tuned either.

    Returns:
        The same elements.
    """
    if usable_cores() > MOST_THREADS:
        return batches
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.with_options(options)
