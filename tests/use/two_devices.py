# SPDX-License-Identifier: Apache-2.0
"""Trains networks on two virtual processors as on one: `PYTHONPATH=tests python tests/use/two_devices.py CUT HOW NETWORK...`.

For each network a model that is built, one that is cloned and one that is loaded inside MirroredStrategy's scope,
or of these what HOW names, with commas; each has to end with the weights and the statistics of one device.  CUT is a
function of `short_networks`.
"""

from __future__ import annotations

import sys
import tempfile

import keras
import numpy as np
import short_networks
import tensorflow as tf
from case import Case, compiled


def made(case: Case, how: str) -> keras.Model:
    model = case.model()
    if how == "cloned":
        clone = keras.models.clone_model(model)
        clone.set_weights(model.get_weights())
        return clone
    if how == "loaded":
        with tempfile.TemporaryDirectory() as folder:
            model.save(f"{folder}/model.keras")
            return keras.saving.load_model(f"{folder}/model.keras")
    return model


def trained(case: Case, how: str, strategy: tf.distribute.Strategy) -> dict[str, np.ndarray]:
    """The weights after two steps on four images, whose statistics differ between the devices."""
    x = case.x * np.array([0.2, 0.4, 1.5, 2.0], "float32").reshape(4, 1, 1, 1)
    data = tf.data.Dataset.from_tensor_slices((x, case.y)).batch(4, drop_remainder=True)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    with strategy.scope():
        # One step with large gradients would grow what rounding alone makes different.
        model = compiled(made(case, how), optimizer=keras.optimizers.SGD(1e-4))
    model.fit(data.with_options(options), epochs=2, verbose=0)
    return {v.path: keras.ops.convert_to_numpy(v) for v in model.weights}


def main(cut: str, ways: str, *networks: str) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    for name in networks:
        case = Case(name, getattr(short_networks, cut))
        alone = trained(case, "built", tf.distribute.get_strategy())
        for how in ways.split(","):
            two = tf.distribute.MirroredStrategy(
                ["CPU:0", "CPU:1"],
                cross_device_ops=tf.distribute.HierarchicalCopyAllReduce(),
            )
            for path, value in trained(case, how, two).items():
                np.testing.assert_allclose(
                    value, alone[path], rtol=2e-3, atol=2e-5, err_msg=f"{name}, {how}: {path}"
                )
        print(name)


if __name__ == "__main__":
    main(*sys.argv[1:])
