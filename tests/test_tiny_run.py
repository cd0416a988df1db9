# SPDX-License-Identifier: Apache-2.0
"""A whole training, tiny: averaged weights, two phases, a stop in the second, and its continuation."""

from __future__ import annotations

import numpy as np
import pytest
from ctrl_c import CtrlC
from small_runs import few_digits, only

from inception_tf.config import Config
from inception_tf.run_folder import Run
from inception_tf.training import checkpoint
from inception_tf.training.callbacks import Stopped
from inception_tf.training.train import train

STEM = "Conv2d_1a_7x7_conv/kernel"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two run folders: one never stopped, one stopped in its second phase and resumed."""
    folder = tmp_path_factory.mktemp("tiny")
    settings = (
        *("model.name=inception_v1", "model.size=32", "model.width_multiplier=0.1"),
        *("data.name=digits", "data.batch_size=4", "data.flip=false", "data.box_area=null"),
        *("training.precision=float32", "training.epochs=3", "training.head_epochs=1"),
        *("optimizer.ema=0.9", "optimizer.warmup_epochs=0"),
    )
    config = Config().override(settings)
    whole, stopped = folder / "whole", folder / "stopped"
    with few_digits(12, 4), only("inception_v1", "Conv2d_1a_7x7"):
        train(config, whole)
        with pytest.raises(Stopped):
            train(config, stopped, callbacks=[CtrlC(1, 1)])
        train(config, stopped, resumed=True)
        yield whole, stopped


def weights(run):
    return {v.path: np.asarray(v) for v in Run(run).model().weights}


def saved(run):
    with np.load(checkpoint.latest(Run(run).checkpoints) / "variables.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


def test_the_averaged_weights_are_the_result(runs):
    arrays, kernel = saved(runs[0]), weights(runs[0])[STEM]
    trained = arrays["model/Conv2d_1a_7x7_conv/0-kernel"]
    averages = [v for name, v in arrays.items() if "average" in name and v.shape == kernel.shape]
    assert np.abs(kernel - trained).max() > 1e-6
    assert any(np.array_equal(kernel, average) for average in averages)


def test_a_run_stopped_in_its_second_phase_ends_as_one_never_stopped(runs):
    whole, stopped = map(weights, runs)
    for path, value in whole.items():
        np.testing.assert_array_equal(stopped[path], value, err_msg=path)
    whole, stopped = map(saved, runs)
    assert whole.keys() == stopped.keys()
    for name, value in whole.items():
        np.testing.assert_array_equal(stopped[name], value, err_msg=name)
