# SPDX-License-Identifier: Apache-2.0
"""A trained Inception V3: what folding, 16 bits, int8 and other runtimes change, features, and the way out and back."""

from __future__ import annotations

import os

import keras
import numpy as np
import pytest
import ramps
import trained_drops
import trained_v3
from other_packages import has_slim, of_slim, of_torch
from safetensors.numpy import load_file

import inception_tf
from inception_tf import cli
from inception_tf.inference import runtimes
from inception_tf.inference.optimize import fold_batch_norm, optimize_for_inference
from inception_tf.weights.convert import convert
from inception_tf.weights.foreign import write_foreign

# Largest difference of logits by the largest logit.  Measured: 8e-07 for folding, docs/parity.md for the others.
FLOAT32 = 1e-5


@pytest.fixture(scope="module")
def arrays(test_data):
    path = test_data / trained_v3.FILE
    if not path.is_file():
        pytest.skip(f"no trained network at {path}; set INCEPTION_TF_TEST_DATA")
    return trained_v3.read_arrays(path)


@pytest.fixture(scope="module")
def photographs(test_data):
    """Two of each kind: pixels and kinds."""
    return trained_v3.photographs(test_data, "test", 2)


@pytest.fixture(scope="module")
def flowers(arrays, test_data):
    """The network with a classifier of the kinds."""
    return trained_v3.build_flowers(arrays, test_data, per_class=8)


def assert_near(found, expected, tolerance=FLOAT32):
    assert np.ptp(expected) > 1
    assert np.abs(found - expected).max() < tolerance * np.abs(expected).max()


def test_folding_keeps_the_logits_of_trained_weights(arrays, test_data):
    """Its statistics are a trained network's: variances from 1e-5 to 7, which random weights do not have."""
    images = trained_v3.photographs(test_data, "test", 1)[0][:2]
    with ramps.undrawn():
        model = trained_v3.build_classifier(arrays)
        folded = optimize_for_inference(model)
    expected = model(images, training=False).numpy()
    assert not any(isinstance(la, keras.layers.BatchNormalization) for la in folded.layers)
    assert_near(folded(images).numpy(), expected)
    # Its makers' classifier calls every flower the third class.
    assert np.all(keras.ops.softmax(expected)[:, 2] > 0.95)


@pytest.mark.slow
def test_the_original_in_keras_gives_the_same_logits(arrays, photographs):
    ours, theirs = trained_v3.build_classifier(arrays), trained_v3.build_original(arrays)
    expected = theirs.predict(photographs[0], batch_size=20, verbose=0)
    found = ours.predict(photographs[0], batch_size=20, verbose=0)
    assert_near(found, expected, 1e-6)
    probabilities = np.asarray(keras.ops.softmax(found))
    assert np.all(probabilities.argmax(1) == 2)
    assert (
        probabilities[:, 2].mean() > 0.997
    )  # 0.998 of 60 photographs, says the README of the data; these are 24
    assert_near(fold_batch_norm(ours).predict(photographs[0], batch_size=20, verbose=0), expected)


# Largest and mean difference of probabilities, and the fraction of answers that must stay: docs/parity.md has what was
# measured on 240 photographs.
LIMITS = {
    "bfloat16": (0.12, 0.006, 0.93),
    "float16": (0.02, 0.001, 0.98),
    "int8": (0.35, 0.02, 0.9),
    "float32": (1e-4, 1e-5, 1.0),
}


def assert_drop(found, expected, kinds, precision):
    largest, mean, same = LIMITS[precision]
    drop = trained_drops.measure(found, expected, kinds)
    assert drop.largest < largest
    assert drop.mean < mean
    assert drop.same >= same
    assert drop.top1 > (expected.argmax(1) == kinds).mean() - 0.05
    if precision != "float32":
        assert drop.largest > LIMITS["float32"][0]  # it is another precision


@pytest.fixture(scope="module")
def expected(flowers, photographs):
    """Probabilities of the Keras model, which knows most of the kinds."""
    found = trained_drops.run(flowers.predict_on_batch, photographs[0])
    assert (found.argmax(1) == photographs[1]).mean() > 0.6
    return found


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_16_bits_keep_almost_all_answers(precision, flowers, photographs, expected):
    images, kinds = photographs
    found = trained_drops.run(trained_drops.optimized(flowers, precision), images)
    assert_drop(found, expected, kinds, precision)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("format", "int8"),
    [("openvino", False), ("openvino", True), ("onnx", False), ("litert", False), ("litert", True)],
)
def test_other_runtimes_keep_the_answers(
    format, int8, flowers, photographs, expected, test_data, tmp_path
):
    try:
        runtimes.find_runtime(format).check_installed(int8)
    except inception_tf.UserError as error:
        pytest.skip(str(error))
    images, kinds = photographs
    few = np.split(trained_v3.photographs(test_data, "train", 2)[0], 3) if int8 else None
    forward = trained_drops.converted(flowers, format, few, tmp_path)
    found = trained_drops.run(forward, images)
    assert_drop(found, expected, kinds, "int8" if int8 else "float32")


@pytest.mark.slow
def test_a_savedmodel_answers_encoded_photographs_alike(
    flowers, photographs, expected, test_data, tmp_path
):
    encoded = trained_v3.files(test_data, "test", 2)
    found = trained_drops.served(flowers, tmp_path)(encoded)
    assert_drop(found, expected, photographs[1], "float32")


@pytest.mark.slow
@pytest.mark.parametrize("head", [False, True])
def test_features_are_those_of_the_original(head, arrays, flowers, test_data, tmp_path, capsys):
    """By the command, from a weights file that has a classifier, or none."""
    path, target = tmp_path / "v3.weights.h5", tmp_path / "features.npz"
    if head:
        trained_v3.save_flowers(path, flowers)
    else:
        trained_v3.save_backbone(path, arrays)
    folder = test_data / "flowers12" / "test"
    kind = sorted(folder.iterdir())[3]
    words = ["features", str(path), "--input", str(kind), "--output", str(target)]
    assert cli.main(words) == 0
    assert "20 images, 2048 features of each" in capsys.readouterr().out
    with np.load(target) as file:
        found, paths = file["features"], file["paths"]
    images, kinds = trained_v3.photographs(test_data, "test", 20)
    original = trained_v3.build_original(arrays)
    pooled = keras.Model(original.input, original.get_layer("dense_1").input)
    expected = pooled.predict(images[kinds == 3], batch_size=20, verbose=0)
    assert [os.path.basename(one) for one in paths] == sorted(os.listdir(kind))
    assert np.ptp(expected) > 1
    np.testing.assert_allclose(found, expected, atol=2e-4)


# The way out, and back


def logits_of(flowers, images, **switches):
    """A copy that gives logits, and these."""
    model = inception_tf.create_model(
        "inception_v3", classes=12, classifier_activation=None, **switches
    )
    model.set_weights(flowers.get_weights())
    return model, model.predict(images, batch_size=12, verbose=0)


def assert_same_weights(found, expected):
    theirs = {variable.path: variable for variable in expected.weights}
    for variable in found.weights:
        np.testing.assert_array_equal(variable, theirs[variable.path], err_msg=variable.path)


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".weights.h5", ".keras"])
def test_the_way_to_keras_and_back(ending, flowers, photographs, tmp_path):
    path, images = tmp_path / f"x{ending}", photographs[0][::2]
    model, expected = logits_of(flowers, images)
    done = write_foreign(model, "inception_v3", {}, "keras", path)
    theirs = eval(done.use, {"keras": keras})
    theirs.layers[-1].activation = None
    assert_near(theirs.predict(images, batch_size=12, verbose=0), expected, 1e-6)
    assert_same_weights(convert("inception_v3", "keras", path).model, flowers)


@pytest.mark.slow
@has_slim
def test_the_way_to_slim_and_back(flowers, photographs, tmp_path):
    images = photographs[0][::2]
    model, expected = logits_of(flowers, images)
    write_foreign(model, "inception_v3", {}, "slim", tmp_path / "x.ckpt")
    words = (tmp_path / "x.ckpt", "inception_v3", 12, "create_aux_logits")
    assert_near(of_slim(tmp_path, images, *words), expected)
    assert_same_weights(convert("inception_v3", "slim", tmp_path / "x.ckpt").model, flowers)


@pytest.mark.slow
def test_the_way_to_torchvision_and_timm_and_back(flowers, photographs, tmp_path):
    """As the network with torch's padding, which gives other answers."""
    images, lines = photographs[0][::2], {}
    switches = {"count_padding": True}
    model, expected = logits_of(flowers, images, **switches)
    for target in ("torchvision", "timm"):
        path = tmp_path / f"{target}.safetensors"
        lines[target] = write_foreign(model, "inception_v3", switches, target, path).use
        back = convert("inception_v3", target, path, switches=switches)
        scaled = {variable.path: variable for variable in back.model.weights}
        gammas = [array for name, array in scaled.items() if name.endswith("/gamma")]
        assert len(gammas) == 94
        assert all(np.all(np.asarray(gamma) == 1) for gamma in gammas)
        for variable in flowers.weights:
            np.testing.assert_array_equal(scaled[variable.path], variable, err_msg=variable.path)
        again = tmp_path / f"again_{target}.safetensors"
        write_foreign(back.model, "inception_v3", back.switches, target, again)
        assert again.read_bytes() == path.read_bytes()
        assert len(load_file(again)) == 94 * 6 + 2  # with torch's counters
    found = of_torch(tmp_path, images, lines)
    for target in lines:
        assert_near(found[target], expected)
