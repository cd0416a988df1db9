# SPDX-License-Identifier: Apache-2.0
"""Callbacks of a run: history and checkpoints, a clean stop, the progress bar, TensorBoard images."""

from __future__ import annotations

import csv
import dataclasses
import io
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from inception_tf.config import TrainingConfig
from inception_tf.host.atomic_io import atomic_write_text
from inception_tf.host.progress import progress_bar
from inception_tf.run_folder import Run
from inception_tf.training.best import BEST, forget_others, is_over, keep_best
from inception_tf.training.checkpoint import Progress, save
from inception_tf.training.determinism import seed_step
from inception_tf.training.jax_state import attached
from inception_tf.training.monitored import MAP
from inception_tf.training.pictures import first_and_rest

if TYPE_CHECKING:
    import tensorflow as tf

    from inception_tf.training.distribute import Team

__all__ = [
    "EpochTensorBoard",
    "LogInputsAndGraph",
    "ProgressBar",
    "Recorder",
    "StepCallbacks",
    "Stopped",
    "learning_rate",
]

SAVE_EVERY = 600.0  # seconds; saving Inception V3 with its optimizer state takes about two
SHOW_EVERY = 1.0  # seconds between two figures of the bar; reading one waits for the step
SYNC_EVERY = 10  # steps; it takes a few milliseconds to find out whether any worker wants to stop
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """The user stopped the run, and its state is saved.

    Args:
        step: the number of steps done, which the attribute `step` keeps.
    """

    def __init__(self, step: int):
        super().__init__(f"stopped at step {step}")
        self.step = step


class StepCallbacks(keras.callbacks.CallbackList):
    """Keras' list of callbacks, without its look at every metric after every step, which waits for the device.

    A callback whose `takes_tensors` is True gets the metrics of a step as the backend's tensors.  For any other that
    has an `on_train_batch_end` of its own they are read, as Keras does.

    Args:
        callbacks: For `fit`.
        model: The model to train.
        **params: `epochs`, and `steps` of an epoch, for the callbacks.
    """

    def __init__(self, callbacks: Sequence, model: keras.Model, **params: Any):
        super().__init__(list(callbacks), add_history=True, model=model, **params)

    def on_train_batch_end(self, batch, logs=None):
        read = None
        for callback in self.callbacks:
            if getattr(callback, "takes_tensors", False):
                callback.on_train_batch_end(batch, logs)
            elif (
                type(callback).on_train_batch_end is not keras.callbacks.Callback.on_train_batch_end
            ):
                if read is None:
                    read = {name: _number(value) for name, value in (logs or {}).items()}
                callback.on_train_batch_end(batch, read)


class EpochTensorBoard(keras.callbacks.TensorBoard):
    """Keras' TensorBoard of the epochs alone, without a call for every step.

    Args:
        folder: TensorBoard's.
    """

    takes_tensors = True

    def __init__(self, folder: Path):
        super().__init__(folder, write_graph=False)

    def on_train_batch_begin(self, batch, logs=None):
        """Nothing is logged."""

    def on_train_batch_end(self, batch, logs=None):
        """Nothing is logged."""


class Recorder(keras.callbacks.Callback):
    """Writes `history.csv` and the checkpoints, and turns Ctrl-C into a stop between two steps.

    A checkpoint is saved after each epoch, and every `save_every` seconds within one.  The first SIGINT or
    SIGTERM saves at the end of the step and raises `Stopped` (at the end of an epoch: after its validation);
    a second one ends the process at once and leaves the previous checkpoint intact.

    With several processes only the chief writes, and all save and stop at the same step: the next multiple
    of ten, whichever process got the signal.

    Args:
        run: the run folder to write to.
        progress: how far the run is before the first `fit`.
        save_every: seconds between two checkpoints within an epoch.
        team: the processes that train together; None: this one alone.
        training: which epoch is kept and when the run ends early; None: the last, and never.
    """

    takes_tensors = True

    def __init__(
        self,
        run: Run,
        progress: Progress,
        save_every: float = SAVE_EVERY,
        team: Team | None = None,
        training: TrainingConfig | None = None,
    ):
        super().__init__()
        self.training = training or TrainingConfig()
        self.run = run
        if team is None:
            from inception_tf.training.distribute import Team

            team = Team()
        self.team = team
        self.save_every = save_every
        self.resume_from(progress)
        self.carried: list = []  # metric sums of an interrupted epoch, to be added to its rest
        self.asked_to_stop = False
        self.handlers: dict = {}

    def resume_from(self, progress: Progress) -> None:
        """Continues from a checkpoint, before the first `fit`.

        Args:
            progress: how far the run was.
        """
        self.progress = progress
        self.started = time.perf_counter() - progress.seconds
        self.saved = time.perf_counter()
        self.epoch_start = progress.step  # the step at which this call of `fit` started its epoch

    def on_train_begin(self, logs=None):
        # The rest of an interrupted epoch is a separate `fit`, followed by another `fit`.
        if not self.handlers and threading.current_thread() is threading.main_thread():
            self.handlers = {s: signal.signal(s, self._ask_to_stop) for s in STOP_SIGNALS}

    def release_signals(self) -> None:
        """Restores the usual meaning of Ctrl-C; called once after the last step, however it ended."""
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        self.handlers = {}

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch_start, self.carried = self.progress.step, self.progress.metrics

    def on_train_batch_begin(self, batch, logs=None):
        seed_step(self.training.seed, self.epoch_start + batch)

    def on_train_batch_end(self, batch, logs=None):
        if self.carried:
            # Keras starts every epoch's sums at zero, and has no metrics before the first step of a process.
            attached(self.model)
            for variable, value in zip(self.model.metrics_variables, self.carried, strict=True):
                variable.assign(keras.ops.convert_to_numpy(variable) + value)
            self.carried = []
        before = self.progress.step
        # Not the optimizer's count: a skipped step has used its batch, too.
        self._advance(self.epoch_start + batch + 1, self.progress.history)
        due = time.perf_counter() - self.saved > self.save_every
        ends_the_epoch = batch + 1 == self.params.get("steps")
        tens = self.progress.step // SYNC_EVERY > before // SYNC_EVERY
        if ends_the_epoch or (self.team.workers > 1 and not tens):
            return
        stop, due = self.team.any(self.asked_to_stop, due)
        if stop or due:
            attached(self.model)
            sums = [keras.ops.convert_to_numpy(v).tolist() for v in self.model.metrics_variables]
            self._save(dataclasses.replace(self.progress, metrics=sums), stop)

    def on_epoch_end(self, epoch, logs=None):
        row = {
            "epoch": epoch + 1,
            "step": self.progress.step,
            "seconds": round(self.progress.seconds, 3),
            "learning_rate": learning_rate(self.model),
            **{_plain_name(name): float(value) for name, value in (logs or {}).items()},
        }
        self._advance(self.progress.step, [*self.progress.history, row])
        history = self.progress.history
        keeps_best = self.training.keep == BEST and self.team.is_chief
        if self.team.is_chief:
            atomic_write_text(self.run.path / "history.csv", _as_csv(history))
        if keeps_best:
            keep_best(self.run.checkpoints, self.model, history)
        self._save(self.progress, *self.team.any(self.asked_to_stop))
        if keeps_best:
            forget_others(self.run.checkpoints, history)
        if is_over(history, self.training):
            self.model.stop_training = True

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
            self.team.wait()  # no process ends before everything is written
            raise Stopped(progress.step)

    def _ask_to_stop(self, number, frame):
        if self.asked_to_stop:
            raise KeyboardInterrupt
        self.asked_to_stop = True


class ProgressBar(keras.callbacks.Callback):
    """Shows a progress bar per epoch on stderr: images, time left, images/s, learning rate, loss and accuracy.

    Args:
        epochs: the total number, for the label.
        batch_size: images per step.
    """

    takes_tensors = True

    def __init__(self, epochs: int, batch_size: int):
        super().__init__()
        self.epochs = epochs
        self.batch_size = batch_size
        self.bar: Any = None  # tqdm has no types
        self.updated = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        steps = self.params.get("steps")  # None for data of unknown length
        # tqdm's own format switches to seconds per image where a step is slow.
        amount = (
            "{n_fmt} images, {elapsed}"
            if steps is None
            else "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}, {remaining} left"
        )
        self.bar = progress_bar(
            None if steps is None else steps * self.batch_size,
            f"epoch {epoch + 1}/{self.epochs}",
            bar_format=f"{{desc}}: {amount}, {{rate_noinv_fmt}}{{postfix}}",
        )
        self.updated = 0.0

    def on_train_batch_end(self, batch, logs=None):
        now = time.perf_counter()
        if now - self.updated >= SHOW_EVERY:
            self.updated = now
            self._show(logs, ("loss", "top1", MAP))
        self.bar.update((batch + 1) * self.batch_size - self.bar.n)

    def on_epoch_end(self, epoch, logs=None):
        self._show(logs, ("loss", "top1", MAP, "val_loss", "val_top1", f"val_{MAP}"))
        self.close()

    def _show(self, logs, names):
        shown = [f"lr {learning_rate(self.model):.2g}", *_shown(logs, names)]
        self.bar.set_postfix_str(", ".join(shown), refresh=False)

    def close(self) -> None:
        """Closes a bar that an error left open; harmless otherwise."""
        if self.bar is not None:  # one of unknown length has no truth value
            self.bar.close()


class LogInputsAndGraph(keras.callbacks.Callback):
    """Logs the first images of each data set and, of TensorFlow's networks, the graph to TensorBoard.

    Args:
        folder: TensorBoard's folder; each data set gets a subfolder.
        data: name, `train` or `validation`, to batches ((B, H, W, 3) float32 in [-1, 1], ...).
        count: images of the first batch that are logged.
        draw: called with the training batches, from the first one on; None: they are not drawn.
    """

    def __init__(
        self,
        folder: Path,
        data: dict[str, tf.data.Dataset],
        count: int = 16,
        draw: Callable[[Iterable], None] | None = None,
    ):
        super().__init__()
        self.folder = folder
        self.data = data
        self.count = count
        self.draw = draw

    def on_train_begin(self, logs=None):
        import tensorflow as tf

        for name, batches in self.data.items():
            (images, *_), batches = first_and_rest(batches)
            if name == "train" and self.draw is not None:
                self.draw(batches)
            writer = tf.summary.create_file_writer(str(self.folder / name))
            with writer.as_default(step=0):
                tf.summary.image("inputs", (images + 1) / 2, max_outputs=self.count)
                # Other backends have no graph of TensorFlow's.
                if name == "train" and keras.backend.backend() == "tensorflow":
                    tf.summary.graph(self._forward(images).graph)
            writer.close()
        self.data = {}  # only once: resuming an interrupted epoch calls `fit` twice

    def _forward(self, images):
        import tensorflow as tf

        # Keras only logs the graph of its own model class.
        spec = tf.TensorSpec((None, *images.shape[1:]), images.dtype)
        return tf.function(lambda x: self.model(x, training=False)).get_concrete_function(spec)


def learning_rate(model: keras.Model) -> float:
    """The learning rate of the next step, from the schedule.

    Args:
        model: a compiled model.

    Returns:
        The current value.
    """
    return _number(attached(model).optimizer.learning_rate)


def _number(value: Any) -> float:
    """() of any backend, also on a GPU."""
    return float(keras.ops.convert_to_numpy(value))


def _plain_name(name: str) -> str:
    """Removes the output from a metric's name: `val_predictions_top1` → `val_top1`."""
    for metric in (MAP, "top"):
        name = name.replace(f"predictions_{metric}", metric)
    return name.replace("val_predictions", "val")


def _shown(logs: Mapping | None, names: Sequence[str]) -> list[str]:
    values = {_plain_name(name): value for name, value in (logs or {}).items()}
    return [f"{name} {_number(values[name]):.4f}" for name in names if name in values]


def _as_csv(rows: list[dict]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(
        text, fieldnames=list(rows[0]), lineterminator="\n", extrasaction="ignore"
    )
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
