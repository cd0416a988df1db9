# SPDX-License-Identifier: Apache-2.0
"""TensorFlow Datasets by name, from a folder where they are prepared; nothing is downloaded."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow_datasets as tfds

from inception_tf.data import pipeline
from inception_tf.data.decoding import transforms
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.data.sources.open import open_source
from inception_tf.errors import UserError


@pytest.fixture(autouse=True)
def data_dir(test_data, monkeypatch):
    """What `TFDS_DATA_DIR` sets, which TFDS reads when it is imported."""
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(test_data / "tfds"))
    return str(test_data / "tfds")


@pytest.mark.parametrize("name", ["tfds:mnist", "tfds:mnist/3.0.1"])
def test_mnist_is_described_as_tfds_describes_it(name):
    source = open_source(name)
    assert source.labels == tuple("0123456789")
    sizes = {part: len(split) for part, split in source.splits.items()}
    assert sizes == {"train": 60_000, "test": 10_000}


def test_images_and_classes_are_those_that_tfds_loads(data_dir):
    split = open_source("tfds:mnist").split("test")
    order = tfds.ReadConfig(interleave_cycle_length=1)
    theirs = tfds.load("mnist", split="test", data_dir=data_dir, read_config=order).take(100)
    ours = pipeline.evaluation_batches(
        split, transforms.evaluation_steps(Preprocessing(28, None)), batch_size=100
    )
    pixels, index = next(iter(ours))
    for row, (place, expected) in enumerate(zip(index.numpy(), theirs, strict=True)):
        assert split.classes[place] == int(expected["label"])
        shown = np.round((pixels[row].numpy() + 1) * 127.5)
        np.testing.assert_array_equal(shown, np.repeat(expected["image"].numpy(), 3, -1))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("tfds:mnits", "TFDS has no data 'mnits'; did you mean 'mnist'?"),
        ("tfds:mnist/9.9.9", "TFDS cannot open 'mnist/9.9.9': .*only: 3.0.1"),
    ],
)
def test_unknown_names_are_one_sentence(name, sentence):
    with pytest.raises(UserError, match=sentence):
        open_source(name)
