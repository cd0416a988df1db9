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

from inception_tf import create_model
from inception_tf.data import images as pixels
from inception_tf.data.images import DAMAGED
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.serving import examples
from inception_tf.serving.export import export
from inception_tf.serving.verify import verify

SIZE, CROP = 64, 0.875
LABELS = ("tabby cat", "crane", "Ärmel")


def png_header(width: int, height: int) -> bytes:
    """A PNG that states a size and holds nothing of it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

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
        network, LABELS, tmp_path_factory.mktemp("saved_models") / "demo", size=SIZE, crop=CROP
    )


@pytest.fixture(scope="module")
def served(folder):
    return tf.saved_model.load(str(folder))


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
    return examples.encoded_calls([data])[1].inputs["inputs"][0]


def test_an_export_passes_every_check(network, folder):
    checks = verify(folder, network)
    assert [check for check in checks if not check.passed] == []


def test_images_of_every_kind_give_the_networks_own_probabilities(network, served, good):
    steps = pixels.evaluation_steps(Preprocessing(SIZE, CROP))
    batch = tf.stack([pixels.compose(steps, pixels.decode(data)) for data in good])
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
    "text": (b"no image at all", b"not a JPEG or PNG image"),
    "gif": (b"GIF89a" + bytes(40), b"not a JPEG or PNG image"),
    "half a magic": (b"\xff\xd8", b"not a JPEG or PNG image"),
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


def test_two_models_in_one_process_keep_their_own_labels(network, served, good, tmp_path):
    other = tf.saved_model.load(str(export(network, ("x", "y", "z"), tmp_path, size=SIZE)))
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
    served = tf.saved_model.load(str(export(model, LABELS, tmp_path, size=32)))
    answer = ask(served, "image_tensor", np.zeros((1, 40, 40, 3), np.uint8))
    assert answer["probabilities"].dtype == np.float32
