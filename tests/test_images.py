# SPDX-License-Identifier: Apache-2.0
"""One image: judged by its header, decoded as a viewer shows it, cropped, resized, scaled."""

from __future__ import annotations

import io
import re
import warnings

import forked
import numpy as np
import pytest
import tensorflow as tf
from odd_images import odd_images
from PIL import Image, ImageOps

from inception_tf.data.decoding import images, transforms
from inception_tf.data.preprocessing import Preprocessing


def test_evaluation_crops_the_centre_and_scales_to_minus_one_and_one():
    image = np.zeros((80, 80, 3), np.uint8)
    image[5:75, 5:75] = 255
    seen = transforms.apply_steps(transforms.evaluation_steps(Preprocessing(20)), image)
    assert seen.shape == (20, 20, 3)
    np.testing.assert_allclose(seen, 1.0)


def test_scales_are_those_of_the_projects_that_trained_with_them():
    """torchvision: x / 255 less 0.485, 0.456, 0.406 over 0.229, 0.224, 0.225; BVLC: BGR less 104, 117, 123."""
    image = tf.constant([[[10.0, 20.0, 30.0]]])

    def scaled(name):
        return transforms.apply_steps(
            transforms.evaluation_steps(Preprocessing(1, None, name)), image
        )[0, 0]

    means, deviations = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(
        scaled("torch"), (np.array([10, 20, 30]) / 255 - means) / deviations, rtol=1e-5
    )
    np.testing.assert_allclose(scaled("caffe"), [30 - 104, 20 - 117, 10 - 123])
    np.testing.assert_allclose(scaled("unit"), np.array([10, 20, 30]) / 127.5 - 1, rtol=1e-6)


def test_steps_are_readable():
    assert (
        repr(transforms.evaluation_steps(Preprocessing(299)))
        == "(CentralCrop(fraction=0.875), Resize(size=299, resampling=Resampling(interpolation='bilinear',"
        " antialias=False, half_pixel_centers=True)), ToUnit())"
    )


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", "empty"),
        (b"%PDF-1.7" + bytes(40), "not a JPEG, PNG, WebP, BMP or GIF image"),
        (b"\xff", "not a JPEG, PNG, WebP, BMP or GIF image"),
        (tf.io.encode_jpeg(np.zeros((9, 7, 3), np.uint8)).numpy(), "ok"),
        (tf.io.encode_png(np.zeros((9, 7, 1), np.uint8)).numpy(), "ok"),
    ],
)
def test_an_encoded_image_is_judged_by_its_first_bytes(data, status):
    assert images.check_encoded(tf.constant(data)).numpy().decode() == status


def test_an_image_over_the_pixel_limit_is_refused_by_its_header():
    header = (
        b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4, "big") + b"IHDR" + (20000).to_bytes(4, "big") * 2
    )
    status = images.check_encoded(tf.constant(header)).numpy().decode()
    assert status == "20000x20000 pixels, at most 50000000 are read"


def test_a_chunk_that_claims_more_than_the_file_is_refused_before_its_memory_is_taken(test_data):
    data = (test_data / "bad_images/libpng/crashers__huge_iTXt_chunk.png").read_bytes()
    assert images.check_encoded(tf.constant(data)).numpy().decode() == images.DAMAGED
    good = tf.io.encode_png(np.zeros((9, 7, 1), np.uint8)).numpy()
    assert images.check_encoded(tf.constant(good + b"what follows the end")).numpy() == b"ok"
    assert images.check_encoded(tf.constant(good[:-14])).numpy().decode() == images.DAMAGED


@tf.function(input_signature=[tf.TensorSpec((), tf.string)])
def _read(data):
    """Flat pixels, shape and status of an encoded image, as every pass reads it."""

    def read(data):
        status, image = images.read_image(data)
        return tf.reshape(image, (-1,)), tf.shape(image), status

    failed = (tf.zeros((0,), tf.uint8), tf.zeros(3, tf.int32), images.DAMAGED)
    return images.with_fallback(read, data, failed)


def _as_pillow_shows(data):
    """(H, W, 3) uint8, upright, and whether it had to be turned; None where Pillow cannot open it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data))
            image.load()
            deep = image.mode.startswith("I")
            turned = image.getexif().get(0x0112, 1) > 1
            image = ImageOps.exif_transpose(image)
            if deep:  # Pillow's conversion of 16 bits cuts off at 255
                values = np.asarray(image).astype(np.int64)
                gray = np.where(values == image.info.get("transparency", -1), 255, values >> 8)
                return np.repeat(gray[..., None].astype(np.uint8), 3, -1), turned
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            return np.asarray(Image.alpha_composite(white, image).convert("RGB")), turned
    except Exception:  # Pillow raises what its plug-ins raise
        return None


# Its orientation stands in XMP text inside a PNG, which few programs read.
NOT_TURNED = "pillow/xmp_tags_orientation_exiftool.png"
# Their transparent level counts in 2 and 4 bits, which Pillow compares with levels of 8 bits; libpng does not.
OTHER_LEVELS = re.compile(r"libpng/gray-[24]-(.*-)?tRNS\.png")


@pytest.mark.parametrize(
    ("of_a_kind", "counts"),
    [(2, None), pytest.param(None, (1457, 1086, 16, 355), marks=pytest.mark.slow)],
    ids=["two of a kind", "all"],
)
def test_every_odd_image_comes_out_as_pillow_shows_it_or_is_refused(test_data, of_a_kind, counts):
    """1,457 files: CMYK, 16 bits, palettes, gray, all EXIF orientations, and damage of every kind."""
    folder = test_data / "bad_images"
    names = [row["file"] for row in odd_images(folder, of_a_kind)]
    same, turned, refused = 0, 0, 0
    for name in names:
        data = (folder / name).read_bytes()
        flat, shape, status = _read(data)
        theirs = _as_pillow_shows(data)
        if status.numpy() != b"ok":
            refused += 1
            continue
        if theirs is None or name == NOT_TURNED or OTHER_LEVELS.fullmatch(name):
            continue
        ours, (expected, was_turned) = flat.numpy().reshape(shape), theirs
        assert ours.shape == expected.shape, name
        assert np.abs(ours.astype(int) - expected).mean() <= 0.6, name
        same += 1
        turned += was_turned
    if counts:
        assert (len(names), same, turned, refused) == counts
    else:
        assert min(same, refused) > 50
        assert turned >= 8  # each orientation but the first, and more


PASS = """
import resource, sys
import numpy as np, tensorflow as tf
from inception_tf.config import DataConfig
from inception_tf.data import pipeline
from inception_tf.data.decoding import images, transforms
from inception_tf.data.skipped import BadImages
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.data.sources.open import Split
paths = np.array(sys.stdin.read().splitlines())
split = Split(paths, np.arange(len(paths)) % 2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
bad = BadImages(split, 1.0)
steps = transforms.evaluation_steps(Preprocessing(64))
shown = sum(len(index) for _, index in pipeline.evaluation_batches(split, steps, batch_size=32, bad=bad))
assert shown + bad.count == len(paths), (shown, bad.count, len(paths))
config = DataConfig(batch_size=32, max_bad=1.0)
drawn = BadImages(split, 1.0)
batches = pipeline.training_batches(split, config, size=64, classes=2, seed=0, epochs=1, bad=drawn)
assert sum(1 for _ in batches) == len(paths) // 32
assert set(drawn.reasons) <= set(bad.reasons)
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(len(paths), bad.count, grown // 1024)
"""


@pytest.mark.parametrize(
    ("of_a_kind", "refused"),
    [(2, (30, 100)), pytest.param(None, (150, 400), marks=pytest.mark.slow)],
    ids=["two of a kind", "all"],
)
def test_all_odd_images_pass_through_training_and_evaluation_in_bounded_memory(
    test_data, of_a_kind, refused
):
    """In a process of its own: no crash, no hang, and no more memory than a few images at the limit take."""
    folder = test_data / "bad_images"
    paths = [str(folder / row["file"]) for row in odd_images(folder, of_a_kind)]
    child = forked.run(["-c", PASS], text="\n".join(paths), optimizers=of_a_kind is None)
    assert child.returncode == 0, child.stderr[-2000:]
    count, bad, grown = map(int, child.stdout.split()[-3:])
    assert count == len(paths)
    assert refused[0] < bad < refused[1]
    assert grown < 600  # MB: 12 bytes for each of the 50 million pixels that an image may have
