# SPDX-License-Identifier: Apache-2.0
"""`python with_short_networks.py RUN [KILLED_AT]`: trains a short network on the digits, or resumes it; SIGKILL at that step.

A checkpoint is saved after every step.  `python with_short_networks.py COMMAND ...` runs a command of `inception-tf` with
short networks, `python with_short_networks.py SCRIPT.py ...` a script.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
from functools import partial
from pathlib import Path

import keras
from short_networks import shorten_all

from inception_tf import cli
from inception_tf.training.recipes import read_recipe

SETTINGS = ("model.name=inception_v1", "model.size=32", "model.width_multiplier=0.1")
SETTINGS += ("model.dropout=0.3", "training.epochs=2", "training.precision=float32")
SETTINGS += ("optimizer.ema=0.999", "training.warm_up_statistics=true", "data.batch_size=128")


class Killed(keras.callbacks.Callback):
    """SIGKILL at the start of a step."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def on_train_batch_begin(self, batch, logs=None):
        if batch == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def main(folder: Path, killed_at: int | None = None) -> None:
    # Only here: timing a step needs no TensorFlow.
    from inception_tf.training import train as training

    training.Recorder = partial(training.Recorder, save_every=0.0)
    config = read_recipe("digits").override(list(SETTINGS))
    callbacks = [] if killed_at is None else [Killed(killed_at)]
    training.train(config, folder, resumed=(folder / "config.yaml").exists(), callbacks=callbacks)


if __name__ == "__main__":
    shorten_all()
    if sys.argv[1] in cli.COMMANDS:
        sys.exit(cli.main(sys.argv[1:]))
    if sys.argv[1].endswith(".py"):
        sys.argv = sys.argv[1:]
        sys.path.insert(0, str(Path(sys.argv[0]).parent))
        sys.exit(runpy.run_path(sys.argv[0], run_name="__main__"))
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
