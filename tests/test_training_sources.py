# SPDX-License-Identifier: Apache-2.0
"""Every kind of data trains two epochs, by the same code."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from example_files import write
from small_runs import only

from inception_tf.config import Config
from inception_tf.run_folder import Run
from inception_tf.training.train import train


@pytest.fixture(autouse=True)
def two_modules():
    """What is read is the same at any depth."""
    with only("inception_v1", "Conv2d_1a_7x7", "Mixed_3b"):
        yield


LABELS = ["blue", "red"]
SMALL = (
    "model.name=inception_v1",
    "model.size=32",
    "model.width_multiplier=0.25",
    "training.epochs=2",
    "training.precision=float32",
)


def _pixels(number):
    return np.full((40, 30, 3), 5 * number, np.uint8)


def _folder(tmp_path, class_folders, monkeypatch):
    return f"folder:{class_folders(blue=12, red=12)}"


def _tfrecord(tmp_path, class_folders, monkeypatch):
    for part, count in (("train", 20), ("validation", 4)):
        rows = [(tf.io.encode_jpeg(_pixels(n)).numpy(), 1 + n % 2) for n in range(count)]
        write(tmp_path / f"{part}-00000-of-00001", rows)
    (tmp_path / "labels.txt").write_text("blue\nred\n")
    return f"tfrecord:{tmp_path}/*-of-*"


def _tfds(tmp_path, class_folders, monkeypatch):
    def rows(count):
        numbers = range(count)
        return tf.data.Dataset.from_tensor_slices(
            {"image": [_pixels(n) for n in numbers], "label": [n % 2 for n in numbers]}
        )

    features = {
        "image": tfds.features.Image(shape=(None, None, 3)),
        "label": tfds.features.ClassLabel(names=LABELS),
    }
    tfds.dataset_builders.store_as_tfds_dataset(
        name="tiny",
        version="1.0.0",
        data_dir=tmp_path,
        split_datasets={"train": rows(20), "test": rows(4)},
        features=tfds.features.FeaturesDict(features),
        disable_shuffling=True,
    )
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))
    return "tfds:tiny/1.0.0"


@pytest.mark.slow
@pytest.mark.parametrize("kind", [_folder, _tfrecord, _tfds], ids=lambda kind: kind.__name__[1:])
def test_a_source_trains_two_epochs(kind, tmp_path, class_folders, monkeypatch):
    name = kind(tmp_path, class_folders, monkeypatch)
    offset = int(kind is _tfrecord)
    settings = (f"data.name='{name}'", f"data.label_offset={offset}", "data.batch_size=5")
    report = train(Config().override([*SMALL, *settings]), tmp_path / "run")
    assert report["steps"] == 8
    assert report["epochs"] == 2
    assert report["skipped"] == {}
    assert Run(tmp_path / "run").labels() == tuple(LABELS)


@pytest.mark.slow
def test_the_digits_train_two_epochs(tmp_path):
    settings = ("data.name=digits", "data.batch_size=359")
    report = train(Config().override([*SMALL, *settings]), tmp_path / "run")
    assert (report["steps"], report["images"]) == (8, {"train": 1437, "test": 360})
