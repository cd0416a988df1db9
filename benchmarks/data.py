# SPDX-License-Identifier: Apache-2.0
"""Training images per second: this project's pipeline against three others, on the same JPEGs and cores.

The JPEGs are crops of scikit-learn's two photographs at 500x375, of about 110 kB.  Each pipeline reads,
decodes, crops 5 to 100 % of the area, resizes to 299x299 and mirrors half; once without and once with
color augmentation.  The clock includes everything from the file to the batch in memory.  In every round
the pipelines are started one after another (a running one would fill its queue while the others are
timed), first for a few batches that are not counted, then for those that are; the table has the medians.

    python benchmarks/data.py
    python benchmarks/data.py --torch-python ~/torch/bin/python   # a Python with torch and torchvision
    python benchmarks/data.py --memory                            # three epochs of 12,000 images
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

SIZE, BATCH = 299, 32
AREA, ASPECT = (0.05, 1.0), (0.75, 4 / 3)
UNCOUNTED, COUNTED = (
    30,
    30,
)  # batches a round; TensorFlow needs the first to find its number of threads
HEAD = "| pipeline | color augmentation | images/s | ours is |\n|---|---|---|---|"


def make_jpegs(folder: Path, count: int) -> None:
    """`count` JPEGs of 500x375 in two class folders, each another part of a photograph, with its grain."""
    import numpy as np
    import tensorflow as tf
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    for number in range(count):
        photograph = load_sample_images().images[number % 2]
        height, width = rng.integers(300, 427), rng.integers(400, 640)
        top, left = rng.integers(0, 428 - height), rng.integers(0, 641 - width)
        part = tf.image.resize(photograph[top : top + height, left : left + width], (375, 500))
        # Enlarging takes away the grain that a camera leaves; without it JPEGs are too small.
        grain = rng.normal(0, 6, part.shape)
        pixels = tf.cast(tf.clip_by_value(part + grain, 0, 255), tf.uint8)
        path = folder / "ab"[number % 2] / f"{number:04}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(tf.io.encode_jpeg(pixels, quality=95).numpy())


def ours(folder: Path, color: bool):
    """`inception_tf.data.pipeline.training_batches`, as `inception-tf train` reads a folder."""
    from inception_tf.config import DataConfig
    from inception_tf.data import pipeline
    from inception_tf.data.sources.open import open_source

    config = DataConfig(
        batch_size=BATCH,
        box_area=AREA,
        box_aspect=ASPECT,
        photometric="full" if color else "none",
    )
    split = open_source(f"folder:{folder}").split("all")
    data = pipeline.training_batches(split, config, size=SIZE, classes=2, seed=0, epochs=10_000)
    return lambda: iter(data).__next__


def plain(folder: Path, color: bool):
    """What a user writes from TensorFlow's guides: decode the whole, then cut."""
    import tensorflow as tf

    def example(path):
        image = tf.image.decode_jpeg(tf.io.read_file(path), channels=3)
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            tf.shape(image),
            bounding_boxes=tf.zeros((1, 0, 4)),
            area_range=AREA,
            aspect_ratio_range=ASPECT,
            min_object_covered=0.05,
            use_image_if_no_bounding_boxes=True,
        )
        image = tf.image.resize(tf.slice(image, begin, size), (SIZE, SIZE)) / 255
        image = tf.image.random_flip_left_right(tf.ensure_shape(image, (SIZE, SIZE, 3)))
        if color:
            image = tf.image.random_brightness(image, 32 / 255)
            image = tf.image.random_saturation(image, 0.5, 1.5)
            image = tf.image.random_hue(image, 0.2)
            image = tf.image.random_contrast(image, 0.5, 1.5)
            image = tf.clip_by_value(image, 0, 1)
        return image * 2 - 1, tf.one_hot(0, 2)

    files = tf.data.Dataset.list_files(str(folder / "*" / "*.jpg")).repeat()
    batches = files.map(example, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH)
    batches = batches.prefetch(tf.data.AUTOTUNE)
    return lambda: iter(batches).__next__


def model_garden(folder: Path, color: bool):
    """The Model Garden's decoder and parser for classification, from TFRecord files."""
    import tensorflow as tf
    from official.vision.dataloaders import classification_input

    records = folder.parent / "garden.tfrecord"
    if not records.exists():
        with tf.io.TFRecordWriter(str(records)) as writer:
            for path in sorted(folder.glob("*/*.jpg")):
                encoded = tf.train.BytesList(value=[path.read_bytes()])
                feature = {
                    "image/encoded": tf.train.Feature(bytes_list=encoded),
                    "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[0])),
                }
                example = tf.train.Example(features=tf.train.Features(feature=feature))
                writer.write(example.SerializeToString())
    decoder = classification_input.Decoder("image/encoded", "image/class/label")
    parser = classification_input.Parser(
        [SIZE, SIZE], 2, crop_area_range=AREA, color_jitter=0.5 if color else 0.0
    )
    data = tf.data.TFRecordDataset(str(records)).repeat().shuffle(256)
    data = data.map(decoder.decode, num_parallel_calls=tf.data.AUTOTUNE)
    data = data.map(parser.parse_fn(is_training=True), num_parallel_calls=tf.data.AUTOTUNE)
    data = data.batch(BATCH).prefetch(tf.data.AUTOTUNE)
    return lambda: iter(data).__next__


TORCH = """
import sys
import torch
from torchvision import datasets, transforms
folder, color, size, batch = sys.argv[1], sys.argv[2] == "True", int(sys.argv[3]), int(sys.argv[4])
steps = [transforms.RandomResizedCrop(size, (0.05, 1.0), (0.75, 4 / 3)), transforms.RandomHorizontalFlip()]
if color:
    steps.append(transforms.ColorJitter(32 / 255, 0.5, 0.5, 0.2))
steps += [transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)]
data = datasets.ImageFolder(folder, transforms.Compose(steps))
endless = torch.utils.data.RandomSampler(data, replacement=True, num_samples=10**9)
workers = len(__import__("os").sched_getaffinity(0))
batches = iter(torch.utils.data.DataLoader(data, batch, sampler=endless, num_workers=workers))
print("ready", flush=True)
for _ in sys.stdin:
    next(batches)
    print("done", flush=True)
"""


def torch_loader(python: str):
    """torchvision's transforms in a `DataLoader` with a worker for each core, in its own process."""

    def start(folder: Path, color: bool):
        child = subprocess.Popen(
            [python, "-c", TORCH, str(folder), str(color), str(SIZE), str(BATCH)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if child.stdout.readline() != "ready\n":
            raise ImportError(f"torch or torchvision in {python}")

        def batch():
            child.stdin.write("next\n")
            child.stdin.flush()
            if child.stdout.readline() != "done\n":  # a child that ended would answer at once
                raise click.ClickException(f"the DataLoader in {python} ended")

        return lambda: batch

    return start


def images_per_second(start) -> float:
    batch = start()
    for _ in range(UNCOUNTED):
        batch()
    started = time.perf_counter()
    for _ in range(COUNTED):
        batch()
    return COUNTED * BATCH / (time.perf_counter() - started)


def compare(folder: Path, python: str, rounds: int) -> None:
    import numpy as np

    pipelines = {
        "inception_tf": ours,
        "plain tf.data": plain,
        "Model Garden": model_garden,
        "torch DataLoader": torch_loader(python),
    }
    for color in (False, True):
        started, rates = {}, {}
        for name, start in pipelines.items():
            try:
                started[name] = start(folder, color)
            except ImportError as error:
                click.echo(f"skipped {name}: {error}")
        for number in range(-1, rounds):
            for name, ready in started.items():
                rate = images_per_second(ready)
                if number >= 0:
                    rates.setdefault(name, []).append(rate)
        if not color:
            click.echo(HEAD)
        for name, values in rates.items():
            ratio = np.median(np.array(rates["inception_tf"]) / values)
            times = "" if name == "inception_tf" else f"{ratio:.2f} times that"
            click.echo(
                f"| {name} | {'yes' if color else 'no'} | {np.median(values):.0f} | {times} |"
            )


def memory(folder: Path) -> None:
    """What the process holds after each of three epochs of 12,000 images, distorted."""
    batch = ours(folder, True)()
    click.echo("| epoch | memory, MiB |\n|---|---|")
    for epoch in range(1, 4):
        for _ in range(12_000 // BATCH):
            batch()
        held = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        click.echo(f"| {epoch} | {held / 2**20:.0f} |")


@click.command(help=__doc__)
@click.option("--count", default=512, show_default=True, help="Number of JPEGs.")
@click.option("--rounds", default=7, show_default=True)
@click.option("--torch-python", default=sys.executable, help="A Python interpreter with torch.")
@click.option("--memory", "only_memory", is_flag=True, help="Measure memory, not time.")
def main(count, rounds, torch_python, only_memory):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "jpegs"
        folder.mkdir()
        make_jpegs(folder, count)
        sizes = [path.stat().st_size for path in folder.glob("*/*.jpg")]
        click.echo(
            f"{len(sizes)} JPEGs of 500x375, {sum(sizes) / len(sizes) / 1000:.0f} kB on average"
        )
        if only_memory:
            memory(folder)
        else:
            compare(folder, torch_python, rounds)


if __name__ == "__main__":
    main()
