# SPDX-License-Identifier: Apache-2.0
"""Prints the table of docs/views.md: how far the pixels here are from those of each release's makers.

    python tests/views/table.py SKLEARN/datasets/images

`before` is slim's crop with TensorFlow 2's resize, on which all releases were evaluated until this was measured.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from photographs import photographs, sampled

from inception_tf.data.decoding import transforms
from inception_tf.data.preprocessing import SCALES, Preprocessing
from inception_tf.weights.registry import RELEASES

RECORDED = Path(__file__).with_name("views.npz")


def difference(preprocessing: Preprocessing, image: np.ndarray, theirs: np.ndarray) -> float:
    """The mean over the recorded pixels, in levels of 255."""
    steps = transforms.evaluation_steps(preprocessing)
    seen = transforms.apply_steps(steps, tf.constant(image)).numpy()
    levels = np.asarray(SCALES[preprocessing.scale].deviation)
    return float((np.abs(sampled(seen) - theirs.astype(np.float32)) * levels).mean())


def before(preprocessing: Preprocessing) -> Preprocessing:
    """What was used in its place."""
    plain = Preprocessing(
        preprocessing.size, 0.875, preprocessing.scale, preprocessing.interpolation
    )
    return dataclasses.replace(preprocessing, antialias=False) if preprocessing.stored else plain


def main(folder: str) -> None:
    """Prints one row for each preprocessing."""
    recorded, shown = np.load(RECORDED), photographs(Path(folder))
    print(f"| releases | preprocessing | before: {', '.join(shown)} | now |")
    print("| --- | --- | --- | --- |")
    for preprocessing in dict.fromkeys(release.preprocessing for release in RELEASES):
        names = [f"{r.network}/{r.name}" for r in RELEASES if r.preprocessing == preprocessing]
        cells = [
            ", ".join(
                f"{difference(one, image, recorded[f'{names[0]}/{photograph}']):.2f}"
                for photograph, image in shown.items()
            )
            for one in (before(preprocessing), preprocessing)
        ]
        print(f"| {', '.join(names)} | {preprocessing} | {cells[0]} | {cells[1]} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
