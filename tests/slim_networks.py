# SPDX-License-Identifier: Apache-2.0
"""Runs the real tf_slim networks in a process of their own: `python tests/slim_networks.py FOLDER JOB...`.

For each job it leaves FOLDER/<job>.ckpt* and FOLDER/<job>.npz: the variables' names in slim's
order with the mean and deviation of their initial values, the regularization loss and its number of terms, and each
endpoint as `end/<name>`.  tf_slim 1.1.0 runs on
TensorFlow 2.20 once `tf_keras.legacy_tf_layers` exists, which later tf_keras keeps under `src`.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import sys
from typing import NamedTuple
from unittest import mock

import numpy as np
import ramps


class Job(NamedTuple):
    network: str
    size: int
    classes: int
    checkpoint: int  # format, 1 or 2; the released files are of 1
    arguments: dict  # further ones of slim's function


JOBS = {
    "inception_v1": Job("inception_v1", 224, 1001, 1, {}),
    "inception_v2": Job("inception_v2", 224, 1001, 1, {}),
    "inception_v2_narrow": Job("inception_v2", 224, 10, 2, {"depth_multiplier": 0.25}),
    "inception_v3": Job("inception_v3", 299, 1001, 1, {}),
    "inception_v3_narrow": Job("inception_v3", 299, 10, 2, {"depth_multiplier": 0.25}),
    "alexnet": Job("alexnet", 224, 1000, 2, {}),
    "alexnet_narrow": Job("alexnet", 224, 10, 2, {"depth_multiplier": 0.25}),
    "vgg16": Job("vgg16", 224, 1000, 2, {}),
}
SLOW = {"inception_v2", "inception_v3", "alexnet", "vgg16"}  # V1 is full-size in every run
NAMES = {  # module, function, settings
    "alexnet": ("alexnet", "alexnet_v2", "alexnet_v2_arg_scope"),
    "vgg16": ("vgg", "vgg_16", "vgg_arg_scope"),
}
BATCH = 2
WEIGHT_DECAY = 4e-5


def load_slim():
    import tf_keras
    from tf_keras.src import legacy_tf_layers
    from tf_keras.src.legacy_tf_layers import normalization

    tf_keras.legacy_tf_layers = legacy_tf_layers
    sys.modules["tf_keras.legacy_tf_layers"] = legacy_tf_layers
    sys.modules["tf_keras.legacy_tf_layers.normalization"] = normalization
    import tf_slim

    return tf_slim


@contextlib.contextmanager
def narrow(module, multiplier: float, classes: int):
    """slim's AlexNet has no `depth_multiplier`: every convolution but the classifier's gets that many channels."""
    conv2d = module.layers.conv2d

    @functools.wraps(conv2d)  # slim finds the arguments of a scope by an attribute of the function
    def narrower(inputs, channels, *sizes, **settings):
        channels = channels if channels == classes else int(multiplier * channels)
        return conv2d(inputs, channels, *sizes, **settings)

    with mock.patch.object(module.layers, "conv2d", narrower):
        yield


def run(job: Job, path: str) -> None:
    import tensorflow as tf

    tf_slim = load_slim()
    default = ("inception", job.network, f"{job.network}_arg_scope")
    module, function, settings = NAMES.get(job.network, default)
    module = importlib.import_module(f"tf_slim.nets.{module}")
    v1 = tf.compat.v1
    # Graphs that are run once: optimizing them takes longer than running them.
    config = v1.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    with tf.Graph().as_default(), v1.Session(config=config) as session:
        images = v1.placeholder(tf.float32, (BATCH, job.size, job.size, 3))
        with tf_slim.arg_scope(getattr(module, settings)(weight_decay=WEIGHT_DECAY)):
            network, arguments = getattr(module, function), dict(job.arguments)
            narrowed = contextlib.nullcontext()
            if job.network == "alexnet" and arguments:
                narrowed = narrow(module, arguments.pop("depth_multiplier"), job.classes)
            with narrowed:
                _, ends = network(images, num_classes=job.classes, is_training=False, **arguments)
        variables = v1.global_variables()
        # In one run: each run of other operations optimizes the whole graph anew.
        starts = [variable.initializer for variable in variables]
        session.run(starts)
        initial = [(value.mean(), value.std()) for value in session.run(variables)]
        weights = [ramps.weight(v.op.name, tuple(v.shape)) for v in variables]
        session.run(starts, {s.inputs[1]: w for s, w in zip(starts, weights, strict=True)})
        # What a trainer leaves beside the weights: a step, a slot, a moving average.
        first = variables[0].op.name
        extras = ("global_step", f"{first}/RMSProp", f"{first}/ExponentialMovingAverage")
        extras = [v1.get_variable(name, initializer=np.zeros(2, np.float32)) for name in extras]
        session.run(v1.variables_initializer(extras))
        saver = v1.train.Saver(variables + extras, write_version=job.checkpoint)
        saver.save(session, f"{path}.ckpt", write_meta_graph=False)
        loss = v1.losses.get_regularization_loss()
        terms = len(v1.losses.get_regularization_losses())
        feed = {images: ramps.images(BATCH, job.size, job.size, 3)}
        ends, loss = session.run((ends, loss), feed)
    names = [variable.op.name for variable in variables]
    found = {"names": names, "initial": initial, "loss": loss, "terms": terms}
    np.savez(f"{path}.npz", **found, **{f"end/{k}": v for k, v in ends.items()})


if __name__ == "__main__":
    for name in sys.argv[2:]:
        run(JOBS[name], os.path.join(sys.argv[1], name))
