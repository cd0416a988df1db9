# SPDX-License-Identifier: Apache-2.0
"""The best epoch: found, kept through a stop, and the run's result; and the end of a run that gets no better."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from small_runs import few_digits, only

from inception_tf.config import Config
from inception_tf.errors import UserError
from inception_tf.run_folder import Run
from inception_tf.training.best import best_row, is_over, take_best
from inception_tf.training.train import train


def rows(*accuracies):
    return [{"epoch": n + 1, "val_top1": value} for n, value in enumerate(accuracies)]


def test_the_best_epoch_is_the_first_of_equals():
    assert best_row(rows(0.1, 0.7, 0.7, 0.2))["epoch"] == 2


@pytest.mark.parametrize(
    ("accuracies", "settings", "over"),
    [
        ((0.5, 0.4, 0.4), [], False),
        ((0.5, 0.4, 0.4), ["training.patience=2"], True),
        ((0.5, 0.4), ["training.patience=2"], False),
        ((0.5, 0.4, 0.6, 0.6), ["training.patience=2"], False),
        ((0.5, 0.4, 0.6, 0.6, 0.6), ["training.patience=2"], True),
        # Two epochs of the classifier alone, then one of the whole network.
        ((0.5, 0.4, 0.3), ["training.patience=2", "training.head_epochs=2"], False),
        ((0.5, 0.4, 0.3, 0.3), ["training.patience=2", "training.head_epochs=2"], True),
        ((), ["training.patience=1"], False),
    ],
)
def test_patience_counts_epochs_without_a_better_one(accuracies, settings, over):
    assert is_over(rows(*accuracies), Config().override(settings).training) is over


class Spoil(keras.callbacks.Callback):
    """Ruins the classifier before the third epoch, and notes its kernel after each."""

    def __init__(self):
        super().__init__()
        self.kernels = []

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            kernel = self.model.get_layer("Logits").kernel
            kernel.assign(keras.ops.zeros_like(kernel))

    def on_epoch_end(self, epoch, logs=None):
        self.kernels.append(np.asarray(self.model.get_layer("Logits").kernel).squeeze())


SMALL = (
    *("model.name=googlenet", "model.size=32", "model.width_multiplier=0.05"),
    *("model.aux_logits=false", "training.steps_per_execution=1"),
    *("data.name=digits", "data.batch_size=4", "data.box_area=null", "data.flip=false"),
    *("optimizer.learning_rate=1e-6", "optimizer.warmup_epochs=0", "training.epochs=4"),
    *("training.precision=float32", "training.keep=best"),
)


@pytest.fixture
def small():
    with few_digits(8, 8), only("googlenet", "Conv2d_1a_7x7"):
        yield


def test_the_result_is_the_best_epoch_after_a_stop_and_with_more_epochs_too(small, tmp_path):
    config = Config().override(SMALL)
    spoil = Spoil()
    report = train(config, tmp_path / "run", callbacks=[spoil])
    result = report["result"]
    assert (report["epochs"], report["keep"]) == (4, "best")
    assert result["epoch"] in (1, 2)
    run = Run(tmp_path / "run")
    kernel = np.asarray(run.model().get_layer("Logits").kernel).squeeze()
    np.testing.assert_array_equal(kernel, spoil.kernels[result["epoch"] - 1])
    assert np.abs(spoil.kernels[3]).max() < 1e-3 < np.abs(kernel).max()
    history = (run.path / "history.csv").read_text().splitlines()
    columns = history[0].split(",")
    row = dict(zip(columns, history[result["epoch"]].split(","), strict=True))
    assert float(row["val_top1"]) == pytest.approx(result["val_top1"])
    kept = [path.name for path in run.checkpoints.glob("best-*")]
    assert kept == [f"best-epoch-{result['epoch']:04d}.npz"]

    # A finished run goes on: the learning rate is that of the longer run.
    longer = config.override(["training.epochs=6", "training.patience=4"])
    again = train(longer, run.path, resumed=True)
    assert (again["epochs"], again["result"]["epoch"]) == (result["epoch"] + 4, result["epoch"])
    assert run.config().training.epochs == 6
    rates = [
        float(line.split(",")[columns.index("learning_rate")])
        for line in (run.path / "history.csv").read_text().splitlines()[1:]
    ]
    assert rates[4] == pytest.approx(1e-6 * 0.5 * (1 + np.cos(np.pi * 5 / 6)), rel=0.05)
    with pytest.raises(
        UserError, match=r"has done [56] epochs; --epochs may be more than that, not 2"
    ):
        train(longer.override(["training.epochs=2"]), run.path, resumed=True)
    assert json.loads((run.path / "report.json").read_text())["result"] == again["result"]


def test_without_the_weights_of_the_best_epoch_nothing_is_loaded_and_that_is_said(tmp_path, caplog):
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    before = network.get_weights()
    assert not take_best(tmp_path, network, rows(0.1, 0.3, 0.2))
    assert "best-epoch-0002.npz is missing, so the result is the last epoch's" in caplog.text
    np.testing.assert_array_equal(network.get_weights()[0], before[0])
