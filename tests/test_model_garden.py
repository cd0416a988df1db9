# SPDX-License-Identifier: Apache-2.0
"""The Model Garden's distortions: from seeds alone, in range, and its own module left as it was."""

from __future__ import annotations

import functools
import hashlib
import sys

import forked
import numpy as np
import pytest
import tensorflow as tf

from inception_tf.config import AUTOAUGMENT_POLICIES
from inception_tf.data.augmentation import model_garden
from inception_tf.errors import UserError

SIZE = 32
# Their operations are those of v0 and of RandAugment, too.
REPEATED = ("reduced_cifar10", "reduced_imagenet", "simple", "svhn")
# Made when they are asked for: the first one imports the Model Garden.
OF_AN_IMAGE = (
    (model_garden.RandAugment, 2, 9.0),
    (model_garden.RandomErasing, 1.0),
    *((model_garden.AutoAugment, policy) for policy in AUTOAUGMENT_POLICIES),
)
OF_A_BATCH = tuple(
    (model_garden.MixupAndCutmix, *pair) for pair in ((0.2, 0.0), (0.0, 1.0), (0.2, 1.0))
)
# What a second process computes, too: the first pixels of a stream in parallel, as a hash.
STREAM = f"""
import hashlib, os
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import tensorflow as tf
from inception_tf.data.augmentation import model_garden as garden

def stream_hash():
    image = tf.random.stateless_uniform(({SIZE}, {SIZE}, 3), (5, 6), 0, 255)
    each = (garden.RandAugment(1, 9.0), garden.AutoAugment("simple"), garden.RandomErasing(1.0))
    mix = garden.MixupAndCutmix(0.2, 1.0)
    def example(position):
        x = image
        for index, distortion in enumerate(each):
            x = distortion(x, tf.stack([position, index]))
        return x, tf.one_hot(position % 4, 4)
    def batch(number, examples):
        return mix(*examples, tf.stack([number, 99]))
    batches = (tf.data.Dataset.range(24).map(example, num_parallel_calls=4)
               .batch(8, drop_remainder=True).enumerate().map(batch, num_parallel_calls=2))
    digest = hashlib.sha256()
    for pair in batches:
        for tensor in pair:
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
"""


@pytest.fixture(scope="module")
def image():
    y, x, c = np.mgrid[0:SIZE, 0:SIZE, 0:3].astype(np.float32)
    return tf.constant(128 + 127 * np.sin(0.3 * x + c) * np.cos(0.2 * y))


@pytest.fixture(scope="module")
def batch():
    """Images of one colour each, in six steps of gray, and their one-hot labels."""
    levels = tf.range(6, dtype=tf.float32) * 50
    images = tf.tile(levels[:, None, None, None], (1, SIZE, SIZE, 3))
    return images, tf.one_hot([0, 1, 2, 3, 0, 1], 4)


def _operations(graph):
    """The kinds of all operations of a graph, those in branches and loops included."""
    definition = graph.as_graph_def()
    functions = definition.library.function
    return {n.op for n in definition.node} | {n.op for f in functions for n in f.node_def}


def _random(operations):
    return {name for name in operations if "Random" in name or "Multinomial" in name}


def _title(distortion):
    kind, *settings = distortion
    return "-".join((kind.__name__, *map(str, settings)))


@functools.cache
def _traced(made, *shapes):
    kind, *settings = made
    distortion = kind(*settings)
    specs = [tf.TensorSpec(shape) for shape in shapes]
    call = tf.function(lambda *arguments: distortion(*arguments), autograph=False)  # as `pipeline`
    return call.get_concrete_function(*specs, tf.TensorSpec((2,), tf.int64))


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(
            distortion,
            id=_title(distortion),
            marks=pytest.mark.slow if distortion[1] in REPEATED else (),
        )
        for distortion in OF_AN_IMAGE
    ],
)
def of_an_image(request):
    return _traced(request.param, (SIZE, SIZE, 3))


@pytest.fixture(scope="module", params=OF_A_BATCH, ids=_title)
def of_a_batch(request):
    return _traced(request.param, (None, SIZE, SIZE, 3), (None, 4))


def test_policies_that_are_slow_have_no_operation_of_their_own():
    official = pytest.importorskip("official.vision.ops.augment")

    def operations(policy):
        steps = getattr(official.AutoAugment, f"policy_{policy}")()
        return {operation for step in steps for operation, *_ in step}

    others = operations("v0") | set(official.RandAugment().available_ops)
    assert "v0" in set(AUTOAUGMENT_POLICIES) - set(REPEATED)
    for policy in REPEATED:
        assert operations(policy) <= others


def test_a_stateful_draw_is_noticed():
    graph = tf.function(lambda: tf.cond(tf.random.uniform(()) < 1, lambda: 1, lambda: 2))
    assert "RandomUniform" in _random(_operations(graph.get_concrete_function().graph))


def test_no_stateful_draw_is_left_in_a_distortion_of_an_image(of_an_image):
    draws = _random(_operations(of_an_image.graph))
    assert draws
    assert {name for name in draws if not name.startswith("Stateless")} == set()


def test_no_stateful_draw_is_left_in_a_distortion_of_a_batch(of_a_batch):
    draws = _random(_operations(of_a_batch.graph))
    assert draws
    assert {name for name in draws if not name.startswith("Stateless")} == set()


def test_a_seed_gives_its_pixels_again_and_another_seed_gives_others(of_an_image, image):
    def pixels(seed):
        return of_an_image(image, tf.constant([seed, 1], tf.int64)).numpy()

    results = [pixels(seed) for seed in range(8)]
    assert all(np.array_equal(result, pixels(seed)) for seed, result in enumerate(results))
    # A policy may leave an image alone, or gray it out: not each of the eight must differ.
    assert len({result.tobytes() for result in results}) > 3


def test_shape_type_and_range_stay(of_an_image, image):
    assert of_an_image.structured_outputs.shape == image.shape
    results = np.stack([of_an_image(image, tf.constant([s, 2], tf.int64)) for s in range(40)])
    assert results.dtype == np.float32
    assert results.min() >= 0
    assert results.max() <= 255
    assert np.isfinite(results).all()


def test_a_batch_and_its_labels_keep_their_shapes_and_labels_sum_to_one(of_a_batch, batch):
    for seed in range(10):
        images, labels = of_a_batch(*batch, tf.constant([seed, 3], tf.int64))
        assert images.shape == batch[0].shape
        assert labels.shape == batch[1].shape
        np.testing.assert_allclose(labels.numpy().sum(axis=1), 1, atol=1e-6)


@pytest.mark.slow
def test_the_same_stream_in_another_process_has_the_same_pixels():
    here = {}
    exec(STREAM, here)
    there = forked.run(["-c", STREAM + "print(stream_hash())"])
    assert there.stdout.strip() == here["stream_hash"]()
    assert len(there.stdout.strip()) == len(hashlib.sha256().hexdigest())


def test_fractions_are_rounded_where_the_garden_would_cut_them_off():
    # Six times in seven `simple` changes nothing much; whole numbers come out in any case.
    image = tf.fill((8, 8, 3), 99.7)
    results = {float(model_garden.AutoAugment("simple")(image, (s, 0))[0, 0, 0]) for s in range(6)}
    assert 100.0 in results
    assert 99.0 not in results


@pytest.mark.parametrize("size", [56, 224])
def test_a_move_is_the_same_share_of_a_small_image_as_of_a_large_one(size):
    policies = [[("TranslateX", 1.0, 4)]]  # 4 tenths of 250 pixels in 224
    columns = tf.tile(tf.range(size, dtype=tf.float32)[None, :, None], (size, 1, 3))
    moved = model_garden._distorted("AutoAugment", columns, (1, 2), "v0", policies)
    middle = size // 2
    assert abs(float(moved[0, middle, 0]) - middle) == pytest.approx(100 / 224 * size, abs=1)


def test_mixup_shares_labels_as_it_shares_pixels(batch):
    images, labels = batch
    mixed, shared = model_garden.MixupAndCutmix(1.0, 0.0)(images, labels, (1, 2))
    # Image i is 50 * i, its partner 50 * (5 - i): the share can be read off any pixel.
    level = tf.range(6, dtype=tf.float32) * 50
    kept = (mixed[:, 0, 0, 0] - level[::-1]) / (level - level[::-1])
    expected = kept[:, None] * labels + (1 - kept[:, None]) * labels[::-1]
    np.testing.assert_allclose(shared, expected, atol=1e-5)
    assert len(set(np.round(kept.numpy(), 4))) > 3  # a share of its own for each image


def test_cutmix_shares_labels_by_the_area_that_is_seen(batch):
    images, labels = batch
    areas = []
    for seed in range(20):
        mixed, shared = model_garden.MixupAndCutmix(0.0, 1.0)(images, labels, (seed, 2))
        kept = tf.reduce_mean(tf.cast(mixed == images, tf.float32), axis=(1, 2, 3))
        expected = kept[:, None] * labels + (1 - kept[:, None]) * labels[::-1]
        np.testing.assert_allclose(shared, expected, atol=1e-5)
        areas.extend(1 - kept.numpy())
        # What is pasted is one rectangle: as many pixels as its rows times its columns.
        changed = (mixed != images).numpy()[..., 0]
        rows, columns = changed.any(axis=2).sum(axis=1), changed.any(axis=1).sum(axis=1)
        assert (changed.sum(axis=(1, 2)) == rows * columns).all()
    assert 0.15 < np.mean(areas) < 0.45  # half by the uniform share, less what falls outside


def test_with_both_alphas_some_batches_are_mixed_up_and_others_cut(batch):
    mix = _traced((model_garden.MixupAndCutmix, 1.0, 1.0), (None, SIZE, SIZE, 3), (None, 4))
    levels = set(range(0, 300, 50))
    cut = [
        set(np.unique(mix(*batch, tf.constant([seed, 0], tf.int64))[0])) <= levels
        for seed in range(24)
    ]
    assert 4 < sum(cut) < 20


def test_erasing_leaves_all_but_one_rectangle_and_fills_it_with_noise():
    image = tf.fill((SIZE, SIZE, 3), 40.0)
    erase = _traced((model_garden.RandomErasing, 1.0), (SIZE, SIZE, 3))
    shares, noise = [], []
    for seed in range(60):
        pixels = erase(image, tf.constant([seed, 0], tf.int64)).numpy()
        erased = np.abs(pixels - 40).max(axis=-1) > 1e-3
        shares.append(erased.mean())
        noise.extend(pixels[erased])
    assert max(shares) < 0.4  # a third, of whole pixels
    assert 0.02 < np.mean(shares) < 0.25
    # ImageNet's mean is 114.5, its deviation 57.6, clipped at 0 and at 255.
    assert abs(np.mean(noise) - 114.5) < 5
    assert 50 < np.std(noise) < 60


def test_erasing_at_probability_zero_touches_nothing(image):
    # To and from the standardized scale float32 rounds.
    np.testing.assert_allclose(model_garden.RandomErasing(0.0)(image, (1, 2)), image, atol=1e-3)


def test_the_gardens_own_module_keeps_its_random_draws(image):
    from official.vision.ops import augment

    model_garden.RandAugment(1, 5.0)(image, (1, 2))
    assert augment.tf is tf
    assert augment is not model_garden._copy()


def test_policies_are_the_gardens():
    from official.vision.ops.augment import AutoAugment

    assert set(AUTOAUGMENT_POLICIES) <= set(AutoAugment().available_policies)


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: model_garden.RandAugment(2, 9.0), "data.auto_augment 'randaugment' needs"),
        (lambda: model_garden.AutoAugment("v0"), "data.auto_augment 'autoaugment' needs"),
        (lambda: model_garden.RandomErasing(0.5), "data.random_erasing needs"),
        (lambda: model_garden.MixupAndCutmix(0.2, 0.0), "data.mixup_alpha needs"),
        (lambda: model_garden.MixupAndCutmix(0.0, 1.0), "data.cutmix_alpha needs"),
    ],
)
def test_without_the_garden_the_extra_to_install_is_named(monkeypatch, build, sentence):
    model_garden._copy.cache_clear()
    monkeypatch.setitem(sys.modules, "official", None)
    monkeypatch.delitem(sys.modules, "official.vision.ops", raising=False)
    with pytest.raises(UserError) as error:
        build()
    assert str(error.value) == f"{sentence} tf-models-official: pip install 'inception_tf[train]'"
