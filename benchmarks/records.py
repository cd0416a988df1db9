# SPDX-License-Identifier: Apache-2.0
"""Opening the index of a large set of TFRecords from the cache, and making it.

The index is synthetic: its files have sizes and times, and no content.  Making an index is timed on real
records of random bytes, so the figure is the rate of this machine's disk cache.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

CLASSES = 1000
RECORD = 100_000  # bytes

OPEN = """
import os, sys, time
import tensorflow  # not part of the time
import inception_tf.data.sources.tfrecords
from inception_tf.data.sources.open import open_source
started, before = time.perf_counter(), os.times()
source = open_source(sys.argv[1])
seconds, after = time.perf_counter() - started, os.times()
used = after.user + after.system - before.user - before.system
print(seconds, used, *(len(split) for split in source.splits.values()))
"""


def write_index(folder: Path, records: int, files: int, *, splits: bool) -> str:
    """Empty files with a cached index; the name of the source."""
    import numpy as np

    from inception_tf.data.sources.record_index import RecordIndex, keep_index
    from inception_tf.data.sources.splits import Records

    shown = tuple(
        str(folder / f"{'test' if splits and n == 0 else 'train' if splits else 'part'}-{n:05}")
        for n in range(files)
    )
    for file in shown:
        Path(file).touch()
        os.truncate(file, records // files * (RECORD + 16))
    rng = np.random.default_rng(0)
    number = np.arange(records)
    locations = np.stack(
        [
            number * files // records,
            number % (records // files),
            number % (records // files) * (RECORD + 16),
            np.full(records, RECORD),
        ],
        axis=1,
    )
    index = RecordIndex(
        Records(
            shown,
            locations,
            "image/encoded",
            names=shown,
            digests=rng.integers(1, 2**63, records).astype(np.uint64),
        ),
        rng.integers(0, CLASSES, records),
        {},
        {},
        (),
    )
    keep_index(shown, {}, index)
    (folder / "labels.txt").write_text("".join(f"class {n}\n" for n in range(CLASSES)))
    return f"tfrecord:{folder}/*-*"


def seconds_to_open(name: str) -> tuple[float, float, list[str]]:
    """Seconds, those of the processor, and images per split, in a process of its own."""
    found = subprocess.run(
        [sys.executable, "-c", OPEN, name], capture_output=True, text=True, check=True
    )
    seconds, used, *sizes = found.stdout.split()
    return float(seconds), float(used), sizes


def rate_of_indexing(folder: Path, megabytes: int) -> float:
    """MB/s of making an index."""
    import numpy as np
    import tensorflow as tf

    from inception_tf.data.sources.record_index import index_records

    content = np.random.default_rng(0).bytes(RECORD)
    feature = {
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[content])),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[0])),
    }
    example = tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()
    files = tuple(str(folder / f"rate-{number}") for number in range(4))
    for file in files:
        with tf.io.TFRecordWriter(file) as writer:
            for _ in range(megabytes * 10**6 // RECORD // len(files)):
                writer.write(example)
    started = time.perf_counter()
    index_records(files, {})
    return sum(map(os.path.getsize, files)) / 1e6 / (time.perf_counter() - started)


@click.command(help=__doc__)
@click.option("--records", default=10_000_000, show_default=True)
@click.option("--files", default=1024, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--megabytes", default=800, show_default=True, help="Records that are indexed.")
def main(records, files, rounds, megabytes):
    import numpy as np

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["KERAS_HOME"] = f"{temporary}/cache"
        click.echo("| records | files | splits | s | processor s |\n|---|---|---|---|---|")
        for splits in (True, False):
            folder = Path(temporary) / ("named" if splits else "held-out")
            folder.mkdir()
            name = write_index(folder, records, files, splits=splits)
            times, used, sizes = zip(*(seconds_to_open(name) for _ in range(rounds)), strict=True)
            click.echo(
                f"| {records:,} | {files:,} | {'by name' if splits else 'a tenth held out'}, {' + '.join(sizes[0])}"
                f" | {np.median(times):.2f} | {np.median(used):.2f} |"
            )
        rate = rate_of_indexing(Path(temporary), megabytes)
        click.echo(f"making an index: {rate:,.0f} MB/s, {rate * 1e6 / RECORD:,.0f} records/s")


if __name__ == "__main__":
    main()
