# SPDX-License-Identifier: Apache-2.0
"""A hand on the keyboard at a known moment of a training."""

from __future__ import annotations

import signal

import keras

__all__ = ["CtrlC"]


class CtrlC(keras.callbacks.Callback):
    """Presses Ctrl-C in the middle of step `batch` of epoch `epoch`."""

    def __init__(self, epoch, batch):
        super().__init__()
        self.when, self.epoch = (epoch, batch), None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == self.when:
            signal.raise_signal(signal.SIGINT)
