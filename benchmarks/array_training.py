# SPDX-License-Identifier: Apache-2.0
"""Training on arrays, with any backend of Keras and without TensorFlow: what accelerator.py trains where it is missing.

`fit_arrays` is `train` without tf.data: the same compiled model, phases, averages in validation and skipped steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np

from inception_tf.host.hardware import Precision
from inception_tf.models import variant
from inception_tf.training.compile import compile_for, compiled_model
from inception_tf.training.model_plan import ModelPlan
from inception_tf.training.optim.ema import AveragedEvaluation
from inception_tf.training.optim.skip_nonfinite import StopOnNonFinite
from inception_tf.training.phases import phases_of
from inception_tf.training.recipes import read_recipe

SPLITS = ("train", "test")


def write_folder(folder: Path, path: Path, size: int) -> None:
    """Images of `folder/train` and `folder/test`, a folder for each class, as one file for `read_arrays`.

    Args:
        folder: such as flowers12.
        path: `.npz`: `train_images` (N, size, size, 3) uint8, `train_labels` (N,), `test_images`, `test_labels`.
        size: pixels; images are stretched, as slim's views are.
    """
    arrays = {}
    for split in SPLITS:
        kinds = sorted(p for p in (folder / split).iterdir() if p.is_dir())
        files = [(file, k) for k, kind in enumerate(kinds) for file in sorted(kind.iterdir())]
        images = [
            keras.utils.load_img(file, target_size=(size, size), interpolation="bilinear")
            for file, _ in files
        ]
        arrays[f"{split}_images"] = np.stack([np.asarray(image, "uint8") for image in images])
        arrays[f"{split}_labels"] = np.array([label for _, label in files], "int64")
    np.savez_compressed(path, **arrays)


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of `write_folder`."""
    with np.load(path) as file:
        return {
            f"{split}_{what}": file[f"{split}_{what}"]
            for split in SPLITS
            for what in ("images", "labels")
        }


def shifted(most: int, *, flip: bool) -> Callable:
    """An augmentation: each image rolled by up to `most` pixels, and mirrored by chance.

    Args:
        most: pixels, along both axes.
        flip: whether images may be mirrored.

    Returns:
        A function of (B, H, W, C) images and a random generator.
    """

    def augment(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
        moves = random.integers(-most, most + 1, (len(images), 2))
        moved = [np.roll(i, move, (0, 1)) for i, move in zip(images, moves, strict=True)]
        mirrored = random.random(len(images)) < 0.5 * flip
        return np.stack([i[:, ::-1] if m else i for i, m in zip(moved, mirrored, strict=True)])

    return augment


class Batches(keras.utils.PyDataset):
    """Whole batches of the training images in a new order each epoch; another shape would be compiled apart."""

    def __init__(self, images, targets, batch_size: int, augment: Callable, seed: int):
        super().__init__()
        self.images, self.targets, self.batch_size = images, targets, batch_size
        self.augment, self.random = augment, np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self):
        return len(self.images) // self.batch_size

    def __getitem__(self, number):
        chosen = self.order[number * self.batch_size : (number + 1) * self.batch_size]
        images = self.augment(self.images[chosen], self.random)
        return unit(images), {name: values[chosen] for name, values in self.targets.items()}

    def on_epoch_end(self):
        self.order = self.random.permutation(len(self.images))


def unit(images: np.ndarray) -> np.ndarray:
    """uint8 → float32 in [-1, 1]."""
    return images.astype("float32") / 127.5 - 1


def fit_arrays(
    arrays: Mapping[str, np.ndarray],
    recipe: str,
    settings: Sequence[str],
    *,
    precision: str,
    augment: Callable,
    say: Callable[[str], None] = print,
) -> dict:
    """Trains a network as `train` does, on arrays.

    Args:
        arrays: as `write_folder` has them.
        recipe: a recipe's name, such as `digits` or `finetune`.
        settings: `--set` strings: `model.name`, `model.weights`, `data.batch_size`, `training.epochs`, ...
        precision: a Keras dtype policy, such as mixed_float16.
        augment: as `shifted` makes one.
        say: gets a line for each epoch.

    Returns:
        `accuracy` and `loss` of each epoch, `seconds` in all, `first_epoch` and the median `epoch` in seconds,
        `loss_scale`, and `images` of an epoch.
    """
    size, classes = arrays["train_images"].shape[1], int(arrays["train_labels"].max()) + 1
    config = read_recipe(recipe).override([*settings, f"model.size={size}"])
    batch_size = config.data.batch_size
    keras.utils.set_random_seed(config.training.seed)
    network = variant(config.model.name, **config.model.switches)
    steps = len(arrays["train_images"]) // batch_size
    chosen = Precision(precision, "as asked for")
    plan = ModelPlan(config, network, classes, size, steps, chosen)
    model = compiled_model(plan)
    one_hot = {
        split: np.eye(classes, dtype="float32")[arrays[f"{split}_labels"]] for split in SPLITS
    }
    targets = {split: dict.fromkeys(model.output, labels) for split, labels in one_hot.items()}
    batches = Batches(
        *(arrays["train_images"], targets["train"], batch_size, augment), config.training.seed
    )
    marks = Marks(say)
    stop = StopOnNonFinite(config.training.max_bad_steps)
    for phase in phases_of(config):
        if phase.first:
            compile_for(model, plan, phase)
        model.fit(
            batches,
            initial_epoch=phase.first,
            epochs=phase.end,
            validation_data=(unit(arrays["test_images"]), targets["test"]),
            validation_batch_size=batch_size,
            callbacks=[AveragedEvaluation(), marks, stop],
            verbose=0,
        )
    epochs = np.diff(marks.times)
    return {
        "accuracy": marks.values("val_predictions_top1", "val_top1"),
        "loss": marks.values("loss"),
        "seconds": float(marks.times[-1] - marks.times[0]),
        "first_epoch": float(epochs[0]),
        "epoch": float(np.median(epochs[1:])) if len(epochs) > 1 else float(epochs[0]),
        "loss_scale": float(keras.ops.convert_to_numpy(model.optimizer.dynamic_scale)),
        "images": len(batches) * batch_size,
    }


class Marks(keras.callbacks.Callback):
    """The time and the metrics of each epoch."""

    def __init__(self, say: Callable[[str], None]):
        super().__init__()
        self.say, self.times, self.logs = say, [time.perf_counter()], []

    def on_epoch_end(self, epoch, logs=None):
        self.times.append(time.perf_counter())
        self.logs.append(dict(logs))
        self.say(f"epoch {epoch + 1}: " + ", ".join(f"{k} {v:.4f}" for k, v in logs.items()))

    def values(self, *names: str) -> list[float]:
        """Of the first of these names that the epochs have: with auxiliary classifiers it has the output's name."""
        name = next(name for name in names if name in self.logs[0])
        return [float(logs[name]) for logs in self.logs]
