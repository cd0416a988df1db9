# SPDX-License-Identifier: Apache-2.0
"""Progress bars: on stderr, moving on a terminal and a line now and then in a log file."""

from __future__ import annotations

import sys

import keras
import numpy as np
import pytest

from inception_tf.host.progress import LOG_S, TERMINAL_S, progress_bar
from inception_tf.training.callbacks import ProgressBar


def test_a_log_file_gets_a_line_now_and_then_on_stderr_alone(capsys):
    with progress_bar(10, "reading") as bar:
        assert bar.mininterval == LOG_S
        bar.update(10)
    out, err = capsys.readouterr()
    assert out == ""
    assert "reading: 100%" in err.splitlines()[-1]
    assert "10/10" in err


def test_a_terminal_gets_a_moving_bar(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress_bar(None, "reading") as bar:
        assert bar.mininterval == TERMINAL_S


# Keras' word for the end of a generator.
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("steps", [3, None])
def test_an_epoch_of_known_and_of_unknown_length_is_shown(steps, capsys):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False)
    data = ((np.ones((4, 2)), np.ones((4, 1))) for _ in range(3))
    bar = ProgressBar(epochs=1, batch_size=4)
    model.fit(data, steps_per_epoch=steps, verbose=0, shuffle=False, callbacks=[bar])
    last = capsys.readouterr().err.split("\r")[-1]
    shown = "epoch 1/1: 100%" if steps else "epoch 1/1: 12 images, "
    assert shown in last
    assert "lr 0.01" in last
