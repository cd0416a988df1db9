# SPDX-License-Identifier: Apache-2.0
"""What happens beside the training steps: the record of the run, its checkpoints, a clean stop, the progress bar."""

from __future__ import annotations

import csv
import io
import signal
import sys
import threading
import time

import keras

from inception_tf.files import write_whole
from inception_tf.training.resume import Progress, save
from inception_tf.training.run import Run

__all__ = ["Bar", "Recorder", "Stopped"]

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """The run was asked to stop and has saved its state; `step` says where."""

    def __init__(self, step: int):
        super().__init__(f"stopped at step {step}")
        self.step = step


class Recorder(keras.callbacks.Callback):
    """Keeps `history.csv` and the checkpoints, and turns Ctrl-C into a stop between two steps.

    A first SIGINT or SIGTERM saves at the end of the step and raises `Stopped`; a second one ends
    the process at once, with the checkpoint before it intact.
    """

    def __init__(self, run: Run, progress: Progress):
        super().__init__()
        self.run = run
        self.progress = progress
        self.started = time.perf_counter() - progress.seconds
        self.asked_to_stop = False
        self.handlers: dict = {}

    def on_train_begin(self, logs=None):
        if threading.current_thread() is threading.main_thread():
            self.handlers = {s: signal.signal(s, self._ask_to_stop) for s in STOP_SIGNALS}

    def release_signals(self):
        """Gives Ctrl-C its usual meaning back; called once after the last step, however it ended."""
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        self.handlers = {}

    def on_train_batch_end(self, batch, logs=None):
        self._advance(self.progress.history)
        if self.asked_to_stop:
            self._save_and_stop()

    def on_epoch_end(self, epoch, logs=None):
        rate = self.model.optimizer.learning_rate
        row = {
            "epoch": epoch + 1,
            "step": self.progress.step,
            "seconds": round(self.progress.seconds, 3),
            "learning_rate": float(keras.ops.convert_to_numpy(rate)),
            **{plain_name(name): float(value) for name, value in (logs or {}).items()},
        }
        self._advance([*self.progress.history, row])
        save(self.run.checkpoints, self.model, self.progress)
        write_whole(self.run.path / "history.csv", _as_csv(self.progress.history))
        if self.asked_to_stop:
            raise Stopped(self.progress.step)

    def _advance(self, history):
        step = int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))
        self.progress = Progress(step, time.perf_counter() - self.started, history)

    def _save_and_stop(self):
        save(self.run.checkpoints, self.model, self.progress)
        raise Stopped(self.progress.step)

    def _ask_to_stop(self, number, frame):
        if self.asked_to_stop:
            raise KeyboardInterrupt
        self.asked_to_stop = True


class Bar(keras.callbacks.Callback):
    """A progress bar an epoch on stderr: steps, time left, rate, loss and accuracy so far."""

    def __init__(self, epochs: int, batch_size: int):
        super().__init__()
        self.epochs = epochs
        self.batch_size = batch_size
        self.bar = None

    def on_epoch_begin(self, epoch, logs=None):
        from tqdm import tqdm

        # A log file gets a line now and then, a terminal a moving bar.
        self.bar = tqdm(
            total=self.params["steps"] * self.batch_size,
            desc=f"epoch {epoch + 1}/{self.epochs}",
            unit="images",
            file=sys.stderr,
            mininterval=0.2 if sys.stderr.isatty() else 5.0,
        )

    def on_train_batch_end(self, batch, logs=None):
        self.bar.set_postfix_str(_shown(logs, ("loss", "top1")), refresh=False)
        self.bar.update(self.batch_size)

    def on_epoch_end(self, epoch, logs=None):
        self.bar.set_postfix_str(
            _shown(logs, ("loss", "top1", "val_loss", "val_top1")), refresh=False
        )
        self.close()

    def close(self):
        """Ends the line of a bar that an error left open; harmless otherwise."""
        if self.bar:
            self.bar.close()


def plain_name(name: str) -> str:
    """A metric's name without the output it belongs to: `val_predictions_top1` → `val_top1`."""
    return name.replace("predictions_top", "top").replace("val_predictions", "val")


def _shown(logs, names) -> str:
    values = {plain_name(name): value for name, value in (logs or {}).items()}
    return ", ".join(f"{name} {float(values[name]):.4f}" for name in names if name in values)


def _as_csv(rows: list[dict]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(
        text, fieldnames=list(rows[0]), lineterminator="\n", extrasaction="ignore"
    )
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
