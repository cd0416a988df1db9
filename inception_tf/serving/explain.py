# SPDX-License-Identifier: Apache-2.0
"""Pictures of predictions: each image beside the heat map of its best class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from inception_tf.classifiers import Classifier
from inception_tf.data import pipeline
from inception_tf.data.decoding import images, transforms
from inception_tf.data.skipped import BadImages
from inception_tf.data.sources.splits import Split
from inception_tf.errors import UserError
from inception_tf.host.atomic_io import atomic_path
from inception_tf.host.plotting import colormap, new_figure
from inception_tf.inference.prediction import Prediction
from inception_tf.inference.saliency import choose_endpoint, grad_cam

__all__ = ["explain", "heat_of_image"]

BATCH_SIZE = 16
ALPHA = 0.55  # of the heat over the image


def explain(
    classifier: Classifier,
    predictions: Sequence[Prediction],
    folder: Path,
    endpoint: str | None = None,
) -> list[Path]:
    """Draws a PNG for each image that was classified: what the network sees of it, and where it sees its best class.

    Args:
        classifier: The network with its preprocessing.
        predictions: Of image files, by this network.
        folder: Where to write, made where it is missing; names are those of the images, with a number where two are
            the same.
        endpoint: Whose maps are drawn; None: the last mixed block.

    Returns:
        The files, in the order of the predictions that have classes.

    Raises:
        UserError: The network has no such endpoint, or matplotlib is missing.
    """
    endpoint = choose_endpoint(classifier.model, endpoint)
    classified = [one for one in predictions if one.top]
    files = _files(folder, [one.image for one in classified])
    split = Split(np.array([one.image for one in classified], str), np.zeros(len(classified), int))
    # The image that is shown has the network's crop, and not its scale.
    *geometry, scaled = transforms.evaluation_steps(classifier.preprocessing)
    batches = pipeline.evaluation_batches(
        split, tuple(geometry), batch_size=BATCH_SIZE, bad=BadImages(split, 1.0)
    )
    folder.mkdir(parents=True, exist_ok=True)
    for pixels, indices in batches:
        heat = grad_cam(classifier.model, scaled(pixels).numpy(), endpoint=endpoint)
        for image, warm, index in zip(pixels.numpy(), heat, indices.numpy(), strict=True):
            _draw(image / 255, warm, classified[index], files[index])
    return files


def heat_of_image(classifier: Classifier, data: bytes) -> bytes:
    """Draws what a network sees of an image, and where it sees its best class.

    Args:
        classifier: The network with its preprocessing.
        data: The content of an image file.

    Returns:
        The content of a PNG of the network's size.

    Raises:
        UserError: The image cannot be read, the network has no map, or matplotlib is missing.
    """
    import tensorflow as tf

    *geometry, scaled = transforms.evaluation_steps(classifier.preprocessing)

    def prepared(data):
        status, image = images.read_image(data, bits=classifier.preprocessing.bits)
        return status, transforms.apply_steps(tuple(geometry), image)

    size = classifier.preprocessing.size
    blank = tf.zeros((size, size, 3))
    status, pixels = images.with_fallback(prepared, data, (images.DAMAGED, blank))
    if status.numpy() != images.OK.encode():
        raise UserError(status.numpy().decode())
    (heat,) = grad_cam(classifier.model, scaled(pixels).numpy()[np.newaxis])
    colors = colormap("a heat map", "inferno")(heat)[..., :3]
    image = np.clip(pixels.numpy() / 255, 0, 1)
    return tf.io.encode_png(tf.cast(255 * ((1 - ALPHA) * image + ALPHA * colors), tf.uint8)).numpy()


def _files(folder: Path, paths: Sequence[str]) -> list[Path]:
    taken: dict[str, int] = {}
    files = []
    for path in paths:
        name = Path(path).stem
        taken[name] = taken.get(name, 0) + 1
        files.append(folder / (f"{name}.png" if taken[name] == 1 else f"{name}-{taken[name]}.png"))
    return files


def _draw(image: np.ndarray, heat: np.ndarray, prediction: Prediction, path: Path) -> None:
    figure = new_figure("--explain", 7.2, 4.0)
    left, right = figure.subplots(1, 2)
    name, score = prediction.top[0]
    figure.suptitle(f"{name} {score:.1%}", fontsize=12)
    for axes in (left, right):
        axes.imshow(np.clip(image, 0, 1), interpolation="nearest")
        axes.set_axis_off()
    right.imshow(heat, cmap="inferno", vmin=0, vmax=1, alpha=ALPHA)
    left.set_title(Path(prediction.image).name, fontsize=8)
    right.set_title(f"where it sees {name}", fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
