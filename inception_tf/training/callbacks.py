# SPDX-License-Identifier: Apache-2.0
"""What happens beside the training steps: the record of the run, its checkpoints, a clean stop, the progress bar."""

from __future__ import annotations

import csv
import dataclasses
import io
import signal
import threading
import time
from pathlib import Path

import keras
import tensorflow as tf

from inception_tf.host.atomic_io import atomic_write_text
from inception_tf.host.progress import progress_bar
from inception_tf.run_folder import Run
from inception_tf.training.checkpoint import Progress, save
from inception_tf.training.distribute import Team

__all__ = ["ProgressBar", "LogInputsAndGraph", "Recorder", "Stopped", "learning_rate"]

SAVE_EVERY = 600.0  # seconds; a save of Inception V3 with all its slots takes about two
AGREE_EVERY = (
    10  # steps; asking all workers whether one wants to stop takes them a few milliseconds
)
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """The run was asked to stop and has saved its state; `step` says where."""

    def __init__(self, step: int):
        super().__init__(f"stopped at step {step}")
        self.step = step


class Recorder(keras.callbacks.Callback):
    """Keeps `history.csv` and the checkpoints, and turns Ctrl-C into a stop between two steps.

    A checkpoint follows each epoch, and each `save_every` seconds within one.  A first SIGINT or
    SIGTERM saves at the end of the step and raises `Stopped`, at the end of an epoch after its
    validation; a second one ends the process at once, with the checkpoint before it intact.

    In a team of several processes only the chief writes, and all save and stop at the same step, the
    next that ends ten, whichever of them was asked.
    """

    def __init__(
        self,
        run: Run,
        progress: Progress,
        save_every: float = SAVE_EVERY,
        team: Team | None = None,
    ):
        super().__init__()
        self.run = run
        self.team = team or Team()
        self.save_every = save_every
        self.resume_from(progress)
        self.carried: list = []  # sums of an epoch that was left in the middle, to be added to its rest
        self.asked_to_stop = False
        self.handlers: dict = {}

    def resume_from(self, progress: Progress):
        self.progress = progress
        self.started = time.perf_counter() - progress.seconds
        self.saved = time.perf_counter()
        self.begun = progress.step  # where this call of `fit` began its epoch

    def on_train_begin(self, logs=None):
        # An epoch that is finished in a `fit` of its own is followed by another `fit`.
        if not self.handlers and threading.current_thread() is threading.main_thread():
            self.handlers = {s: signal.signal(s, self._ask_to_stop) for s in STOP_SIGNALS}

    def release_signals(self):
        """Gives Ctrl-C its usual meaning back; called once after the last step, however it ended."""
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        self.handlers = {}

    def on_epoch_begin(self, epoch, logs=None):
        self.begun, self.carried = self.progress.step, self.progress.metrics

    def on_train_batch_end(self, batch, logs=None):
        if self.carried:
            # Keras begins every epoch's sums at zero, and has no metrics before a process' first step.
            for variable, value in zip(self.model.metrics_variables, self.carried, strict=True):
                variable.assign(keras.ops.convert_to_numpy(variable) + value)
            self.carried = []
        before = self.progress.step
        # Not the optimizer's count: a step that is left out has used its batch, too.
        self._advance(self.begun + batch + 1, self.progress.history)
        due = time.perf_counter() - self.saved > self.save_every
        ends_the_epoch = batch + 1 == self.params.get("steps")
        tens = self.progress.step // AGREE_EVERY > before // AGREE_EVERY
        if ends_the_epoch or (self.team.workers > 1 and not tens):
            return
        stop, due = self.team.any(self.asked_to_stop, due)
        if stop or due:
            sums = [keras.ops.convert_to_numpy(v).tolist() for v in self.model.metrics_variables]
            self._save(dataclasses.replace(self.progress, metrics=sums), stop)

    def on_epoch_end(self, epoch, logs=None):
        row = {
            "epoch": epoch + 1,
            "step": self.progress.step,
            "seconds": round(self.progress.seconds, 3),
            "learning_rate": learning_rate(self.model),
            **{plain_name(name): float(value) for name, value in (logs or {}).items()},
        }
        self._advance(self.progress.step, [*self.progress.history, row])
        if self.team.is_chief:
            atomic_write_text(self.run.path / "history.csv", _as_csv(self.progress.history))
        self._save(self.progress, *self.team.any(self.asked_to_stop))

    def _advance(self, step, history):
        seconds = time.perf_counter() - self.started
        self.progress = dataclasses.replace(
            self.progress, step=step, seconds=seconds, history=history, metrics=[]
        )

    def _save(self, progress, stop):
        if self.team.is_chief:
            save(self.run.checkpoints, self.model, progress)
        self.saved = time.perf_counter()
        if stop:
            self.team.wait()  # nobody leaves before all is written
            raise Stopped(progress.step)

    def _ask_to_stop(self, number, frame):
        if self.asked_to_stop:
            raise KeyboardInterrupt
        self.asked_to_stop = True


class ProgressBar(keras.callbacks.Callback):
    """A progress bar an epoch on stderr: images, time left, images a second, learning rate, loss and accuracy."""

    def __init__(self, epochs: int, batch_size: int):
        super().__init__()
        self.epochs = epochs
        self.batch_size = batch_size
        self.bar = None
        self.told = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self.bar = progress_bar(
            self.params["steps"] * self.batch_size,
            f"epoch {epoch + 1}/{self.epochs}",
            # tqdm's own turns into seconds an image where a step is slow.
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}, {remaining} left,"
            " {rate_noinv_fmt}{postfix}",
        )
        self.told = 0.0

    def on_train_batch_end(self, batch, logs=None):
        now = time.perf_counter()
        if now - self.told >= self.bar.mininterval:  # the rate is a computation of its own
            self.told = now
            self._tell(logs, ("loss", "top1"))
        self.bar.update((batch + 1) * self.batch_size - self.bar.n)

    def on_epoch_end(self, epoch, logs=None):
        self._tell(logs, ("loss", "top1", "val_loss", "val_top1"))
        self.close()

    def _tell(self, logs, names):
        rate = f"rate {learning_rate(self.model):.2g}"
        self.bar.set_postfix_str(", ".join([rate, *_shown(logs, names)]), refresh=False)

    def close(self):
        """Ends the line of a bar that an error left open; harmless otherwise."""
        if self.bar:
            self.bar.close()


class LogInputsAndGraph(keras.callbacks.Callback):
    """Writes into `folder`, beside TensorBoard's scalars, the first images of each data set and the network's graph.

    data: by name, `train` and `validation`, batches ((B, H, W, 3) float32 -1..1, ...); shown in 0..1.
    """

    def __init__(self, folder: Path, data: dict[str, tf.data.Dataset], count: int = 16):
        super().__init__()
        self.folder = folder
        self.data = data
        self.count = count

    def on_train_begin(self, logs=None):
        for name, batches in self.data.items():
            images, *_ = next(iter(batches))
            writer = tf.summary.create_file_writer(str(self.folder / name))
            with writer.as_default(step=0):
                tf.summary.image("inputs", (images + 1) / 2, max_outputs=self.count)
                if name == "train":
                    tf.summary.graph(self._forward(images).graph)
            writer.close()
        self.data = {}  # once, though an epoch left in the middle takes a `fit` of its own

    def _forward(self, images):
        # Keras writes the graph of a model of its own class only.
        spec = tf.TensorSpec((None, *images.shape[1:]), images.dtype)
        return tf.function(lambda x: self.model(x, training=False)).get_concrete_function(spec)


def learning_rate(model: keras.Model) -> float:
    """The rate of the next step, by the schedule."""
    return float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))


def plain_name(name: str) -> str:
    """A metric's name without the output it belongs to: `val_predictions_top1` → `val_top1`."""
    return name.replace("predictions_top", "top").replace("val_predictions", "val")


def _shown(logs, names) -> list[str]:
    values = {plain_name(name): value for name, value in (logs or {}).items()}
    return [f"{name} {float(values[name]):.4f}" for name in names if name in values]


def _as_csv(rows: list[dict]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(
        text, fieldnames=list(rows[0]), lineterminator="\n", extrasaction="ignore"
    )
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
