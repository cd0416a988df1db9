# SPDX-License-Identifier: Apache-2.0
"""From a folder of photographs to a trained run, in one call."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import keras

from inception_tf.run_folder import Run
from inception_tf.training.callbacks import ProgressBar
from inception_tf.training.configure import default_run_folder, resolve_config
from inception_tf.training.train import train

__all__ = ["finetune"]


def finetune(
    model: str,
    data: str,
    *,
    weights: str | os.PathLike | None = "imagenet",
    out: str | os.PathLike | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    size: int | None = None,
    seed: int | None = None,
    precision: str | None = None,
    recipe: str | None = None,
    settings: Sequence[str] = (),
    callbacks: Iterable[keras.callbacks.Callback] = (),
    progress: bool = True,
) -> Run:
    """Trains a network on your own images, as `inception-tf train` does, from pretrained weights.

    Args:
        model: The network, one of `list_models()`.
        data: `folder:PATH` with a folder for each class, or what else `inception-tf train --data` takes.
        weights: A release's name or a file; None to train from random weights.
        out: The run folder, which must not hold a run; None: `runs/` and the data's name.
        epochs: Passes over the training images; None, as below: the recipe's.
        batch_size: Images per step.
        learning_rate: The highest, after the warm-up.
        size: Height and width of the images in pixels; None: the network's published size.
        seed: Of the weights, the order of the images and their augmentation.
        precision: float32, mixed_float16, mixed_bfloat16, or auto.
        recipe: A recipe's name or file; None: `finetune`, without weights `default`.
        settings: Further keys, as `--set` takes them: `["data.flip=false"]`.
        callbacks: Keras callbacks for `fit`.
        progress: Show a progress bar for each epoch.

    Returns:
        The run: its `path` is the folder, which `classifier`, `evaluate` and `export` take.

    Raises:
        UserError: A mistake in the arguments or the data; the folder holds a run; a diverged loss.
        Stopped: After Ctrl-C, with the state saved; `inception-tf train --out FOLDER --resume` continues.

    Example:
        run = inception_tf.finetune("inception_v3", "folder:photos", epochs=10)
        print(inception_tf.classifier(run).predict("rose.jpg")[0].top)
    """
    folder = Path(out) if out is not None else Path(default_run_folder(data))
    config = resolve_config(
        *(model, data, recipe, str(folder), settings),
        weights=None if weights is None else str(weights),
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        size=size,
        seed=seed,
        precision=precision,
    )
    bar = ProgressBar(config.training.epochs, config.data.batch_size)
    try:
        train(config, folder, callbacks=[*callbacks, *([bar] if progress else [])])
    finally:
        bar.close()
    return Run(folder)
