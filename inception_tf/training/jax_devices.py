# SPDX-License-Identifier: Apache-2.0
"""Training on several devices of JAX by Keras' distribution API."""

from __future__ import annotations

import keras

__all__ = ["DataParallel", "EvaluateOnEach", "all_devices"]


class DataParallel(keras.distribution.DataParallel):
    """Keras' distribution, for which the batches of an evaluation need not be multiples of the number of devices.

    A batch of a training is divided among the devices.  In an evaluation each device computes whole batches, all
    the same ones: Keras lays out all batches as the first, and the last one may be shorter, by images that cannot be
    read too.
    """

    evaluates: bool = False

    def get_data_layout(self, data_shape):
        layout = super().get_data_layout(data_shape)
        if not self.evaluates:
            return layout
        return keras.distribution.TensorLayout([None] * len(data_shape), self.device_mesh)


class EvaluateOnEach(keras.callbacks.Callback):
    """A callback with which `fit` evaluates whole batches on each device of a `DataParallel`.

    Args:
        devices: the distribution of the model.
    """

    def __init__(self, devices: DataParallel):
        super().__init__()
        self.devices = devices

    def on_test_begin(self, logs=None):
        self.devices.evaluates = True

    def on_test_end(self, logs=None):
        self.devices.evaluates = False


def all_devices() -> DataParallel | None:
    """The devices of this machine that JAX computes on.

    Returns:
        A distribution over the GPUs, or over the processor's devices where there is no GPU; None where it is one device.
    """
    devices = keras.distribution.list_devices()
    return DataParallel(devices=devices) if len(devices) > 1 else None
