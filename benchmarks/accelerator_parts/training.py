# SPDX-License-Identifier: Apache-2.0
"""Real trainings by `model.fit` on arrays, without tf.data: the handwritten digits, and photographs from trained weights."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path

DIGITS_TRAINED = 1437  # images of 1,797; the others are tested on
DIGITS_SIZE = 48  # pixels
SHIFT = 6  # pixels, one of the 8 x 8 originals
PHOTO_MARGIN = (
    1.15  # photographs are kept this much larger than the network's images, for random crops
)


def write_digits(path: Path) -> None:
    """scikit-learn's 1,797 handwritten digits as one file: `images` (N, 8, 8) 0..16, `labels` (N,)."""
    import numpy as np
    from sklearn.datasets import load_digits

    digits = load_digits()
    np.savez_compressed(path, images=digits.images.astype("uint8"), labels=digits.target)


def read_digits(path: str | None) -> tuple:
    """Images (N, 48, 48, 3) float32 -1..1 and labels (N, 10) float32, from a file or from scikit-learn."""
    import numpy as np

    if path is None:
        from sklearn.datasets import load_digits

        digits = load_digits()
        images, labels = digits.images, digits.target
    else:
        with np.load(path) as file:
            images, labels = file["images"], file["labels"]
    factor = DIGITS_SIZE // 8
    pixels = images.astype("float32").repeat(factor, 1).repeat(factor, 2)[..., None] / 8 - 1
    return pixels.repeat(3, 3), np.eye(10, dtype="float32")[labels]


def write_photos(folder: Path, path: Path) -> None:
    """A folder with `train` and `test`, each of class folders, as one file.

    Gets the encoded images one after another as `bytes`, (total,) uint8, where each ends as `ends`, (N,) int64,
    `labels` (N,) and `tested` (N,) bool.
    """
    import numpy as np

    names = sorted(entry.name for entry in (folder / "train").iterdir())
    stored, labels, tested = [], [], []
    for split in ("train", "test"):
        for label, name in enumerate(names):
            for file in sorted((folder / split / name).iterdir()):
                stored.append(file.read_bytes())
                labels.append(label)
                tested.append(split == "test")
    np.savez(
        path,
        bytes=np.frombuffer(b"".join(stored), "uint8"),
        ends=np.cumsum([len(one) for one in stored]),
        labels=labels,
        tested=tested,
    )


def read_photos(path: str, size: int) -> tuple:
    """What `write_photos` wrote: training and test images (N, S, S, 3) uint8, and both labels (N, K) float32.

    Test images have `size` pixels, training images `PHOTO_MARGIN` times as many.
    """
    import numpy as np
    from PIL import Image

    with np.load(path) as file:
        stored, ends, labels, tested = (file[k] for k in ("bytes", "ends", "labels", "tested"))
    begins = np.concatenate([[0], ends[:-1]])
    sides = (round(size * PHOTO_MARGIN), size)
    images: tuple[list, list] = ([], [])
    for begin, end, test in zip(begins, ends, tested, strict=True):
        with Image.open(io.BytesIO(stored[begin:end].tobytes())) as photo:
            square = (sides[int(test)],) * 2
            scaled = photo.convert("RGB").resize(square, Image.Resampling.BILINEAR)
            images[int(test)].append(np.asarray(scaled))
    targets = np.eye(labels.max() + 1, dtype="float32")[labels]
    return np.stack(images[0]), targets[~tested], np.stack(images[1]), targets[tested]


def train(task: dict, files: dict) -> dict:
    """Trains as a task says, and gives accuracies, losses and times of its epochs."""
    return {"digits": _digits, "photos": _photos}[task["data"]](task, files)


def _digits(task: dict, files: dict) -> dict:
    import numpy as np

    images, labels = read_digits(files.get("digits"))

    def shifted(chosen, random):
        """Each image by up to a pixel of its original."""
        shifts = random.integers(-SHIFT, SHIFT + 1, (len(chosen), 2))
        moved = (np.roll(images[i], shift, (0, 1)) for i, shift in zip(chosen, shifts, strict=True))
        return np.stack(list(moved))

    tested = images[DIGITS_TRAINED:], labels[DIGITS_TRAINED:]
    words = [f"training.epochs={task['epochs']}"]
    return _fit(task, words, labels[:DIGITS_TRAINED], shifted, tested, DIGITS_SIZE)


def _photos(task: dict, files: dict) -> dict:
    import numpy as np

    if not (files.get("photos") and files.get("weights")):
        raise ValueError("it needs --photos and --weights")
    size = task["size"]
    images, labels, test_images, test_labels = read_photos(files["photos"], size)
    margin = images.shape[1] - size

    def augmented(chosen, random):
        """A random crop, mirrored half of the time."""
        places = random.integers(0, margin + 1, (len(chosen), 2))
        mirrored = random.integers(0, 2, len(chosen)) * 2 - 1
        crops = (
            images[i, top : top + size, left : left + size][:, ::step]
            for i, (top, left), step in zip(chosen, places, mirrored, strict=True)
        )
        return np.stack(list(crops)).astype("float32") / 127.5 - 1

    words = [f"training.epochs={task['epochs']}", f"training.head_epochs={task['head_epochs']}"]
    words += [f"model.weights={files['weights']}"]
    tested = test_images.astype("float32") / 127.5 - 1, test_labels
    return _fit(task, words, labels, augmented, tested, size)


def _fit(
    task: dict, words: list[str], labels, batch_of: Callable, tested: tuple, size: int
) -> dict:
    """`fit_arrays` in mixed_float16 of the network and the recipe of a task, with further settings."""
    words += [f"model.name={task['model']}", f"model.width_multiplier={task['width']}"]
    words += [f"model.size={size}", f"data.batch_size={task['batch_size']}"]
    found = fit_arrays(
        *(task["recipe"], words, labels, batch_of, tested),
        precision="mixed_float16",
        test_batch=task.get("test_batch", len(tested[0])),
    )
    return {"training": {"data": task["data"], **found}}


def fit_arrays(
    recipe: str,
    settings: Sequence[str],
    labels,
    batch_of: Callable,
    tested: tuple,
    *,
    precision: str,
    test_batch: int,
    say: Callable[[str], None] = print,
) -> dict:
    """Trains a network on arrays as `train` does on files, on any backend of Keras and without TensorFlow.

    The same compiled model, phases, averages in validation and skipped steps.

    Args:
        recipe: a recipe's name, such as `digits` or `finetune`.
        settings: `--set` strings: `model.name`, `model.size`, `model.weights`, `data.batch_size`, ...
        labels: (N, K) one-hot classes of the training images.
        batch_of: image numbers and a NumPy generator → those images, augmented, (B, S, S, 3) float32 in [-1, 1].
        tested: test images (M, S, S, 3) float32 in [-1, 1], and labels (M, K).
        precision: a Keras dtype policy, such as mixed_float16.
        test_batch: images of a step of validation.
        say: gets a line for each epoch.

    Returns:
        `accuracy` and `loss` of each epoch, `seconds` in all, `first_epoch` and the median `epoch` of the others in
        seconds, `loss_scale`, `images` of an epoch, `input_rate` in images per second of the input alone, and how many
        were `tested`.
    """
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

    config = read_recipe(recipe).override(list(settings))
    batch = config.data.batch_size
    steps = len(labels) // batch  # whole batches alone: another shape would be compiled apart
    keras.utils.set_random_seed(config.training.seed)
    network = variant(config.model.name, **config.model.switches)
    chosen = Precision(precision, "as asked for")
    plan = ModelPlan(config, network, labels.shape[1], config.model.size, steps, chosen)
    model = compiled_model(plan)
    marks, logs = [time.perf_counter()], []

    class Mark(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, found=None):
            marks.append(time.perf_counter())
            # With auxiliary classifiers a metric has its output's name.
            logs.append({k.replace("predictions_top", "top"): float(v) for k, v in found.items()})
            say(f"epoch {epoch + 1}: " + ", ".join(f"{k} {v:.4f}" for k, v in logs[-1].items()))

    class Batches(keras.utils.PyDataset):
        """The training images in a new order each epoch."""

        def __init__(self):
            super().__init__()
            self.random = np.random.default_rng(config.training.seed)
            self.on_epoch_end()

        def __len__(self):
            return steps

        def __getitem__(self, number):
            some = self.order[number * batch : (number + 1) * batch]
            return batch_of(some, self.random), dict.fromkeys(model.output, labels[some])

        def on_epoch_end(self):
            self.order = self.random.permutation(len(labels))

    batches, stop = Batches(), StopOnNonFinite(config.training.max_bad_steps)
    for phase in phases_of(config):
        if phase.first:
            compile_for(model, plan, phase)
        model.fit(
            batches,
            initial_epoch=phase.first,
            epochs=phase.end,
            validation_data=(tested[0], dict.fromkeys(model.output, tested[1])),
            validation_batch_size=test_batch,
            callbacks=[AveragedEvaluation(), Mark(), stop],
            verbose=0,
        )
    epochs = np.diff(marks)
    started = time.perf_counter()
    for number in range(min(steps, 10)):
        batches[number]
    input_seconds = (time.perf_counter() - started) / min(steps, 10)
    return {
        "accuracy": [found["val_top1"] for found in logs],
        "loss": [found["loss"] for found in logs],
        "seconds": float(marks[-1] - marks[0]),
        "first_epoch": float(epochs[0]),
        "epoch": float(np.median(epochs[1:] if len(epochs) > 1 else epochs)),
        "loss_scale": float(keras.ops.convert_to_numpy(model.optimizer.dynamic_scale)),
        "images": steps * batch,
        "input_rate": batch / input_seconds,
        "tested": len(tested[0]),
    }
