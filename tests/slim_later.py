# SPDX-License-Identifier: Apache-2.0
"""The networks that no tf_slim package has, laid from its layers: `python tests/slim_later.py FOLDER JOB...`.

Scopes, widths and order are those of tensorflow/models research/slim/nets (inception_v4.py,
inception_resnet_v2.py) and of davidsandberg/facenet src/models/inception_resnet_v1.py, spelled out
here by hand, so that the rule in `weights/slim.py` is held against a list.  For each job it leaves
what `slim_networks.py` leaves.
"""

from __future__ import annotations

import os
import sys

import numpy as np
import ramps
import slim_networks

SIZE, CLASSES, BATCH = 299, 1001, 2
JOBS = ("inception_v4", "inception_resnet_v1", "inception_resnet_v2")

slim = slim_networks.load_slim() if __name__ == "__main__" else None


def conv(depth, kernel, scope, stride=1, padding="SAME"):
    return lambda x: slim.conv2d(
        x, depth, kernel, stride=stride, padding=padding, scope=f"Conv2d_{scope}"
    )


def valid(depth, kernel, scope, stride=1):
    return conv(depth, kernel, scope, stride, "VALID")


def max_pool(x):
    return slim.max_pool2d(x, 3, stride=2, padding="VALID")


def avg_pool(x):
    return slim.avg_pool2d(x, 3, stride=1, padding="SAME")


def both(*convolutions):
    return lambda x: concat([one(x) for one in convolutions])


def concat(parts):
    import tensorflow as tf

    return tf.concat(parts, 3)


def forked(x, scope, *branches):
    import tensorflow as tf

    with tf.compat.v1.variable_scope(scope):
        ends = []
        for number, steps in enumerate(branches):
            with tf.compat.v1.variable_scope(f"Branch_{number}"):
                end = x
                for step in steps:
                    end = step(end)
                ends.append(end)
        return concat(ends)


def residual(x, scope, branches, scale, activate=True):
    import tensorflow as tf

    with tf.compat.v1.variable_scope(scope):
        mixed = []
        for number, steps in enumerate(branches):
            with tf.compat.v1.variable_scope(f"Branch_{number}"):
                end = x
                for step in steps:
                    end = step(end)
                mixed.append(end)
        up = slim.conv2d(
            concat(mixed), x.shape[3], 1, normalizer_fn=None, activation_fn=None, scope="Conv2d_1x1"
        )
        x = x + scale * up
        return tf.nn.relu(x) if activate else x


def repeated(x, scope, name, count, branches, scale):
    import tensorflow as tf

    with tf.compat.v1.variable_scope(scope):
        for number in range(1, count + 1):
            x = residual(x, f"{name}_{number}", branches, scale)
    return x


def dense(x, depth, scope):
    return slim.fully_connected(slim.flatten(x), depth, activation_fn=None, scope=scope)


def mean(x):
    return slim.avg_pool2d(x, x.shape[1:3], padding="VALID")


def auxiliary(x, full, logits):
    import tensorflow as tf

    with tf.compat.v1.variable_scope("AuxLogits"):
        x = slim.avg_pool2d(x, 5, stride=3, padding="VALID")
        x = conv(128, 1, "1b_1x1")(x)
        x = valid(768, x.shape[1:3], full)(x)
        return dense(x, CLASSES, logits)


def logits(x):
    import tensorflow as tf

    with tf.compat.v1.variable_scope("Logits"):
        return dense(mean(x), CLASSES, "Logits")


# fmt: off
def v4(x):
    """InceptionV4"""
    for step in (valid(32, 3, "1a_3x3", 2), valid(32, 3, "2a_3x3"), conv(64, 3, "2b_3x3")):
        x = step(x)
    x = forked(x, "Mixed_3a", (max_pool,), (valid(96, 3, "0a_3x3", 2),))
    x = forked(x, "Mixed_4a",
               (conv(64, 1, "0a_1x1"), valid(96, 3, "1a_3x3")),
               (conv(64, 1, "0a_1x1"), conv(64, [1, 7], "0b_1x7"), conv(64, [7, 1], "0c_7x1"), valid(96, 3, "1a_3x3")))
    x = ends_5a = forked(x, "Mixed_5a", (valid(192, 3, "1a_3x3", 2),), (max_pool,))
    for letter in "bcde":
        x = forked(x, f"Mixed_5{letter}",
                   (conv(96, 1, "0a_1x1"),),
                   (conv(64, 1, "0a_1x1"), conv(96, 3, "0b_3x3")),
                   (conv(64, 1, "0a_1x1"), conv(96, 3, "0b_3x3"), conv(96, 3, "0c_3x3")),
                   (avg_pool, conv(96, 1, "0b_1x1")))
    x = forked(x, "Mixed_6a",
               (valid(384, 3, "1a_3x3", 2),),
               (conv(192, 1, "0a_1x1"), conv(224, 3, "0b_3x3"), valid(256, 3, "1a_3x3", 2)),
               (max_pool,))
    for letter in "bcdefgh":
        x = forked(x, f"Mixed_6{letter}",
                   (conv(384, 1, "0a_1x1"),),
                   (conv(192, 1, "0a_1x1"), conv(224, [1, 7], "0b_1x7"), conv(256, [7, 1], "0c_7x1")),
                   (conv(192, 1, "0a_1x1"), conv(192, [7, 1], "0b_7x1"), conv(224, [1, 7], "0c_1x7"),
                    conv(224, [7, 1], "0d_7x1"), conv(256, [1, 7], "0e_1x7")),
                   (avg_pool, conv(128, 1, "0b_1x1")))
    ends_6h = x
    x = forked(x, "Mixed_7a",
               (conv(192, 1, "0a_1x1"), valid(192, 3, "1a_3x3", 2)),
               (conv(256, 1, "0a_1x1"), conv(256, [1, 7], "0b_1x7"), conv(320, [7, 1], "0c_7x1"), valid(320, 3, "1a_3x3", 2)),
               (max_pool,))
    for letter in "bcd":
        x = forked(x, f"Mixed_7{letter}",
                   (conv(256, 1, "0a_1x1"),),
                   (conv(384, 1, "0a_1x1"), both(conv(256, [1, 3], "0b_1x3"), conv(256, [3, 1], "0c_3x1"))),
                   (conv(384, 1, "0a_1x1"), conv(448, [3, 1], "0b_3x1"), conv(512, [1, 3], "0c_1x3"),
                    both(conv(256, [1, 3], "0d_1x3"), conv(256, [3, 1], "0e_3x1"))),
                   (avg_pool, conv(256, 1, "0b_1x1")))
    aux = auxiliary(ends_6h, "2a", "Aux_logits")
    return {"Mixed_5a": ends_5a, "Mixed_6h": ends_6h, "Mixed_7d": x, "AuxLogits": aux, "Logits": logits(x)}


def stem(x):
    for step in (valid(32, 3, "1a_3x3", 2), valid(32, 3, "2a_3x3"), conv(64, 3, "2b_3x3"), max_pool,
                 valid(80, 1, "3b_1x1"), valid(192, 3, "4a_3x3")):
        x = step(x)
    return x


def lower(depths):
    """Branches of a block at 35x35; `depths` are those of the third."""
    return ((conv(32, 1, "1x1"),),
            (conv(32, 1, "0a_1x1"), conv(32, 3, "0b_3x3")),
            (conv(32, 1, "0a_1x1"), conv(depths[0], 3, "0b_3x3"), conv(depths[1], 3, "0c_3x3")))


def upper(first, depths, n):
    """Branches of a block at 17x17 (n=7) or 8x8 (n=3)."""
    return ((conv(first, 1, "1x1"),),
            (conv(depths[0], 1, "0a_1x1"), conv(depths[1], [1, n], f"0b_1x{n}"), conv(depths[2], [n, 1], f"0c_{n}x1")))


def reduction_b(x, second, third):
    return forked(x, "Mixed_7a",
                  (conv(256, 1, "0a_1x1"), valid(384, 3, "1a_3x3", 2)),
                  (conv(256, 1, "0a_1x1"), valid(second, 3, "1a_3x3", 2)),
                  (conv(256, 1, "0a_1x1"), conv(second, 3, "0b_3x3"), valid(third, 3, "1a_3x3", 2)),
                  (max_pool,))


def resnet_v1(x):
    """InceptionResnetV1"""
    x = valid(256, 3, "4b_3x3", 2)(stem(x))
    x = repeated(x, "Repeat", "block35", 5, lower((32, 32)), 0.17)
    x = ends_6a = forked(x, "Mixed_6a",
                         (valid(384, 3, "1a_3x3", 2),),
                         (conv(192, 1, "0a_1x1"), conv(192, 3, "0b_3x3"), valid(256, 3, "1a_3x3", 2)),
                         (max_pool,))
    x = repeated(x, "Repeat_1", "block17", 10, upper(128, (128, 128, 128), 7), 0.10)
    x = reduction_b(x, 256, 256)
    x = repeated(x, "Repeat_2", "block8", 5, upper(192, (192, 192, 192), 3), 0.20)
    x = residual(x, "Block8", upper(192, (192, 192, 192), 3), 1.0, activate=False)
    # facenet's is fully connected; tf_slim's batch normalization of a grid is what still runs.
    embedding = slim.conv2d(mean(x), 128, 1, activation_fn=None, scope="Bottleneck")
    return {"Mixed_6a": ends_6a, "Block8_6": x, "Bottleneck": embedding}


def resnet_v2(x):
    """InceptionResnetV2"""
    x = forked(max_pool(stem(x)), "Mixed_5b",
               (conv(96, 1, "1x1"),),
               (conv(48, 1, "0a_1x1"), conv(64, 5, "0b_5x5")),
               (conv(64, 1, "0a_1x1"), conv(96, 3, "0b_3x3"), conv(96, 3, "0c_3x3")),
               (avg_pool, conv(64, 1, "0b_1x1")))
    x = repeated(x, "Repeat", "block35", 10, lower((48, 64)), 0.17)
    x = forked(x, "Mixed_6a",
               (valid(384, 3, "1a_3x3", 2),),
               (conv(256, 1, "0a_1x1"), conv(256, 3, "0b_3x3"), valid(384, 3, "1a_3x3", 2)),
               (max_pool,))
    x = before = repeated(x, "Repeat_1", "block17", 20, upper(192, (128, 160, 192), 7), 0.10)
    x = reduction_b(x, 288, 320)
    x = repeated(x, "Repeat_2", "block8", 9, upper(192, (192, 224, 256), 3), 0.20)
    x = residual(x, "Block8", upper(192, (192, 224, 256), 3), 1.0, activate=False)
    x = conv(1536, 1, "7b_1x1")(x)
    aux = auxiliary(before, "2a_5x5", "Logits")
    return {"PreAuxLogits": before, "Conv2d_7b_1x1": x, "AuxLogits": aux, "Logits": logits(x)}
# fmt: on


def run(network, path: str) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    # Graphs that are run once: optimizing them takes longer than running them.
    config = v1.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    with tf.Graph().as_default(), v1.Session(config=config) as session:
        images = v1.placeholder(tf.float32, (BATCH, SIZE, SIZE, 3))
        normal = {"is_training": False, "epsilon": 0.001}
        with (
            slim.arg_scope([slim.conv2d], normalizer_fn=slim.batch_norm, normalizer_params=normal),
            v1.variable_scope(network.__doc__),
        ):
            ends = network(images)
        variables = v1.global_variables()
        # In one run: each run of other operations prepares the whole graph again.
        starts = [variable.initializer for variable in variables]
        weights = [ramps.weight(v.op.name, tuple(v.shape)) for v in variables]
        session.run(starts, {s.inputs[1]: w for s, w in zip(starts, weights, strict=True)})
        # What slim's trainer leaves beside each variable, whichever optimizer it had; here beside some.
        kinds = ("ExponentialMovingAverage", "Momentum", "RMSProp", "RMSProp_1")
        extras = [
            "global_step",
            *(f"{v.op.name}/{kind}" for v in variables[::20] for kind in kinds),
        ]
        extras = [v1.get_variable(name, initializer=np.zeros(2, np.float32)) for name in extras]
        session.run(v1.variables_initializer(extras))
        v1.train.Saver(variables + extras).save(session, f"{path}.ckpt", write_meta_graph=False)
        ends = session.run(ends, {images: ramps.images(BATCH, SIZE, SIZE, 3)})
    names = [variable.op.name for variable in variables]
    np.savez(f"{path}.npz", names=names, **{f"end/{k}": v for k, v in ends.items()})


if __name__ == "__main__":
    networks = dict(zip(JOBS, (v4, resnet_v1, resnet_v2), strict=True))
    for name in sys.argv[2:]:
        run(networks[name], os.path.join(sys.argv[1], name))
