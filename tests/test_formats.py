# SPDX-License-Identifier: Apache-2.0
"""The pixels of PNG, WebP, BMP and GIF images, held against Pillow's; what is refused, with the reason."""

from __future__ import annotations

import io
import struct
import zlib

import forked
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from inception_tf.data.decoding import alpha, bmp, images, webp
from inception_tf.data.decoding.validation import HEIF, fits_limit
from inception_tf.data.formats import NOT_AN_IMAGE

GENERATOR = np.random.default_rng(0)
RGB = GENERATOR.integers(0, 256, (13, 22, 3), np.uint8)
RGBA = GENERATOR.integers(0, 256, (13, 22, 4), np.uint8)
GRAY = RGB[..., 0]


def encoded(image, kind, **options):
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(
        file, kind, **options
    )
    return file.getvalue()


@tf.function(input_signature=[tf.TensorSpec((), tf.string)])
def _read(data):
    """Status and pixels, as every pass reads an image."""
    return images.read_image(data)


def decoded(data):
    status, pixels = _read(data)
    assert status.numpy() == b"ok"
    return pixels.numpy()


def status_of(data):
    return images.check_encoded(tf.constant(data)).numpy().decode()


def on_white(data):
    """Pillow's own compositing."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGBA")
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return np.asarray(Image.alpha_composite(white, image).convert("RGB"))


def as_pillow(data):
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    return np.asarray(image.convert("RGBA").convert("RGB"))


PALETTE = Image.fromarray(RGB).quantize(200)
FEW = Image.fromarray(RGB).quantize(13)
KINDS = {
    "PNG": (RGB, "PNG", {}),
    "PNG gray": (GRAY, "PNG", {}),
    "PNG palette": (PALETTE, "PNG", {}),
    "PNG of 1 bit": (Image.fromarray(GRAY).convert("1"), "PNG", {}),
    "WebP lossless": (RGB, "WEBP", {"lossless": True}),
    "WebP lossy": (RGB, "WEBP", {}),
    "BMP": (RGB, "BMP", {}),
    "BMP gray": (GRAY, "BMP", {}),
    "BMP palette": (PALETTE, "BMP", {}),
    "BMP of 4 bits": (FEW, "BMP", {"bits": 4}),
    "BMP of 1 bit": (Image.fromarray(GRAY).convert("1"), "BMP", {}),
    "GIF": (PALETTE, "GIF", {}),
    "GIF interlaced": (PALETTE, "GIF", {"interlace": 1}),
    "GIF gray": (GRAY, "GIF", {}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_opaque_image_has_pillows_pixels(kind):
    image, file_format, options = KINDS[kind]
    data = encoded(image, file_format, **options)
    ours, theirs = decoded(data), as_pillow(data)
    if kind == "WebP lossy":  # two versions of libwebp
        assert np.abs(ours.astype(int) - theirs).max() <= 2
    else:
        np.testing.assert_array_equal(ours, theirs)


def _with_transparent_color():
    image = Image.fromarray(np.minimum(np.asarray(PALETTE), 100))
    image.putpalette(PALETTE.getpalette())
    return image


TRANSPARENT = {
    "RGBA PNG": (RGBA, "PNG", {}),
    "gray PNG with alpha": (RGBA[..., :2], "PNG", {}),
    "palette PNG with alphas": (PALETTE, "PNG", {"transparency": bytes(range(200))}),
    "RGB PNG with a transparent color": (RGB, "PNG", {"transparency": tuple(map(int, RGB[3, 4]))}),
    "gray PNG with a transparent level": (GRAY, "PNG", {"transparency": int(GRAY.min())}),
    "WebP with alpha": (RGBA, "WEBP", {"lossless": True, "exact": True}),
    "GIF with a transparent color": (_with_transparent_color(), "GIF", {"transparency": 100}),
}


@pytest.mark.parametrize("kind", TRANSPARENT)
def test_a_transparent_image_is_composited_on_white_as_pillow_does(kind):
    image, file_format, options = TRANSPARENT[kind]
    if isinstance(image, np.ndarray) and image.shape[-1] == 2:
        image = Image.fromarray(np.ascontiguousarray(image), "LA")
    data = encoded(image, file_format, **options)
    theirs = on_white(data)
    assert np.abs(decoded(data).astype(int) - theirs).max() <= 1
    assert np.abs(as_pillow(data).astype(int) - theirs).max() > 50  # its alpha matters


@pytest.mark.parametrize("file_format", ["PNG", "WEBP"])
def test_colors_under_transparent_pixels_do_not_matter(file_format):
    seen = []
    for hidden in (0, 90, 255):
        image = np.full((16, 16, 4), hidden, np.uint8)
        image[..., 3] = 0
        image[4:12, 4:12] = (200, 30, 30, 255)
        seen.append(decoded(encoded(image, file_format, lossless=True, exact=True)))
    np.testing.assert_array_equal(seen[0], seen[1])
    np.testing.assert_array_equal(seen[0], seen[2])
    assert seen[0][0, 0].tolist() == [255] * 3


def test_large_images_are_composited_row_by_row_alike(monkeypatch):
    whole = alpha.composite(tf.constant(RGBA))
    monkeypatch.setattr(alpha, "LARGE", 10)
    np.testing.assert_array_equal(alpha.composite(tf.constant(RGBA)), whole)


def _exif(orientation):
    exif = Image.Exif()
    exif[0x010F] = "a maker"
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["PNG", "WEBP"])
def test_exif_turns_png_and_webp_as_it_turns_jpeg(file_format, orientation):
    data = encoded(RGB, file_format, lossless=True, exif=_exif(orientation))
    np.testing.assert_array_equal(decoded(data), as_pillow(data))


def test_exif_of_a_png_may_stand_after_the_pixels_and_begin_with_its_name():
    content = _exif(6).tobytes().removeprefix(b"Exif\0\0")
    plain = encoded(RGB, "PNG")
    for exif in (content, b"Exif\0\0" + content):
        chunk = struct.pack(">I", len(exif)) + b"eXIf" + exif
        chunk += struct.pack(">I", zlib.crc32(chunk[4:]))
        np.testing.assert_array_equal(
            decoded(plain[:-12] + chunk + plain[-12:]), RGB[::-1].transpose(1, 0, 2)
        )


@pytest.mark.parametrize(
    "exif", [b"", b"II", b"\xff" * 7, b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff"]
)
def test_damaged_exif_counts_as_upright(exif):
    plain = encoded(RGB, "PNG")
    chunk = struct.pack(">I", len(exif)) + b"eXIf" + exif
    chunk += struct.pack(">I", zlib.crc32(chunk[4:]))
    np.testing.assert_array_equal(decoded(plain[:33] + chunk + plain[33:]), RGB)


def test_sixteen_bits_keep_the_highest_eight_that_are_used():
    values = (np.arange(64 * 64) % 4096).astype(np.uint16).reshape(64, 64)
    data = encoded(values, "PNG")
    assert decoded(data).max() == 15
    twelve = images.decode(tf.constant(data), bits=12).numpy()
    np.testing.assert_array_equal(twelve[..., 0], values >> 4)
    clipped = images.decode(tf.constant(data), bits=10).numpy()
    np.testing.assert_array_equal(clipped[..., 0], np.minimum(values >> 2, 255))
    eight = encoded(GRAY, "PNG")
    np.testing.assert_array_equal(images.decode(tf.constant(eight), bits=12)[..., 0], GRAY)


def _animated(file_format):
    frames = [Image.fromarray(np.roll(RGB, shift, 0)) for shift in range(3)]
    return encoded(frames[0], file_format, save_all=True, append_images=frames[1:], duration=50)


def test_of_an_animated_gif_the_first_frame_is_read():
    data = _animated("GIF")
    np.testing.assert_array_equal(decoded(data), as_pillow(data))


def test_of_an_animated_png_the_first_frame_is_read():
    data = _animated("PNG")
    np.testing.assert_array_equal(decoded(data), as_pillow(data))


def test_a_gif_frame_beside_the_corner_stands_on_white():
    data = bytearray(encoded(PALETTE, "GIF"))
    data[6:10] = struct.pack("<HH", 30, 20)  # a larger screen
    place = data.index(b",\0\0\0\0")
    data[place + 1 : place + 5] = struct.pack("<HH", 5, 2)
    seen = decoded(bytes(data))
    assert seen.shape == (20, 30, 3)
    np.testing.assert_array_equal(seen[2:15, 5:27], np.asarray(PALETTE.convert("RGB")))
    assert (seen[:2] == 255).all()
    assert (seen[:, 27:] == 255).all()


def test_a_gif_of_many_frames_takes_the_memory_of_one():
    """Frames of 4 MB each, of which TensorFlow would decode all: the bytes after the first are not looked at."""
    first = encoded(Image.new("P", (2000, 2000)), "GIF")
    data = first[:-1] + first[first.index(b",\0\0\0\0") : -1] * 1000
    assert decoded(data).shape == (2000, 2000, 3)


ANIMATED = """
import sys, tensorflow as tf
from inception_tf.data.decoding import images
data = tf.io.read_file(sys.argv[1])
print(images.check_encoded(data).numpy().decode())
"""


def test_an_animated_webp_is_refused_before_tensorflow_crashes_on_it(tmp_path):
    (tmp_path / "animated.webp").write_bytes(_animated("WEBP"))
    child = forked.run(["-c", ANIMATED, tmp_path / "animated.webp"])
    assert child.returncode == 0
    assert child.stdout.strip() == webp.ANIMATED


def _top_down():
    """A BMP whose first row is the uppermost."""
    data = bytearray(encoded(RGB, "BMP"))
    data[22:26] = struct.pack("<i", -13)
    return bytes(data)


def _bmp_with_masks(header, masks, color=RGBA):
    fields = struct.pack("<IiiHHIIiiII", header, 22, 13, 1, 32, 3, 0, 0, 0, 0, 0)
    fields += struct.pack("<4I", *masks) + bytes(max(0, header - 56))
    begin = 14 + len(fields)
    pixels = np.ascontiguousarray(color[::-1, :, [2, 1, 0, 3]]).tobytes()
    return b"BM" + struct.pack("<IHHI", begin + len(pixels), 0, 0, begin) + fields + pixels


USUAL = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)


def test_the_rows_of_a_bmp_may_come_from_the_top():
    np.testing.assert_array_equal(decoded(_top_down()), as_pillow(_top_down()))
    np.testing.assert_array_equal(decoded(_top_down()), RGB[::-1])


def test_a_bmp_with_alpha_is_composited():
    data = _bmp_with_masks(108, USUAL)
    assert np.abs(decoded(data).astype(int) - on_white(data)).max() <= 1
    opaque = encoded(Image.fromarray(RGBA), "BMP")  # 32 bits without a header that knows of alpha
    np.testing.assert_array_equal(decoded(opaque), RGBA[..., :3])


def _field(data, offset, value):
    return data[:offset] + value + data[offset + len(value) :]


PLAIN_BMP = encoded(RGB, "BMP")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\0\0\0\x18ftypheic" + bytes(20), HEIF),
        (b"\0\0\0\x20ftypavif" + bytes(20), HEIF),
        (b"\0\0\0\x20ftypisom" + bytes(20), NOT_AN_IMAGE),
        (b"II*\0" + bytes(20), NOT_AN_IMAGE),
        (b"RIFF\0\0\0\0WAVEfmt ", NOT_AN_IMAGE),
        (b"RIFF\0\0\0\0WEBPABCD" + bytes(20), images.DAMAGED),
        (_field(PLAIN_BMP, 30, struct.pack("<I", 1)), bmp.OTHER_KIND),  # run-length encoded
        (_field(PLAIN_BMP, 28, struct.pack("<H", 16)), bmp.OTHER_KIND),
        (_bmp_with_masks(108, USUAL[::-1]), bmp.OTHER_KIND),
        (PLAIN_BMP[:-9], images.DAMAGED),
        (PLAIN_BMP[:20], images.DAMAGED),
        (b"BM", images.DAMAGED),
        (b"GIF89a", images.DAMAGED),
        (encoded(PALETTE, "GIF")[:-30], images.DAMAGED),
        (b"RI", NOT_AN_IMAGE),
        (_field(PLAIN_BMP, 18, struct.pack("<ii", 65000, 65000)), "65000x65000 pixels, at most 50000000 are read"),
        (_field(PLAIN_BMP, 18, struct.pack("<ii", -5, 7)), images.DAMAGED),
        (_field(encoded(PALETTE, "GIF"), 6, b"\xff\xff\xff\xff"), "65535x65535 pixels, at most 50000000 are read"),
        (b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f\xff\xff\xff\xff", "16384x16384 pixels, at most 50000000 are read"),
        (b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff" * 6, "16777216x16777216 pixels, at most 50000000 are read"),
    ],
)  # fmt: skip
def test_what_is_not_read_is_said_by_its_header(data, status):
    assert status_of(data) == status


def test_the_size_of_an_image_is_judged_in_64_bits():
    """65000 x 65000 is negative in 32 bits, and a JPEG of that size was taken for an ordinary one."""
    assert not bool(fits_limit(tf.constant(65000), tf.constant(65000)))
    data = bytearray(tf.io.encode_jpeg(np.zeros((8, 8, 3), np.uint8)).numpy())
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", 65000, 65000)
    assert not bool(images.is_plain_jpeg(tf.constant(bytes(data))))
    assert status_of(bytes(data)).startswith("65000x65000 pixels")


@tf.function(input_signature=[tf.TensorSpec((), tf.string)])
def _read_safely(data):
    def read(data):
        status, pixels = _read(data)
        return status, tf.shape(pixels)

    return images.with_fallback(read, data, (images.DAMAGED, tf.zeros(3, tf.int32)))


@pytest.mark.parametrize("count", [40, pytest.param(2000, marks=pytest.mark.slow)])
def test_damaged_files_of_every_format_end_in_a_status(count):
    """Cut off anywhere, and with bytes changed: no crash, no hang."""
    generator = np.random.default_rng(1)
    whole = [
        encoded(image, kind, **options)
        for image, kind, options in (
            *KINDS.values(),
            (RGBA, "WEBP", {"lossless": True, "exif": _exif(6)}),
        )
    ]
    whole += [_animated("GIF"), _animated("WEBP"), _bmp_with_masks(108, USUAL)]
    for number in range(count):
        data = bytearray(whole[number % len(whole)])
        for _ in range(1 + number % 4):
            data[int(generator.integers(8, len(data)))] = int(generator.integers(256))
        if number % 3 == 0:
            del data[int(generator.integers(1, len(data))) :]
        status, _ = _read_safely(bytes(data))
        assert status.numpy().decode().split(":")[0].split(",")[0]
