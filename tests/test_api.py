# SPDX-License-Identifier: Apache-2.0
"""The public names."""

from __future__ import annotations

import os

import forked

import inception_tf


def test_all_is_sorted_and_every_name_is_there():
    assert inception_tf.__all__ == sorted(inception_tf.__all__)
    for name in inception_tf.__all__:
        assert getattr(inception_tf, name).__doc__, name


def test_every_network_has_a_builder():
    from inception_tf import applications

    assert list(applications.BUILDERS) == inception_tf.list_models()
    for builder in applications.BUILDERS.values():
        assert builder.__name__ in inception_tf.__all__


def test_preprocessing_takes_pixels_to_minus_one_and_one_and_leaves_its_input_alone():
    import numpy as np

    pixels = np.array([0.0, 127.5, 255.0], np.float32)
    result = inception_tf.preprocess_input(pixels, model="inception_v1")
    np.testing.assert_array_equal(result, [-1, 0, 1])
    np.testing.assert_array_equal(pixels, [0, 127.5, 255])
    assert result.dtype == "float32"
    gluon = inception_tf.preprocess_input(
        np.full((1, 3), 255.0), "inception_v3", release="timm_gluon"
    )
    np.testing.assert_allclose(gluon, [[2.2489, 2.4286, 2.64]], atol=1e-3)


def test_preprocessing_and_decoding_work_on_another_backend(test_data, tmp_path):
    """In a process of its own: Keras reads its cache folder and the list of names once."""
    program = """
import re, shutil, sys, numpy, tensorflow as tf
for name in [name for name in sys.modules if name.partition(".")[0] == "keras"]:
    del sys.modules[name]  # the process has imported it on TensorFlow, and imports it again on another backend
import keras, inception_tf
pixels = numpy.arange(24, dtype="float32").reshape(2, 4, 3)
for release in (None, "bvlc"):  # the latter with blue first
    network = "googlenet" if release else "inception_v3"
    scale = lambda x: inception_tf.preprocess_input(x, network, release)
    expected = scale(pixels)
    data = tf.data.Dataset.from_tensor_slices(pixels.astype("uint8")).map(scale)
    numpy.testing.assert_allclose(numpy.stack(list(data)), expected, rtol=1e-6)
try:
    inception_tf.decode_predictions(numpy.zeros((1, 1000)))
except inception_tf.UserError as error:  # there is no connection
    shutil.copy(sys.argv[1], re.search("by hand at (.*) and try again$", str(error))[1])
for classes, goldfish in ((1000, 1), (1001, 2)):  # without and with a background class
    rows = numpy.full((1, classes), 1e-4); rows[0, goldfish] = 0.9
    (first, second), = inception_tf.decode_predictions(rows, top=2)
    assert first == ("n01443537", "goldfish", 0.9), first
try:
    inception_tf.decode_predictions(numpy.zeros((1, 10)))
except inception_tf.UserError as error:
    assert "got (1, 10)" in str(error)
else:
    raise AssertionError("10 classes were decoded")
try:
    inception_tf.decode_predictions(rows, top=0)
except inception_tf.UserError as error:
    assert "top must be" in str(error)
else:
    raise AssertionError("no class was decoded")
assert keras.backend.backend() == "openvino"
"""
    # A proxy that nothing listens at: the download fails at once.
    offline = dict.fromkeys(("https_proxy", "HTTPS_PROXY"), "http://127.0.0.1:9")
    child = forked.run(
        ["-c", program, test_data / "imagenet_class_index.json"],
        env={
            **os.environ,
            **offline,
            "no_proxy": "",
            "KERAS_BACKEND": "openvino",
            "KERAS_HOME": str(tmp_path),
        },
    )
    assert child.returncode == 0, child.stderr


def test_what_the_package_lists_is_what_it_promises():
    assert dir(inception_tf) == sorted([*inception_tf.__all__, "__version__"])
