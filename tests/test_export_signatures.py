# SPDX-License-Identifier: Apache-2.0
"""What the signatures of an export answer to good and to bad images."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import keras
import numpy as np
import pytest
import ramps
import tensorflow as tf
from odd_images import odd_images

from inception_tf.data.decoding import images as pixels
from inception_tf.data.decoding import transforms
from inception_tf.data.decoding.images import DAMAGED
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.export import sample_requests, signatures
from inception_tf.export.savedmodel import export
from inception_tf.verify import subprocess_loader

SIZE, CROP = 64, 0.875
SIDE = 2500  # of the largest square in a low limit
LOW_LIMIT = SIDE * SIDE
LABELS = ("tabby cat", "crane", "Ärmel")


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG: length, name, content, checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int) -> bytes:
    """A PNG that states a size and holds nothing of it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def network() -> keras.Model:
    images = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(8, 5, 4, name="conv")(images))
    model = keras.Model(images, keras.layers.Dense(len(LABELS), "softmax", name="logits")(x))
    for weight in model.weights:
        weight.assign(4 * ramps.weight(weight.path, tuple(weight.shape)))
    return model


@pytest.fixture(scope="module")
def folder(network, tmp_path_factory) -> Path:
    return export(
        network, LABELS, tmp_path_factory.mktemp("saved_models") / "demo", Preprocessing(SIZE, CROP)
    )


@pytest.fixture(scope="module")
def served(folder):
    return tf.saved_model.load(str(folder))


@pytest.fixture(scope="module")
def other(network, tmp_path_factory):
    """The same network with other labels and a lower limit of pixels."""
    to, labels = tmp_path_factory.mktemp("saved_models"), ("x", "y", "z")
    return export(network, labels, to, Preprocessing(SIZE), pixel_limit=LOW_LIMIT)


@pytest.fixture(scope="module")
def good() -> list[bytes]:
    colour = np.random.default_rng(1).integers(0, 256, (90, 120, 3), np.uint8)
    return [
        tf.io.encode_jpeg(colour).numpy(),
        tf.io.encode_png(colour).numpy(),
        tf.io.encode_jpeg(colour[..., :1]).numpy(),
        tf.io.encode_png(np.dstack([colour, colour[..., :1]])).numpy(),
    ]


def ask(served, name: str, value) -> dict[str, np.ndarray]:
    return {
        key: tensor.numpy() for key, tensor in served.signatures[name](tf.constant(value)).items()
    }


def example(data: bytes) -> bytes:
    return sample_requests.sample_encoded_calls([data])[1].inputs["inputs"][0]


def test_images_of_every_kind_give_the_networks_own_probabilities(network, served, good):
    steps = transforms.evaluation_steps(Preprocessing(SIZE, CROP))
    batch = tf.stack([transforms.apply_steps(steps, pixels.decode(data)) for data in good])
    answer = ask(served, "serving_default", good)
    np.testing.assert_allclose(answer["probabilities"], network(batch, training=False), atol=1e-6)
    assert answer["status"].tolist() == [b"ok"] * len(good)


def test_top_classes_are_best_first_and_from_the_label_file(served, good):
    answer = ask(served, "serving_default", good)
    order = np.argsort(-answer["probabilities"], axis=-1)
    assert [[name.decode() for name in row] for row in answer["top_classes"]] == [
        [LABELS[place] for place in row] for row in order
    ]
    np.testing.assert_array_equal(
        answer["top_scores"], np.take_along_axis(answer["probabilities"], order, -1)
    )


def test_decoded_images_give_the_same_answer_as_encoded_ones(served, good):
    encoded = ask(served, "serving_default", good[1:2])
    decoded = ask(served, "image_tensor", pixels.decode(good[1])[tf.newaxis])
    assert set(decoded) == set(encoded) - {"status"}
    np.testing.assert_array_equal(decoded["top_classes"], encoded["top_classes"])
    # The whole batch is resized at once here: the last bit may differ.
    np.testing.assert_allclose(decoded["probabilities"], encoded["probabilities"], atol=1e-6)


def test_classify_reads_examples_and_answers_as_serving_default(served, good):
    answer = ask(served, "classify", [example(data) for data in good])
    default = ask(served, "serving_default", good)
    assert set(answer) == {"classes", "scores"}
    np.testing.assert_array_equal(answer["classes"], default["top_classes"])
    np.testing.assert_array_equal(answer["scores"], default["top_scores"])


BAD = {
    "empty": (b"", b"empty"),
    "text": (b"no image at all", b"not a JPEG, PNG, WebP, BMP or GIF image"),
    "half a gif": (b"GIF89a" + bytes(40), b"damaged: cannot be decoded"),
    "half a magic": (b"\xff\xd8", b"not a JPEG, PNG, WebP, BMP or GIF image"),
    "jpeg magic only": (b"\xff\xd8\xff", DAMAGED.encode()),
    "png magic only": (b"\x89PNG\r\n\x1a\n", DAMAGED.encode()),
    "empty png": (png_header(50, 50), DAMAGED.encode()),
    "no pixels": (png_header(0, 0), DAMAGED.encode()),
    "huge png": (png_header(20000, 20000), b"20000x20000 pixels, at most 50000000 are read"),
    "truncated": (None, DAMAGED.encode()),  # half of a good JPEG
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_image_says_why_and_leaves_its_neighbours_alone(served, good, kind):
    data, reason = BAD[kind]
    bad = good[0][: len(good[0]) // 2] if data is None else data
    clean = ask(served, "serving_default", [good[0], good[1], good[2]])
    answer = ask(served, "serving_default", [good[0], bad, good[2]])
    assert answer["status"].tolist() == [b"ok", reason, b"ok"]
    assert not answer["probabilities"][1].any()
    assert not answer["top_scores"][1].any()
    assert answer["top_classes"][1].tolist() == [b""] * 3
    for name, rows in answer.items():
        np.testing.assert_array_equal(rows[[0, 2]], clean[name][[0, 2]])


@pytest.mark.parametrize(
    "bad",
    [example(b""), example(b"text"), b"\xff\xff no example", b""],
    ids=["empty", "text", "malformed", "nothing"],
)
def test_a_bad_example_fails_alone_in_classify(served, good, bad):
    clean = ask(served, "classify", [example(good[0]), example(good[1])])
    answer = ask(served, "classify", [example(good[0]), bad])
    assert answer["classes"][1].tolist() == [b""] * 3
    assert answer["scores"][1].tolist() == [0, 0, 0]
    np.testing.assert_array_equal(answer["scores"][0], clean["scores"][0])


def bomb(width: int, height: int, bits: int = 8) -> bytes:
    """A gray PNG of black, a thousandth of the size that it decodes to."""
    row = bytes(1 + width * bits // 8)
    packer = zlib.compressobj(1)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    kinds = {b"IHDR": header, b"IDAT": packed, b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in kinds.items())


def in_the_server(folder, *batches) -> tuple[list[dict[str, np.ndarray]], int]:
    """Outputs of `serving_default` in TensorFlow Serving's loader, and by how many bytes its process grew after the first batch."""
    calls = [sample_requests.sample_encoded_calls(batch)[0] for batch in batches]
    answers, peak = subprocess_loader.run_saved_model(folder, calls)
    assert [answer.error for answer in answers] == [""] * len(calls)
    return [answer.outputs for answer in answers], peak - answers[0].peak


def test_images_that_explode_are_refused_by_their_headers_in_little_memory(folder, good):
    black = tf.zeros((8000, 8000, 1), tf.uint8)
    bombs = [bomb(9000, 9000), bomb(16000, 16000, 1), tf.io.encode_jpeg(black).numpy()]
    assert max(map(len, bombs)) < 3_000_000
    (_, answer), growth = in_the_server(folder, good[:1], [good[0], *bombs])
    sizes = ("9000x9000", "16000x16000", "8000x8000")
    assert answer["status"].tolist() == [
        b"ok",
        *(f"{size} pixels, at most 50000000 are read".encode() for size in sizes),
    ]
    assert growth < 100e6


def heaviest(side: int) -> bytes:
    """A JPEG of black, whose coefficients are all held before a pixel is decoded."""
    black = tf.zeros((side, side, 3), tf.uint8)
    return tf.io.encode_jpeg(black, progressive=True, chroma_downsampling=False).numpy()


@pytest.mark.parametrize(
    ("side", "limit"),
    [(SIDE, LOW_LIMIT), pytest.param(7000, pixels.PIXEL_LIMIT, marks=pytest.mark.slow)],
)
def test_the_largest_images_let_in_stay_within_the_memory_that_is_stated(
    folder, other, good, side, limit
):
    to = other if limit == LOW_LIMIT else folder
    (_, answer), growth = in_the_server(to, good[:1], [heaviest(side)] * 8)
    assert set(answer["status"]) == {b"ok"}
    assert growth < signatures.PARALLEL_IMAGES * signatures.BYTES_PER_PIXEL * limit


def test_a_lower_limit_and_other_labels_are_of_one_export_alone(served, other, good):
    """Both models in this process."""
    high = tf.io.encode_png(np.zeros((SIDE + 1, SIDE, 3), np.uint8), 1).numpy()
    loaded = tf.saved_model.load(str(other))
    answer = ask(loaded, "serving_default", [good[0], high])
    words = f"{SIDE}x{SIDE + 1} pixels, at most {LOW_LIMIT} are read"
    assert answer["status"].tolist() == [b"ok", words.encode()]
    assert set(answer["top_classes"][0]) == {b"x", b"y", b"z"}
    answer = ask(served, "serving_default", [good[0], high])
    assert answer["status"].tolist() == [b"ok"] * 2
    assert b"crane" in answer["top_classes"][0]


@pytest.mark.parametrize(
    ("of_a_kind", "sound_ones"),
    [(2, 70), pytest.param(None, 900, marks=pytest.mark.slow)],
    ids=["two of a kind", "all"],
)
def test_every_odd_file_is_answered_or_refused_without_a_crash(
    folder, good, test_data, of_a_kind, sound_ones
):
    rows = odd_images(test_data / "bad_images", of_a_kind)
    files = [(test_data / "bad_images" / row["file"]).read_bytes() for row in rows]
    batches = [files[start : start + 64] for start in range(0, len(files), 64)]
    (_, *outputs), growth = in_the_server(folder, good[:1], *batches)
    status = np.concatenate([answer["status"] for answer in outputs])
    probabilities = np.concatenate([answer["probabilities"] for answer in outputs])
    read = status == b"ok"
    np.testing.assert_allclose(probabilities.sum(-1), read, atol=1e-5)
    assert all(reason for reason in status)

    # Those that both Pillow and TensorFlow's own decoder take, by the manifest, are taken here too.
    sound = np.array(
        [
            row["pil_format"] in ("JPEG", "PNG")
            and row["pil_load"] == row["tf_decode_image"] == "ok"
            for row in rows
        ]
    )
    assert sound.sum() > sound_ones
    assert set(status[sound]) == {b"ok"}
    assert growth < 500e6
