# SPDX-License-Identifier: Apache-2.0
"""tf_slim's networks for one training step, in a process of their own: `python tests/parity_slim.py FOLDER [JOB...]`.

For each job it leaves FOLDER/<job>.ckpt*, the weights by a fixed rule, and FOLDER/<job>.npz with what
`parity_torch.step` finds, under slim's names.
"""

from __future__ import annotations

import importlib
import os
import sys

import numpy as np
import parity_torch
import ramps
import slim_later
import slim_networks
from parity_torch import AFTER, CLASSES, EVAL, GRADIENT, LOGITS, Job

DECAY = (
    0.9997  # of the moving statistics, which its settings fix; the change is scaled to `MOMENTUM`
)
JOBS = {
    "inception_v1": Job("slim", "inception_v1", {}, 224, 2, (), None),
    "inception_v2": Job("slim", "inception_v2", {}, 224, 2, (), None),
    "inception_v3": Job("slim", "inception_v3", {}, 299, 2, (0.4,), None),
    # Those that no tf_slim package has, laid from its layers.
    "inception_v4": Job("slim", "inception_v4", {}, 139, 4, (0.4,), None),
    "inception_resnet_v2": Job("slim", "inception_resnet_v2", {}, 139, 4, (0.4,), None),
}
LATER = {"inception_v4": slim_later.v4, "inception_resnet_v2": slim_later.resnet_v2}


def run(name: str, job: Job, folder: str) -> None:
    import tensorflow as tf

    slim = slim_networks.load_slim()
    v1 = tf.compat.v1
    x, labels = parity_torch.images(job), parity_torch.labels(job)

    def of_package(images, training):
        module = importlib.import_module(f"tf_slim.nets.{name}")
        options = {"create_aux_logits": True} if name == "inception_v3" else {}
        with slim.arg_scope(getattr(module, f"{name}_arg_scope")(weight_decay=0.0)):
            logits, ends = getattr(module, name)(
                images,
                num_classes=CLASSES,
                is_training=training,
                dropout_keep_prob=1.0,
                reuse=None if training else True,
                **options,
            )
        return logits, ends

    def of_layers(images, training):
        slim_later.slim, slim_later.CLASSES = slim, CLASSES
        normal = {"is_training": training, "epsilon": 0.001, "decay": DECAY}
        scope = LATER[name].__doc__
        with (
            slim.arg_scope([slim.conv2d], normalizer_fn=slim.batch_norm, normalizer_params=normal),
            v1.variable_scope(scope, reuse=None if training else True),
        ):
            ends = LATER[name](images)
        return ends["Logits"], ends

    def built(images, training):
        logits, ends = (of_layers if name in LATER else of_package)(images, training)
        return [logits, *([ends["AuxLogits"]] if job.auxiliaries else [])]

    with tf.Graph().as_default(), v1.Session() as session:
        images = v1.placeholder(tf.float32, x.shape)
        ends = built(images, True)
        updates = v1.get_collection(v1.GraphKeys.UPDATE_OPS)
        evaluated = built(images, False)[0]
        losses = [
            tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, end))
            for end in ends
        ]
        loss = sum(f * one for f, one in zip((1.0, *job.auxiliaries), losses, strict=True))
        weights, variables = v1.trainable_variables(), v1.global_variables()
        gradients = tf.gradients(loss, weights)
        # In one run: each run of other operations prepares the whole graph again.
        starts = [variable.initializer for variable in variables]
        values = [ramps.weight(v.op.name, tuple(v.shape)) for v in variables]
        session.run(starts, {s.inputs[1]: w for s, w in zip(starts, values, strict=True)})
        v1.train.Saver().save(session, os.path.join(folder, f"{name}.ckpt"), write_meta_graph=False)
        feed = {images: x}
        found = {f"{EVAL}0": session.run(evaluated, feed)}
        ends, gradients, _ = session.run((ends, gradients, updates), feed)
        found |= {f"{LOGITS}{number}": end for number, end in enumerate(ends)}
        found |= {f"{GRADIENT}{v.op.name}": g for v, g in zip(weights, gradients, strict=True)}
        moving = [v for v in variables if "moving_" in v.op.name]
        for variable, after in zip(moving, session.run(moving), strict=True):
            before = ramps.weight(variable.op.name, after.shape).astype(np.float64)
            change = (after - before) * parity_torch.MOMENTUM / (1 - DECAY)
            found[f"{AFTER}{variable.op.name}"] = before + change
    np.savez(os.path.join(folder, f"{name}.npz"), **found)


if __name__ == "__main__":
    folder, *names = sys.argv[1:]
    for name in names or JOBS:
        run(name, JOBS[name], folder)
