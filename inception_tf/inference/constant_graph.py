# SPDX-License-Identifier: Apache-2.0
"""Graphs whose weights are constants: a network for inference alone, and faster for small batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from inception_tf.host.silence import silence

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["make_constant_graph", "make_graph"]

CONSTANT_BATCH_LIMIT = 8  # images; larger batches gain no time from constant weights

# Grappler's passes, each of which copies the graph with its constants.  Only the remapper stays on, which fuses
# a convolution with its bias and activation: `optimize_for_inference` has done the work of the others.
OFF = (
    "arithmetic_optimization",
    "common_subgraph_elimination",
    "constant_folding",
    "debug_stripper",
    "dependency_optimization",
    "function_optimization",
    "layout_optimizer",
    "loop_optimization",
    "scoped_allocator_optimization",
    "shape_optimization",
)


def make_graph(model: keras.Model, batch_size: int) -> Callable[[Any], Any]:
    """Compiles a model into one TensorFlow graph, with constant weights where the batch is small.

    Args:
        model: One input and one output.
        batch_size: Images per call.

    Returns:
        A function of a (batch_size, H, W, C) array or tensor; `np.asarray` takes its output.
    """
    import tensorflow as tf

    if batch_size <= CONSTANT_BATCH_LIMIT:
        return make_constant_graph(model, batch_size)
    return tf.function(lambda images: model(images, training=False), autograph=False)


def make_constant_graph(model: keras.Model, batch_size: int) -> Callable[[np.ndarray], np.ndarray]:
    """Compiles a model into one TensorFlow graph whose weights are constants.

    oneDNN reorders a constant kernel once, and a variable's at each call.  Inception V3 in bfloat16 on two cores: 0.020
    s instead of 0.030 s for one image, 0.124 instead of 0.138 for eight, the same for sixteen.  The weights are held
    several times more, half a gigabyte for V3.

    Args:
        model: One input and one output.
        batch_size: Images per call.

    Returns:
        A function of a (batch_size, H, W, C) array or tensor of the input's dtype; its output is an array.
    """
    import tensorflow as tf

    (image,) = model.inputs
    # Arrays before the graph: there a variable has no value.
    weights = [
        [v.numpy() for v in model.trainable_variables],
        [v.numpy() for v in model.non_trainable_variables],
    ]
    graph = tf.Graph()
    with graph.as_default():
        images = tf.compat.v1.placeholder(image.dtype, (batch_size, *image.shape[1:]))
        constants = tf.nest.map_structure(tf.constant, weights)
        outputs, _ = model.stateless_call(*constants, images, training=False)
    session = tf.compat.v1.Session(graph=graph, config=_config())
    call = session.make_callable(tf.nest.flatten(outputs)[0], [images])
    with silence():  # the first call logs from C++ which passes are off
        call(np.zeros(images.shape, images.dtype.as_numpy_dtype))
    return lambda images: call(np.asarray(images))


def _config() -> tf.compat.v1.ConfigProto:
    import tensorflow as tf

    config = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=tf.config.threading.get_intra_op_parallelism_threads(),
        inter_op_parallelism_threads=tf.config.threading.get_inter_op_parallelism_threads(),
    )
    rewrites = config.graph_options.rewrite_options
    for name in OFF:
        setattr(rewrites, name, rewrites.OFF)
    rewrites.memory_optimization = rewrites.NO_MEM_OPT
    rewrites.disable_model_pruning = True
    rewrites.meta_optimizer_iterations = rewrites.ONE
    return config
