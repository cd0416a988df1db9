# SPDX-License-Identifier: Apache-2.0
"""How well each order of training images mixes records that are sorted by class, the worst case of a block shuffle.

Of the first batches of an epoch: the classes in a batch, and the pairs of a batch that were near each other in the files.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works without being installed

BATCH = 32
NEAR = 64  # records
FILES = 8
BUFFER = 4096  # of `Dataset.shuffle`, the usual way


def write_records(folder: Path, records: int, classes: int) -> str:
    """Records of one gray pixel, sorted by class; the name of the source."""
    import numpy as np
    import tensorflow as tf

    image = tf.io.encode_png(np.zeros((1, 1, 1), np.uint8)).numpy()

    def example(label):
        feature = {
            "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image])),
            "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
        }
        return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()

    examples = [example(label) for label in range(classes)]
    for file, part in enumerate(np.array_split(np.arange(records), FILES)):
        with tf.io.TFRecordWriter(str(folder / f"train-{file}")) as writer:
            for number in part:
                writer.write(examples[number * classes // records])
    with tf.io.TFRecordWriter(str(folder / "test-0")) as writer:
        writer.write(examples[0])
    return f"tfrecord:{folder}/*-*"


def batches(dataset, count: int) -> Iterator:
    """Indices (32,) int64 of the images of each batch."""
    for _, index in dataset.batch(BATCH).take(count):
        yield index.numpy()


def orders(split) -> Iterator[tuple[str, object]]:
    """Name → a dataset of (position, index)."""
    import tensorflow as tf

    from inception_tf.config import DataConfig
    from inception_tf.data.sampling import block_order, sample_order

    plain = {"seed": 0, "shard": (0, 1), "start": 0, "epochs": 1}
    yield "`full`", sample_order(split, DataConfig(batch_size=BATCH), **plain)
    for window in (16384, 4096, 1024, 512):
        config = DataConfig(batch_size=BATCH, shuffle="block", shuffle_images=window)
        found = block_order(split, config, **plain).map(
            lambda position, index, _: (position, index)
        )
        yield f"`block`, `shuffle_images={window}`", found
    in_order = tf.data.Dataset.range(len(split)).shuffle(BUFFER, seed=0)
    yield f"`Dataset.shuffle({BUFFER})` of the files in order", in_order.enumerate()


@click.command(help=__doc__)
@click.option("--records", default=200_000, show_default=True)
@click.option("--classes", default=200, show_default=True)
@click.option("--batches", "count", default=600, show_default=True)
def main(records, classes, count):
    import numpy as np

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from inception_tf.data.sources.open import open_source

    with tempfile.TemporaryDirectory() as temporary:
        os.environ["KERAS_HOME"] = f"{temporary}/cache"
        split = open_source(write_records(Path(temporary), records, classes)).split("train")
        labels = np.asarray(split.classes)
        click.echo(
            f"| order | classes in a batch | pairs of a batch that were neighbors (within {NEAR} records) |"
        )
        click.echo("|---|---|---|")
        for name, dataset in orders(split):
            several, near = [], []
            for index in batches(dataset, count):
                several.append(len(np.unique(labels[index])))
                distances = np.abs(index[:, np.newaxis] - index)[np.triu_indices(len(index), 1)]
                near.append(np.mean(distances <= NEAR))
            click.echo(f"| {name} | {np.mean(several):.1f} | {np.mean(near):.2%} |")


if __name__ == "__main__":
    main()
