# SPDX-License-Identifier: Apache-2.0
"""Equivalent faster models: the same probabilities from fewer layers."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import inception_tf
from inception_tf import models
from inception_tf.inference.optimize import fold_batch_norm, optimize_for_inference

pytestmark = pytest.mark.usefixtures("short_networks")
SHORTENED = (
    *("googlenet", "inception_v1", "inception", "bn_inception", "inception_v2", "inception_v3"),
    *("inception_v4", "inception_resnet_v1", "inception_resnet_v2"),
)

NETWORKS = {
    "inception_v1": {},
    "bn_inception": {"hidden_batch_norm": True},
    "inception_v2": {},
    "inception_v3": {"aux_logits": True},
    "inception_v4": {},
    "inception_resnet_v1": {},
    "inception_resnet_v2": {},
    "googlenet": {"batch_norm": True},
}

# Of the others the convolutions and normalizations are folded where they are optimized, below.
FOLDED = ("bn_inception", "inception_v3")

# {network: {switch: a value other than its default}}
SWITCHES = {
    "googlenet": {"batch_norm_scale": True, "batch_norm": True, "lrn": False},
    "inception_v1": {"batch_norm_scale": True, "torch_padding": True},
    "inception": {"lrn": True},
    "bn_inception": {"batch_norm_scale": True, "lrn": True, "hidden_batch_norm": True},
    "inception_v2": {"batch_norm_scale": True, "use_separable_conv": False},
    "inception_v3": {"batch_norm_scale": True, "count_padding": True, "last_pool": "max"},
    "inception_v4": {"batch_norm_scale": True},
    "inception_resnet_v1": {"batch_norm_scale": True, "paper": True, "residual_scale": 0.3},
    "inception_resnet_v2": {
        "batch_norm_scale": True,
        "output_stride": 8,
        "align_feature_maps": True,
        "residual_scale": 0.3,
    },
}


WITHOUT_BATCH_NORM = ("inception", "alexnet", "vgg16")


def trained(model):
    """`model` with statistics, shifts and scales as a training would leave them."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(rng.normal(0, 0.2, layer.moving_mean.shape))
            layer.moving_variance.assign(rng.uniform(0.3, 2, layer.moving_mean.shape))
            layer.beta.assign(rng.normal(0, 0.3, layer.moving_mean.shape))
            if layer.scale:
                layer.gamma.assign(rng.uniform(0.5, 1.5, layer.moving_mean.shape))
    return model


def norms(model):
    return [
        layer.name for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)
    ]


def images(side):
    return np.random.default_rng(1).uniform(-1, 1, (2, side, side, 3)).astype("float32")


@pytest.mark.parametrize(
    "name",
    [n if n in FOLDED else pytest.param(n, marks=pytest.mark.slow) for n in NETWORKS],
)
def test_a_folded_network_gives_the_same_without_batch_normalization(name):
    keras.utils.set_random_seed(0)
    side = 96
    arguments = {"input_shape": (side, side, 3), "width_multiplier": 0.25, "classes": 7}
    model = trained(inception_tf.create_model(name, **arguments, **NETWORKS[name]))
    before = {v.path: np.array(v) for v in model.weights}
    folded = fold_batch_norm(model)

    # The one before the logits follows a pooling: there is no kernel to take it up.
    assert norms(folded) == [norm for norm in norms(model) if norm == "Hidden_bn"]
    ours, theirs = (
        keras.tree.map_structure(np.asarray, m(images(side), training=False))
        for m in (folded, model)
    )
    keras.tree.map_structure(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5), ours, theirs
    )
    assert np.ptp(keras.tree.flatten(theirs)[0]) > 1e-3
    for v in model.weights:
        np.testing.assert_array_equal(before[v.path], v, err_msg=v.path)
    gone = set(norms(model)) - set(norms(folded))
    assert {layer.name for layer in folded.layers} == {layer.name for layer in model.layers} - gone


def test_scale_bias_and_dense_layers_are_taken_up():
    keras.utils.set_random_seed(0)
    image = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(4, 3, use_bias=True, bias_initializer="normal")(image)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.SeparableConv2D(5, 3, use_bias=False)(keras.layers.ReLU()(x))
    x = keras.layers.BatchNormalization(center=False)(x)
    x = keras.layers.Dense(3)(keras.layers.Flatten()(x))
    model = keras.Model(image, keras.layers.BatchNormalization(epsilon=0.1)(x))
    rng = np.random.default_rng(0)
    for v in model.weights:
        v.assign(rng.uniform(0.5, 1.5, v.shape))
    folded = fold_batch_norm(model)
    assert not norms(folded)
    np.testing.assert_allclose(folded(images(6)), model(images(6)), rtol=1e-4)


def test_what_has_no_layer_of_its_own_to_fold_into_is_kept():
    image = keras.Input((4, 4, 3))
    shared = keras.layers.Conv2D(3, 1, name="shared")
    read_twice = keras.layers.Conv2D(3, 1, name="read_twice")(image)
    active = keras.layers.Conv2D(3, 1, activation="relu")(image)
    outputs = [
        keras.layers.BatchNormalization()(shared(image)),
        keras.layers.BatchNormalization()(shared(image * 2)),
        keras.layers.BatchNormalization()(read_twice) + read_twice,
        keras.layers.BatchNormalization()(active),
        keras.layers.BatchNormalization(axis=1)(keras.layers.Conv2D(3, 1)(image)),
    ]
    model = trained(keras.Model(image, outputs))
    folded = fold_batch_norm(model)
    assert norms(folded) == norms(model)
    for ours, theirs in zip(folded(images(4)), model(images(4)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_convolution_that_is_an_output_itself_stays_as_it_is():
    image = keras.Input((4, 4, 3))
    x = keras.layers.Conv2D(3, 1)(image)
    model = trained(keras.Model(image, [x, keras.layers.BatchNormalization()(x)]))
    folded = fold_batch_norm(model)
    assert norms(folded) == norms(model)
    np.testing.assert_array_equal(folded(images(4))[0], model(images(4))[0])


VARIANTS = [
    *((name, {}) for name in models.NETWORKS),
    *SWITCHES.items(),  # all of a network's at once
    ("inception_resnet_v2", {"paper": True}),  # which has no other of slim's
]


# Hundreds of layers, each of them copied twice; without switches also what has the layers of another variant here
# (VGG-16 those of AlexNet), and Inception V3, whose outputs are compared with its projections below.
LONG = ("inception_v4", "inception_resnet_v1", "inception_resnet_v2")
ALIKE = ("inception", "inception_v1", "bn_inception", "inception_v3", "vgg16")
PLAIN = [(name, {}) for name in ALIKE]


@pytest.mark.parametrize(
    ("name", "switches"),
    [
        pytest.param(
            *variant,
            id="-".join((variant[0], *variant[1])),
            marks=[pytest.mark.slow] if variant[0] in LONG or variant in PLAIN else [],
        )
        for variant in VARIANTS
    ],
)
def test_an_optimized_network_gives_the_same(name, switches):
    """Merged last: what is wrong before is wrong in the merged one too."""
    keras.utils.set_random_seed(0)
    side = max(models.variant(name, **switches).min_size, 64)
    top = not models.variant(name, **switches).backbone_only
    arguments = {"input_shape": (side, side, 3), "width_multiplier": 0.25, "include_top": top}
    model = trained(inception_tf.create_model(name, **arguments, **switches))
    theirs = np.asarray(model(images(side), training=False))
    optimized = optimize_for_inference(model, merge=True)
    ours = np.asarray(optimized(images(side), training=False))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 if top else 1e-3)
    if name in WITHOUT_BATCH_NORM:  # nothing to fold; Xavier's probabilities are near 1 / 1000
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    assert np.ptp(theirs) > (1e-6 if name in WITHOUT_BATCH_NORM else 1e-4)


def assert_alike(optimized, model, side):
    ours, theirs = (np.asarray(m(images(side), training=False)) for m in (optimized, model))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    assert np.ptp(theirs) > 1e-4


def test_every_switch_is_optimized():
    known = {(name, switch) for name in models.NETWORKS for switch in models.switches(name)}
    refused = {(name, "batch_norm_scale") for name in ("inception", "alexnet", "vgg16")}
    # It changes the values of the first weights alone.
    known = {(name, switch) for name, switch in known if switch != "initial_deviation"}
    assert {(name, switch) for name, switches in VARIANTS for switch in switches} == known - refused


def kinds(model):
    return [type(layer).__name__ for layer in model.layers]


def test_projections_come_before_average_pools_and_activations_lie_in_convolutions():
    arguments = {"input_shape": (96, 96, 3), "width_multiplier": 0.25}
    model = trained(inception_tf.create_model("inception_v3", **arguments))
    optimized = optimize_for_inference(model)
    assert "BatchNormalization" not in kinds(optimized)
    # Each block of one stride projects a pooled copy of its input: only there an activation follows a pool.
    blocks = kinds(model).count("AveragePooling2D")
    assert kinds(optimized).count("Activation") == blocks + 1
    pool = optimized.get_layer("Mixed_5b_b3_0_pool")
    assert pool.input._keras_history.operation.name == "Mixed_5b_b3_1_conv"
    assert pool.input.shape[-1] == model.get_layer("Mixed_5b_b3_1_conv").filters

    merged = optimize_for_inference(model, merge=True)
    one = merged.get_layer("Mixed_5b_b0_0_conv_merged")
    together = ("Mixed_5b_b0_0_conv", "Mixed_5b_b1_0_conv", "Mixed_5b_b2_0_conv")
    assert one.filters == sum(model.get_layer(name).filters for name in together)
    assert_alike(merged, model, 96)


def test_the_scale_of_a_residual_lies_in_its_convolution():
    arguments = {"input_shape": (96, 96, 3), "width_multiplier": 0.1}
    model = trained(inception_tf.create_model("inception_resnet_v2", **arguments))
    assert "Rescaling" in kinds(model)
    optimized = optimize_for_inference(model)
    assert not {"Rescaling", "BatchNormalization"} & set(kinds(optimized))
    assert_alike(optimized, model, 96)


def test_a_pool_that_others_read_too_and_one_with_a_stride_stay_where_they_are():
    image = keras.Input((8, 8, 6))
    pools = [keras.layers.AveragePooling2D(3, stride, "same")(image) for stride in (1, 2)]
    convs = [keras.layers.Conv2D(2, 1, name=f"conv{i}")(pool) for i, pool in enumerate(pools)]
    model = keras.Model(image, [*convs, pools[0]])
    optimized = optimize_for_inference(model)
    for name in ("conv0", "conv1"):
        assert optimized.get_layer(name).input.shape[-1] == 6
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 6)).astype("float32")
    for ours, theirs in zip(optimized(x), model(x), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def block(name, side=8, channels=3):
    """Convolution, normalization and activation as a model of its own, trained."""
    keras.utils.set_random_seed(3)
    image = keras.Input((side, side, channels))
    x = keras.layers.Conv2D(4, 3, padding="same", use_bias=False, name="conv")(image)
    x = keras.layers.BatchNormalization(name="bn")(x)
    return trained(keras.Model(image, keras.layers.Activation("relu", name="act")(x), name=name))


def head():
    return [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3, activation="softmax")]


def nested():
    image = keras.Input((8, 8, 3))
    x = block("base")(image * 0.5, training=False)
    for layer in head():
        x = layer(x)
    return keras.Model(image, x)


def nested_twice():
    first, second = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    base = block("base")
    x = keras.layers.Concatenate()([base(first), base(second), block("other")(first)])
    model = keras.Model([first, second], x)
    image = keras.Input((8, 8, 3))
    return keras.Model(image, keras.layers.GlobalMaxPooling2D()(model([image, image[:, ::-1]])))


SEQUENTIAL = {
    "sequential": lambda: keras.Sequential(
        [keras.Input((8, 8, 3)), *block("base").layers[1:], *head()]
    ),
    "sequential of a model": lambda: keras.Sequential(
        [keras.Input((8, 8, 3)), block("base"), *head()]
    ),
    "nested": nested,
    "sequential in a model": lambda: keras.Model(
        image := keras.Input((8, 8, 3)),
        keras.Sequential([block("base"), keras.Sequential(head())])(image),
    ),
    "nested twice": nested_twice,
}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("form", SEQUENTIAL)
def test_models_inside_a_model_are_optimized_too(form, precision):
    model = SEQUENTIAL[form]()
    optimized = optimize_for_inference(model, precision)
    # A convolution that is called twice keeps its normalization.
    assert kinds(optimized).count("BatchNormalization") == (form == "nested twice")
    assert not any(isinstance(layer, keras.Model) for layer in optimized.layers)
    convolutions = [x for x in optimized.layers if isinstance(x, keras.layers.Conv2D)]
    assert {layer.compute_dtype for layer in convolutions} == {precision}
    tolerance = 1e-5 if precision == "float32" else 2e-2
    np.testing.assert_allclose(optimized(images(8)), model(images(8)), atol=tolerance)
    if form == "nested twice":
        assert len(convolutions) == 2  # one of them called twice


@pytest.mark.parametrize(
    "name",
    [pytest.param("inception_v1", marks=pytest.mark.slow), "googlenet", "inception_resnet_v1"],
)
def test_a_network_as_the_base_of_a_classifier_is_optimized(name):
    base = trained(
        inception_tf.create_model(
            name, include_top=False, pooling="avg", input_shape=(96, 96, 3), width_multiplier=0.1
        )
    )
    image = keras.Input((96, 96, 3))
    model = keras.Model(image, keras.layers.Dense(3)(base(image, training=False)))
    optimized = optimize_for_inference(model)
    assert "BatchNormalization" not in kinds(optimized)
    np.testing.assert_allclose(optimized(images(96)), model(images(96)), rtol=1e-3, atol=1e-4)


def test_factors_of_lora_are_merged_into_the_kernels():
    model = nested()
    base, dense = model.layers[-3], model.layers[-1]
    for layer in (base.get_layer("conv"), dense):
        layer.enable_lora(2)
        rng = np.random.default_rng(5)
        for factor in (layer.lora_kernel_a, layer.lora_kernel_b):
            factor.assign(rng.normal(0, 0.5, factor.shape))
    optimized = optimize_for_inference(model)
    assert not any("lora" in v.path for v in optimized.weights)
    np.testing.assert_allclose(optimized(images(8)), model(images(8)), atol=1e-5)
    plain = nested()
    assert np.abs(optimized(images(8)) - plain(images(8))).max() > 0.01


class Standardized(keras.layers.Conv2D):
    """A convolution that computes something else than its kernel says."""

    def call(self, x):
        return super().call(x) / 2


def test_a_convolution_of_channels_first_and_a_subclass_keep_their_normalization():
    image = keras.Input((6, 4, 4))
    x = keras.layers.Conv2D(4, 1, data_format="channels_first", name="first")(image)
    y = Standardized(4, 1)(image)
    outputs = [keras.layers.BatchNormalization()(x), keras.layers.BatchNormalization()(y)]
    model = trained(keras.Model(image, outputs))
    for network in (optimize_for_inference(model, merge=True), fold_batch_norm(model)):
        assert len(norms(network)) == 2


class Subclass(keras.Model):
    def __init__(self):
        super().__init__(name="mine")
        self.base = block("base")

    def call(self, x):
        return self.base(x)


def quantized():
    model = nested()
    model.layers[-1].quantize("int8")
    return model


def subclass():
    model = Subclass()
    model(images(8))
    return model


def around(layer, shape):
    image = keras.Input(shape)
    return keras.Model(image, layer(image))


SUBCLASSED = "'mine' is a subclass of keras.Model with a call of its own"
REFUSED = {
    "quantized": (quantized, "is quantized to int8; optimize the model before quantize()"),
    "subclass": (subclass, SUBCLASSED),
    "subclass inside": (lambda: around(Subclass(), (8, 8, 3)), SUBCLASSED),
    "wrapper": (
        lambda: around(keras.layers.TimeDistributed(block("base"), name="frames"), (2, 8, 8, 3)),
        r"layer 'frames' \(TimeDistributed\) holds 5 layers that cannot be reached",
    ),
    "not built": (
        lambda: keras.Sequential(head(), name="open"),
        "'open' is not built; call it on an image",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_optimized_is_refused_in_a_sentence(kind):
    make, sentence = REFUSED[kind]
    model = make()
    for function in (optimize_for_inference, fold_batch_norm):
        with pytest.raises(inception_tf.UserError, match=sentence):
            function(model)


def test_depthwise_and_transposed_convolutions_take_up_normalizations():
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 4))
    x = keras.layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same")(image)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Conv2DTranspose(5, 3, strides=2, use_bias=False)(keras.layers.ReLU()(x))
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Conv2D(6, 3, groups=1, activation="relu")(x)
    model = trained(keras.Model(image, keras.layers.GlobalAveragePooling2D()(x)))
    optimized = optimize_for_inference(model)
    assert not norms(optimized)
    pixels = np.random.default_rng(1).normal(size=(2, 8, 8, 4)).astype("float32")
    np.testing.assert_allclose(optimized(pixels), model(pixels), rtol=1e-4, atol=1e-5)


def test_a_normalization_behind_zeros_or_before_a_convolution_is_kept():
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3)(image)
    x = keras.layers.ZeroPadding2D()(x)  # zeros that the normalization would move
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.ReLU()(x)
    x = keras.layers.Conv2D(4, 3, padding="same")(x)
    x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Conv2D(2, 3, padding="same")(x)
    model = trained(keras.Model(image, keras.layers.Flatten()(x)))
    optimized = optimize_for_inference(model)
    assert norms(optimized) == norms(model)
    np.testing.assert_allclose(optimized(images(8)), model(images(8)), rtol=1e-4, atol=1e-5)
