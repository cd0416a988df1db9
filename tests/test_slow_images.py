# SPDX-License-Identifier: Apache-2.0
"""Images that ask for much work for their size are refused, ordinary ones are read."""

from __future__ import annotations

import os
import time

import forked
import pytest
import slow_images
import tensorflow as tf

from inception_tf.data import pipeline
from inception_tf.data.decoding import images, transforms, work
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.data.skipped import BadImages
from inception_tf.data.sources.open import open_source


@tf.function(input_signature=[tf.TensorSpec((), tf.string)])
def read(data):
    """Shape and status, as every pass and every export reads an image."""

    def inner(data):
        status, image = images.read_image(data)
        return tf.shape(image), status

    return images.with_fallback(inner, data, (tf.zeros(3, tf.int32), images.DAMAGED))


REASONS = {"sca": work.MANY_SCANS, "chu": work.MANY_CHUNKS, "com": work.MUCH_TEXT}


@pytest.mark.parametrize("scale", [0.02, pytest.param(1, marks=pytest.mark.slow)])
def test_what_asks_for_much_work_is_refused_at_once(scale):
    read(b"")
    for name, data in slow_images.refused(scale).items():
        start = time.process_time()
        _, status = read(data)
        spent = time.process_time() - start
        words = name.split()
        is_gif = data.startswith(b"GIF")
        expected = work.MANY_BLOCKS if is_gif else REASONS[words[1][:3]]
        assert status.numpy().decode() == expected, name
        assert spent < 0.5, name
        assert images.check_encoded(tf.constant(data)).numpy().decode() == expected, name
        assert not images.is_plain_jpeg(tf.constant(data)).numpy(), name


def test_ordinary_files_are_read():
    for name, data in slow_images.ordinary().items():
        assert read(data)[1].numpy() == b"ok", name


def test_a_header_that_claims_to_be_huge_is_refused_before_its_chunks_are_counted():
    png = slow_images.png(64, 64, slow_images.chunk(b"abCd", b"") * 100_000)
    png = png.replace((64).to_bytes(4, "big") * 2, (2**31 - 1).to_bytes(4, "big") * 2)
    gif = slow_images.gif(b"!\xfe" + b"\x01x" * 120_000 + b"\0").replace(
        b"GIF89a\x08\0\x08\0", b"GIF89a" + b"\xff" * 4
    )
    for data, sides in ((png, b"2147483647x2147483647"), (gif, b"65535x65535")):
        start = time.process_time()
        assert read(data)[1].numpy().startswith(sides + b" pixels")
        assert time.process_time() - start < 0.5


@pytest.mark.slow
@pytest.mark.alone
def test_the_heaviest_images_take_no_longer_than_is_stated():
    read(b"")
    for name, (data, megapixels) in slow_images.heaviest().items():
        start = time.process_time()
        assert read(data)[1].numpy() == b"ok", name
        spent = (time.process_time() - start) / max(1, megapixels)
        print(f"{name}: {spent:.3f} s per megapixel")
        assert spent < work.SECONDS_PER_MEGAPIXEL, name


# Its own process: the most memory that it had is that of this image.
READ_WEBP = """
import resource, sys, time
import slow_images, tensorflow as tf
side = int(sys.argv[1])
tf.io.decode_webp(slow_images.webp_of_codes(8))
data = slow_images.webp_of_codes(side)
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
assert tf.io.decode_webp(data).shape == (1, side, side, 3)
print(time.process_time() - start, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10)
"""


@pytest.mark.parametrize("side", [256, pytest.param(1024, marks=pytest.mark.slow)])
def test_the_tables_of_a_webp_take_no_more_than_is_stated(root, side):
    variables = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'tests'}"}
    child = forked.run(["-c", READ_WEBP, side], env=variables)
    assert child.returncode == 0, child.stderr
    seconds, memory = map(float, child.stdout.split())
    part = side**2 / 1024**2
    assert 0.5 * part < memory / work.WEBP_TABLES < part  # half of it: the file does what it is for
    assert seconds < 0.5 + part * work.WEBP_SECONDS


def test_training_skips_them(tmp_path):
    """The pass over a data set has a fast way for plain JPEGs."""
    for folder, content in (
        ("a", slow_images.jpeg_of_scans(65, 1100)),
        ("b", slow_images.jpeg_of_scans(1, 64)),
    ):
        (tmp_path / "train" / folder).mkdir(parents=True)
        (tmp_path / "train" / folder / "image.jpg").write_bytes(content)
    split = open_source(f"folder:{tmp_path}").split("train")
    bad = BadImages(split, 1.0)
    batches = pipeline.evaluation_batches(
        split, transforms.evaluation_steps(Preprocessing(32)), batch_size=2, bad=bad
    )
    assert sum(len(index) for _, index in batches) == 1
    assert list(bad.reasons.values()) == [work.MANY_SCANS]
