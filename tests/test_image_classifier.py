# SPDX-License-Identifier: Apache-2.0
"""Names for images in Python: of runs, of files and of a user's own Keras model; of paths and of arrays."""

from __future__ import annotations

import os

import keras
import numpy as np
import pytest
import tensorflow as tf

import inception_tf
from inception_tf import UserError
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.run_folder import Run
from inception_tf.serving.image_classifier import ImageClassifier
from inception_tf.serving.predict import predict

COLORS = ("red", "green", "blue")


@pytest.fixture(scope="module")
def strongest():
    """A model that names the strongest color of an image in [-1, 1]."""
    image = keras.Input((16, 16, 3))
    mean = keras.layers.GlobalAveragePooling2D()(image)
    return keras.Model(image, keras.layers.Softmax()(keras.layers.Rescaling(9.0)(mean)))


@pytest.fixture(scope="module")
def by_color(strongest):
    return inception_tf.classifier(strongest, labels=COLORS)


@pytest.fixture(scope="module")
def by_number(strongest):
    return inception_tf.classifier(strongest)


def picture(color, height=20, width=30):
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., color] = 250
    return pixels


def test_arrays_and_paths_are_answered_alike_and_in_order(by_color, tmp_path):
    path = tmp_path / "blue.png"
    path.write_bytes(tf.io.encode_png(picture(2)).numpy())
    found = by_color.predict(
        [picture(1), path, str(tmp_path / "none.png"), picture(0, 7, 5), picture(2)], top=2
    )
    assert [one.image for one in found] == [
        *("image 0", str(path), str(tmp_path / "none.png"), "image 3", "image 4")
    ]
    assert [one.top[0][0] if one.top else None for one in found] == [
        *("green", "blue", None, "red", "blue")
    ]
    assert found[1].top == found[4].top
    assert found[2].status == "cannot be read: No such file or directory"
    assert len(found[0].top) == 2


def test_a_pipe_a_device_and_a_folder_are_not_waited_for(by_number, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    found = by_number.predict([tmp_path / "pipe", "/dev/zero", tmp_path])
    assert [one.status for one in found] == [
        f"cannot be read: it is {kind}" for kind in ("a named pipe", "a device", "a folder")
    ]


@pytest.mark.parametrize(
    "images", [picture(1), picture(1)[np.newaxis], np.stack([picture(1)] * 40), [picture(1)]]
)
def test_one_image_a_batch_and_a_list_are_taken(by_color, images):
    found = by_color.predict(images)
    assert {one.top[0][0] for one in found} == {"green"}
    assert len(found) == (1 if images is not None and np.ndim(images) == 3 else len(images))


def test_gray_images_are_taken(by_number):
    (flat, deep) = by_number.predict(
        [np.full((9, 9), 80, np.uint8), np.full((9, 9, 1), 80, np.uint8)]
    )
    assert flat.top == deep.top
    assert sorted(name for name, _ in flat.top) == ["0", "1", "2"]


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_an_array_that_is_no_image_is_one_sentence(by_number, image):
    with pytest.raises(UserError, match=r"image 0 must be \(H, W, 3\), .*got \("):
        by_number.predict([image])


def test_a_model_of_ones_own_says_its_preprocessing(strongest, by_color):
    dark = np.full((16, 16, 3), (60, 70, 80), np.uint8)
    own = by_color.predict(dark)[0]
    caffe = Preprocessing(16, None, "caffe")  # blue first
    other = inception_tf.classifier(strongest, labels=COLORS, preprocessing=caffe).predict(dark)[0]
    assert own.top[0][0] == "blue"
    assert other.top[0][0] == "red"


def test_what_does_not_fit_is_one_sentence(strongest):
    with pytest.raises(UserError, match="there are 2 labels for the 3 classes"):
        inception_tf.classifier(strongest, labels=("a", "b"))
    anything = keras.Sequential([keras.Input((None, None, 3)), keras.layers.GlobalMaxPooling2D()])
    with pytest.raises(UserError, match="say with preprocessing="):
        inception_tf.classifier(anything)
    flat = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(UserError, match="takes one batch of RGB images"):
        inception_tf.classifier(flat)
    with pytest.raises(UserError, match="there is no nowhere"):
        inception_tf.classifier("nowhere")


@pytest.mark.usefixtures("short_networks")
def test_a_run_answers_as_the_command_does_and_draws_where_it_sees_its_answers(
    digits_run, strongest, tmp_path, monkeypatch
):
    path = tmp_path / "blue.png"
    path.write_bytes(tf.io.encode_png(picture(2)).numpy())
    expected = predict(digits_run, [str(path)])
    assert inception_tf.classifier(digits_run).predict(path) == expected
    run = inception_tf.classifier(Run(digits_run))
    assert run.predict(path) == expected
    (drawn,) = run.explain([path, tmp_path / "none.png"], tmp_path / "heat", "Conv2d_2c_3x3")
    assert drawn == tmp_path / "heat" / "blue.png"
    assert drawn.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UserError, match="explain takes paths of image files, got ndarray"):
        run.explain([picture(0)], tmp_path)
    monkeypatch.setattr(ImageClassifier, "predict", lambda *_, **__: pytest.fail("work before it"))
    with pytest.raises(UserError, match="unknown endpoint 'Mixed_9'"):
        run.explain(path, tmp_path, "Mixed_9")
    export = ImageClassifier(lambda data, top: [])
    with pytest.raises(UserError, match="an export has no gradients to explain its answers by"):
        export.explain(path, tmp_path)
    with pytest.raises(UserError):  # a network without endpoints
        inception_tf.classifier(strongest).explain(path, tmp_path)
