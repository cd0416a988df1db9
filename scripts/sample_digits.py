# SPDX-License-Identifier: Apache-2.0
"""Writes three digits of the test split as PNG files, named after what they show: `scripts/sample_digits.py FOLDER`."""

import sys
from pathlib import Path

import tensorflow as tf

from inception_tf.data.sources.open import open_source

COUNT = 3
SIZE = 64  # pixels; the digits themselves are 8x8


def main(folder: str) -> None:
    source = open_source("digits")
    split = source.split("test")
    Path(folder).mkdir(parents=True, exist_ok=True)
    for index in range(COUNT):
        label = source.labels[split.classes[index]]
        image = tf.image.resize(split.images[index], (SIZE, SIZE), "nearest")
        tf.io.write_file(
            f"{folder}/{index}-shows-{label}.png", tf.io.encode_png(tf.cast(image, tf.uint8))
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
