# SPDX-License-Identifier: Apache-2.0
"""Where a network sees a class: on a photograph with a known object, and against the formula by hand."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageDraw
from sklearn.datasets import load_sample_images

import inception_tf
from inception_tf import UserError
from inception_tf.inference.saliency import grad_cam, last_feature_map

MONASTERY, SPORTS_CAR, TEDDY = 663, 817, 850  # of ImageNet's classes
# Drawn by hand around the pagoda of scikit-learn's china.jpg, as a fraction of its sides.
PAGODA = [
    *((0.16, 0.22), (0.32, 0.06), (0.48, 0.25), (0.52, 0.42), (0.56, 0.58)),
    *((0.58, 0.85), (0.47, 0.94), (0.13, 0.80), (0.09, 0.60), (0.13, 0.40)),
]


@pytest.fixture(scope="module")
def pagoda():
    """(the photograph (1, 224, 224, 3) as BVLC's weights take it, (224, 224) bool: where the pagoda is)."""
    pixels = tf.image.resize(
        load_sample_images().images[0].astype(np.float32), (224, 224), antialias=True
    )
    mask = Image.new("1", (224, 224))
    ImageDraw.Draw(mask).polygon([(224 * x, 224 * y) for x, y in PAGODA], fill=1)
    return pixels.numpy()[None, ..., ::-1] - np.array([104, 117, 123], np.float32), np.array(mask)


def inside_to_outside(heat, mask):
    return heat[mask].mean() / heat[~mask].mean()


def test_the_heat_of_a_class_is_where_it_is_and_not_so_of_others_or_of_random_weights(
    pagoda, test_data
):
    image, mask = pagoda
    network = inception_tf.GoogLeNet()
    keras.utils.set_random_seed(0)
    (random,) = grad_cam(network, image)
    weights = test_data / "weights" / "googlenet_bvlc_imagenet_f16_hwio.npz"
    inception_tf.load_weights(network, weights, source="bvlc")
    best, named, car, teddy = grad_cam(
        network,
        np.repeat(image, 4, 0),
        [int(network(image)[0].numpy().argmax()), MONASTERY, SPORTS_CAR, TEDDY],
    )
    np.testing.assert_array_equal(best, named)
    assert mask.flat[named.argmax()]
    assert inside_to_outside(named, mask) > 2.5
    assert inside_to_outside(car, mask) < 0.5
    assert inside_to_outside(teddy, mask) < 0.5
    assert inside_to_outside(random, mask) < 1.8


def test_it_is_its_papers_formula():
    image = keras.Input((8, 8, 3))
    maps = keras.layers.Conv2D(4, 3, padding="same", name="Mixed_5c")(image)
    pooled = keras.layers.GlobalAveragePooling2D(name="global_pool")(maps)
    logits = keras.layers.Dense(3, name="Logits")(pooled)
    model = keras.Model(image, keras.layers.Softmax(name="Predictions")(logits))
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    found = grad_cam(model, x, [2, 0])
    # With a mean before the dense layer the gradient of a logit is its kernel, over the number of places.
    kernel = np.asarray(model.get_layer("Logits").kernel)[:, [2, 0]].T / 64
    maps = keras.Model(image, maps)(x).numpy()
    heat = np.maximum((maps * kernel[:, None, None]).sum(-1), 0)
    np.testing.assert_allclose(found, heat / heat.max((1, 2), keepdims=True), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("all_short")
@pytest.mark.parametrize(
    "name",
    [
        name
        if name in ("googlenet", "inception_v2", "alexnet")
        else pytest.param(name, marks=pytest.mark.slow)
        for name in inception_tf.list_models()
    ],
)
def test_every_network_has_a_last_feature_map_at_any_size(name):
    keras.utils.set_random_seed(0)
    model = inception_tf.create_model(name, classes=8, width_multiplier=0.05)
    size = model.input_shape[1]
    endpoint = last_feature_map(model)
    assert endpoint not in ("global_pool", "PreLogits", "Logits")
    places = inception_tf.endpoints(model)[endpoint].shape[1]
    assert 1 < places < size / 8
    # At the last block and at one in the middle: a heat for every class, of which some speak for what is there.
    image = np.random.default_rng(0).uniform(-1, 1, (1, size, size, 3)).astype(np.float32)
    maps = [n for n, tensor in inception_tf.endpoints(model).items() if len(tensor.shape) == 4]
    for shown in (None, maps[len(maps) // 2]):
        heat = grad_cam(model, np.repeat(image, 8, 0), list(range(8)), shown)
        assert heat.shape == (8, size, size)
        assert np.isfinite(heat).all()
        assert set(heat.max((1, 2)).round(5)) <= {0, 1}
        assert heat.max() == pytest.approx(1)


@pytest.mark.usefixtures("all_short")
@pytest.mark.parametrize(
    ("endpoint", "sentence"),
    [("Mixed_4bz", "did you mean 'Mixed_4b'?"), ("Logits", "has no height and width to show")],
)
def test_what_cannot_be_shown_is_one_sentence(endpoint, sentence):
    model = inception_tf.GoogLeNet(classes=3, width_multiplier=0.05, input_shape=(32, 32, 3))
    with pytest.raises(UserError) as error:
        grad_cam(model, np.zeros((1, 32, 32, 3), np.float32), endpoint=endpoint)
    assert sentence in str(error.value)
    headless = inception_tf.GoogLeNet(include_top=False, width_multiplier=0.05)
    with pytest.raises(UserError, match="has no classifier, and so no class to explain"):
        grad_cam(headless, np.zeros((1, 64, 64, 3), np.float32))
