# SPDX-License-Identifier: Apache-2.0
"""TFRecord files for tests, written by TensorFlow."""

from __future__ import annotations

import tensorflow as tf


def example(image: bytes, label: int, text: str | None = None, keys=None) -> bytes:
    """A serialized tf.Example in slim's form, or with TFDS's `keys`."""
    image_key, label_key = keys or ("image/encoded", "image/class/label")
    feature = {
        image_key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[image])),
        label_key: tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
    }
    if text:
        names = tf.train.BytesList(value=[text.encode()])
        feature["image/class/text"] = tf.train.Feature(bytes_list=names)
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def write(path, rows, **options):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for image, label, *text in rows:
            writer.write(example(image, label, *text, **options))
