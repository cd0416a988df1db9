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

from inception_tf import create_model
from inception_tf.data.decoding import images as pixels
from inception_tf.data.decoding import transforms
from inception_tf.data.decoding.images import DAMAGED
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.export import sample_requests, signatures
from inception_tf.export.savedmodel import export
from inception_tf.verify import subprocess_loader
from inception_tf.verify.verify import verify

pytestmark = pytest.mark.usefixtures("short_networks")

SIZE, CROP = 64, 0.875
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
    model = create_model(
        "inception_v1", input_shape=(SIZE, SIZE, 3), classes=3, width_multiplier=0.25
    )
    # The initial weights of this package give every class the same score.
    ramps.fill(model)
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
    folder = export(network, labels, to, Preprocessing(SIZE), pixel_limit=90 * 120)
    return tf.saved_model.load(str(folder))


@pytest.fixture(scope="module")
def usual(folder, good) -> int:
    """Bytes of the server's process when it has read one image."""
    return in_the_server(folder, [good[:1]])[1]


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


def test_an_export_passes_every_check(network, folder):
    checks = verify(folder, network, LABELS)
    assert [check for check in checks if not check.passed] == []


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
    packer = zlib.compressobj()
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    kinds = {b"IHDR": header, b"IDAT": packed, b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in kinds.items())


def in_the_server(folder, batches) -> tuple[list[dict[str, np.ndarray]], int]:
    """Outputs of `serving_default` in TensorFlow Serving's loader, and the bytes that its process held."""
    calls = [sample_requests.sample_encoded_calls(batch)[0] for batch in batches]
    answers, peak = subprocess_loader.run_saved_model(folder, calls)
    assert [answer.error for answer in answers] == [""] * len(calls)
    return [answer.outputs for answer in answers], peak


def test_images_that_explode_are_refused_by_their_headers_in_little_memory(folder, good, usual):
    black = tf.zeros((14000, 14000, 1), tf.uint8)
    bombs = [bomb(20000, 20000), bomb(40000, 40000, 1), tf.io.encode_jpeg(black).numpy()]
    assert max(map(len, bombs)) < 3_000_000
    (answer,), peak = in_the_server(folder, [[good[0], *bombs]])
    sizes = ("20000x20000", "40000x40000", "14000x14000")
    assert answer["status"].tolist() == [
        b"ok",
        *(f"{size} pixels, at most 50000000 are read".encode() for size in sizes),
    ]
    assert peak - usual < 100e6


def test_the_largest_images_let_in_stay_within_the_memory_that_is_stated(folder, usual):
    black = tf.zeros((7000, 7000, 3), tf.uint8)
    heavy = tf.io.encode_jpeg(black, progressive=True, chroma_downsampling=False).numpy()
    (answer,), peak = in_the_server(folder, [[heavy] * 8])
    assert set(answer["status"]) == {b"ok"}
    assert (
        peak - usual < signatures.PARALLEL_IMAGES * signatures.BYTES_PER_PIXEL * pixels.PIXEL_LIMIT
    )


def test_the_pixel_limit_is_a_setting_of_the_export(other, good):
    larger = tf.io.encode_png(np.zeros((91, 120, 3), np.uint8)).numpy()
    answer = ask(other, "serving_default", [good[0], larger])
    assert answer["status"].tolist() == [b"ok", b"120x91 pixels, at most 10800 are read"]


@pytest.mark.parametrize(
    ("of_a_kind", "sound_ones"),
    [(2, 70), pytest.param(None, 900, marks=pytest.mark.slow)],
    ids=["two of a kind", "all"],
)
def test_every_odd_file_is_answered_or_refused_without_a_crash(
    folder, usual, test_data, of_a_kind, sound_ones
):
    rows = odd_images(test_data / "bad_images", of_a_kind)
    files = [(test_data / "bad_images" / row["file"]).read_bytes() for row in rows]
    batches = [files[start : start + 64] for start in range(0, len(files), 64)]
    outputs, peak = in_the_server(folder, batches)
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
    assert peak - usual < 500e6


def test_two_models_in_one_process_keep_their_own_labels(served, other, good):
    assert set(ask(other, "serving_default", good[:1])["top_classes"][0]) == {b"x", b"y", b"z"}
    assert b"crane" in ask(served, "serving_default", good[:1])["top_classes"][0]


def test_a_mixed_precision_network_answers_in_float32(tmp_path):
    model = create_model(
        "inception_v1",
        input_shape=(32, 32, 3),
        classes=3,
        width_multiplier=0.1,
        dtype="mixed_bfloat16",
    )
    ramps.fill(model)
    served = tf.saved_model.load(str(export(model, LABELS, tmp_path, Preprocessing(32))))
    answer = ask(served, "image_tensor", np.zeros((1, 40, 40, 3), np.uint8))
    assert answer["probabilities"].dtype == np.float32
