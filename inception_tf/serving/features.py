# SPDX-License-Identifier: Apache-2.0
"""Features of images from an export, by the signature that `export --features` adds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from inception_tf.data.skipped import OK
from inception_tf.errors import UserError
from inception_tf.evaluation.features import Features
from inception_tf.inference.prediction import read_image
from inception_tf.savedmodel.signature_def import read_signatures
from inception_tf.savedmodel.versions import newest_version
from inception_tf.serving.predict import INPUT, RunFunction, open_signature

__all__ = ["open_served_features"]

SIGNATURE = "features"  # and the name of its first output


def open_served_features(saved_model: str | Path) -> Callable[..., Features]:
    """Loads an export for the features of image files.

    Args:
        saved_model: A version folder, or the folder above it, of which the newest version is taken.

    Returns:
        A function of paths, with the keywords `batch_size` and `on_images`, as `extract_features` has them: the
        features, in the order of the paths, without the images that cannot be read, which it names.

    Raises:
        UserError: There is no SavedModel, or it was exported without features.

    Example:
        features = open_served_features("saved_models/photos")(["rose.jpg", "tulip.jpg"])
    """
    folder = newest_version(saved_model)
    signature = read_signatures(folder).get(SIGNATURE)
    if signature is None or INPUT not in signature.inputs or SIGNATURE not in signature.outputs:
        raise UserError(
            f"{folder} gives no features: it has no signature {SIGNATURE}({INPUT}); export it again with"
            " inception-tf export --features, or give the run or the weights that it was made of"
        )
    return partial(_extract, open_signature(folder, SIGNATURE, (SIGNATURE, "status")))


def _extract(
    network: RunFunction,
    paths: Sequence[str],
    *,
    batch_size: int = 32,
    on_images: Callable[[int], None] = lambda count: None,
) -> Features:
    rows: list[np.ndarray] = []
    found: list[str] = []
    skipped: dict[str, str] = {}
    for start in range(0, len(paths), batch_size):
        chunk = paths[start : start + batch_size]
        images = np.empty(len(chunk), object)
        images[:], unread = zip(*map(read_image, chunk), strict=True)
        values, statuses = network(images)
        for path, reason, status, row in zip(chunk, unread, statuses, values, strict=True):
            if status == OK.encode():
                found.append(path)
                rows.append(row)
            else:
                skipped[path] = reason or status.decode()
        on_images(len(chunk))
    if not rows:
        raise UserError(f"none of the {len(paths)} images can be read")
    return Features(tuple(found), np.stack(rows).astype(np.float32), skipped)
