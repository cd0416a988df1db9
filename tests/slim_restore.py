# SPDX-License-Identifier: Apache-2.0
"""Logits of a tf_slim network restored from a checkpoint: `python tests/slim_restore.py CKPT NETWORK CLASSES IMAGES.npy OUT.npy [OPTION...]`.

The options of the network are set to False.
"""

from __future__ import annotations

import importlib
import sys

import numpy as np
import slim_networks

if __name__ == "__main__":
    path, network, classes, images, out, *options = sys.argv[1:]
    import tensorflow as tf

    slim = slim_networks.load_slim()
    module, function, settings = slim_networks.NAMES.get(
        network, ("inception", network, f"{network}_arg_scope")
    )
    module = importlib.import_module(f"tf_slim.nets.{module}")
    pixels = np.load(images)
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, pixels.shape)
        with slim.arg_scope(getattr(module, settings)()):
            logits, _ = getattr(module, function)(
                x, num_classes=int(classes), is_training=False, **dict.fromkeys(options, False)
            )
        v1.train.get_or_create_global_step()  # which slim's evaluation restores too
        v1.train.Saver().restore(session, path)
        np.save(out, session.run(logits, {x: pixels}))
