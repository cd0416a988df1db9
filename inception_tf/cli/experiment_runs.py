# SPDX-License-Identifier: Apache-2.0
"""Training of an experiment's runs with a progress bar each, for the commands that have several."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from inception_tf.cli.output import echo

if TYPE_CHECKING:
    from inception_tf.config import Config
    from inception_tf.experiments.short_runs import RunSettings

__all__ = ["train_with_bars"]


def train_with_bars(
    wanted: dict[str, Config], out: Path, setting: RunSettings, after: Callable[[], object]
) -> None:
    """Trains the runs that are not finished, see `train_runs`.

    Args:
        wanted: name to configuration.
        out: the folder of the experiment.
        setting: of all runs.
        after: called when a run has finished.

    Raises:
        KeyboardInterrupt: Ctrl-C, once the state is saved, with the step.
    """
    from inception_tf.experiments.short_runs import train_runs
    from inception_tf.training.callbacks import ProgressBar, Stopped

    bars = []

    def before(name, config):
        epochs = config.training.epochs
        echo(
            f"{name}: learning rate {config.optimizer.learning_rate:g}, epochs: {epochs}", err=True
        )
        bars.append(ProgressBar(epochs, config.data.batch_size))
        return bars[-1:]

    def finished():
        bars.pop().close()
        after()

    try:
        train_runs(wanted, out, setting, before=before, after=finished)
    except Stopped as stop:
        raise KeyboardInterrupt(
            f"stopped at step {stop.step:,} of a run, saved; the same command resumes there"
        ) from None
    finally:
        for bar in bars:
            bar.close()
