# SPDX-License-Identifier: Apache-2.0
"""`create_model` and the builders: what each argument does, and one sentence for each mistake."""

from __future__ import annotations

import inspect
import re

import keras
import numpy as np
import pytest
import ramps

import inception_tf
from inception_tf import applications
from inception_tf.arch import spec
from inception_tf.models import NETWORKS, SCALE, find_network, switches

SIDE = 75


def build(name="inception_v3", **arguments):
    side = max(SIDE, find_network(name).min_size)
    defaults = {"input_shape": (side, side, 3), "classes": 5, "width_multiplier": 0.1}
    return inception_tf.create_model(name, **defaults | arguments)


def layers(model, kind):
    return [layer for layer in model.layers if isinstance(layer, kind)]


# What the arguments do


@pytest.mark.usefixtures("all_short")
def test_model_takes_another_name():
    assert (
        inception_tf.InceptionV1(name="flowers", include_top=False, width_multiplier=0.1).name
        == "flowers"
    )


def test_builder_has_the_signature_of_keras_applications():
    theirs = inspect.signature(keras.applications.InceptionV3).parameters.values()
    ours = list(inspect.signature(inception_tf.InceptionV3).parameters.values())
    assert [p.name for p in ours[: len(theirs)]] == [p.name for p in theirs]
    # Released weights are a file here, so `weights` starts as None.
    assert {p.name: p.default for p in ours[: len(theirs)]} == {
        p.name: p.default for p in theirs
    } | {"weights": None}
    assert all(p.kind is p.KEYWORD_ONLY for p in ours[len(theirs) :])


@pytest.mark.parametrize("name", NETWORKS)
def test_every_builder_is_written_out_and_states_its_switches(name):
    """An editor shows what stands in the source: nothing is put together when the module is imported."""
    builder = applications.BUILDERS[name]
    own = {switch: value for switch, value in switches(name).items() if switch != SCALE}
    common = list(inspect.signature(inception_tf.InceptionV4).parameters)
    assert list(inspect.signature(builder).parameters) == [*common, *own]
    assert "__signature__" not in vars(builder)
    assert builder.__module__ == "inception_tf.applications"
    assert inspect.signature(builder).parameters["name"].default == name
    words = " ".join(builder.__doc__.split())
    for section in ("Args:", "Returns:", "Raises:"):
        assert section in words
    for switch, default in own.items():
        text = words.partition(f" {switch}: ")[2]
        stated = text.partition("Default: ")[2]
        assert stated.startswith(f'"{default}"' if isinstance(default, str) else str(default))


@pytest.mark.usefixtures("all_short")
def test_builder_equals_create_model():
    arguments = {"input_shape": (64, 64, 3), "classes": 5, "width_multiplier": 0.1}
    ours = inception_tf.InceptionV1(**arguments)
    theirs = inception_tf.create_model("inception_v1", **arguments)
    assert ours.get_config() == theirs.get_config()


@pytest.mark.usefixtures("all_short")
def test_input_tensor_is_built_on():
    image = keras.Input((SIDE, SIDE, 1))
    model = build(input_tensor=keras.layers.Concatenate()([image] * 3), input_shape=None)
    assert model(ramps.images(1, SIDE, SIDE, 1)).shape == (1, 5)


@pytest.mark.usefixtures("all_short")
def test_auxiliary_classifier_adds_an_output_and_changes_none():
    plain, both = build(), build(aux_logits=True)
    ramps.fill(plain)
    ramps.fill(both)
    images = ramps.images(2, SIDE, SIDE, 3)
    found = both(images)
    assert {key: value.shape for key, value in found.items()} == {
        "predictions": (2, 5),
        "aux_predictions": (2, 5),
    }
    np.testing.assert_allclose(found["predictions"], plain(images), rtol=1e-5)
    np.testing.assert_allclose(np.sum(found["aux_predictions"], axis=1), 1, rtol=1e-5)


def test_googlenet_has_two_auxiliary_outputs():
    model = build("googlenet", aux_logits=True)
    assert {key: x.shape for key, x in model.output.items()} == {
        "predictions": (None, 5),
        "aux_predictions_1": (None, 5),
        "aux_predictions_2": (None, 5),
    }
    # Szegedy et al. 2014, section 5: 70 % dropped; both losses count 0.3.
    assert model.get_layer("AuxLogits_1_dropout").rate == 0.7
    assert [aux.loss_weight for aux in find_network("googlenet").auxiliaries] == [0.3, 0.3]


@pytest.mark.usefixtures("all_short")
def test_max_pooling_takes_the_maximum_of_the_last_grid():
    grid, pooled = (build("inception_v1", include_top=False, pooling=p) for p in (None, "max"))
    ramps.fill(grid)
    ramps.fill(pooled)
    images = ramps.images(2, SIDE, SIDE, 3)
    np.testing.assert_allclose(pooled(images), np.max(grid(images), axis=(1, 2)), rtol=1e-5)


@pytest.mark.usefixtures("all_short")
def test_classifier_without_activation_gives_logits():
    probabilities, logits = build("inception_v1"), build("inception_v1", classifier_activation=None)
    ramps.fill(probabilities)
    ramps.fill(logits)
    images = ramps.images(2, SIDE, SIDE, 3)
    exponents = np.exp(logits(images))
    np.testing.assert_allclose(
        probabilities(images),
        exponents / exponents.sum(axis=1, keepdims=True),
        rtol=1e-4,
    )


@pytest.mark.usefixtures("all_short")
def test_weight_decay_is_half_the_sum_of_squares_of_every_kernel():
    model = build(weight_decay=4e-5, aux_logits=True)
    kernels = [w.numpy() for w in model.weights if w.name == "kernel"]
    expected = 4e-5 * sum(float(np.square(kernel).sum()) for kernel in kernels) / 2
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.usefixtures("all_short")
def test_without_weight_decay_there_is_no_loss():
    assert build("inception_v1").losses == []


@pytest.mark.usefixtures("all_short")
@pytest.mark.parametrize(
    ("name", "multiplier"), [*((name, 0.33) for name in NETWORKS), ("inception_v3", 1.5)]
)
def test_width_multiplier_follows_slims_depth_rule(name, multiplier):
    model = build(name, width_multiplier=multiplier)
    places = [place for step in find_network(name).backbone for place in spec.iter_layers(*step)]
    kinds = spec.Conv | spec.Separable  # `up` has the width of what it is added to
    wanted = {p.name: p.step.filters for p in places if isinstance(p.step, kinds)}
    wanted = {name: filters for name, filters in wanted.items() if filters}
    assert {name: model.get_layer(f"{name}_conv").filters for name in wanted} == {
        # tf_slim/nets/inception_v3.py: depth = lambda d: max(int(d * depth_multiplier), min_depth)
        name: max(int(filters * multiplier), 16)
        for name, filters in wanted.items()
    }


@pytest.mark.usefixtures("all_short")
def test_batch_norm_dropout_and_activation_reach_their_layers():
    model = build(
        "inception_v1",
        batch_norm_momentum=0.9997,
        batch_norm_epsilon=0.01,
        dropout=0.4,
        activation="gelu",
    )
    norms = layers(model, keras.layers.BatchNormalization)
    assert {(n.momentum, n.epsilon, n.scale) for n in norms} == {(0.9997, 0.01, False)}
    assert model.get_layer("PreLogits").rate == 0.4
    activations = layers(model, keras.layers.Activation)
    assert {a.activation.__name__ for a in activations} == {"gelu", "softmax"}


@pytest.mark.usefixtures("all_short")
def test_bfloat16_policy_gives_float32_probabilities():
    model = build("inception_v1", dtype="mixed_bfloat16")
    assert model.get_layer("Mixed_5c").output.dtype == "bfloat16"
    assert model(ramps.images(1, SIDE, SIDE, 3)).dtype == "float32"


# Mistakes


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        (
            "inceptoin_v3",
            {},
            f"unknown network 'inceptoin_v3'; known: {', '.join(NETWORKS)}; did you mean 'inception_v3'?",
        ),
        ("inception_v1", {"pooling": "mean"}, "pooling must be None, 'avg' or 'max', got 'mean'"),
        ("inception_v1", {"classes": 0}, "classes must be an integer of at least 1, got 0"),
        ("inception_v1", {"classes": True}, "classes must be an integer of at least 1, got True"),
        ("inception_v1", {"classes": 2.5}, "classes must be an integer of at least 1, got 2.5"),
        ("inception_v1", {"dropout": 1.0}, "dropout must be in [0, 1), got 1.0"),
        (
            "inception_v1",
            {"aux_logits": True},
            "inception_v1 has no auxiliary classifier; omit aux_logits, or use googlenet or"
            " inception_v3 or inception_v4 or inception_resnet_v2",
        ),
        (
            "inception_v3",
            {"aux_logits": True, "include_top": False},
            "aux_logits needs include_top=True: the auxiliary classifier is part of the top",
        ),
        (
            "inception_v3",
            {"input_shape": (299, 299)},
            "input_shape must be (height, width, channels) with a known number of channels, got (299, 299)",
        ),
        (
            "inception_v3",
            {"input_shape": (299, 299, None)},
            "input_shape must be (height, width, channels) with a known number of channels,"
            " got (299, 299, None)",
        ),
        (
            "inception_v3",
            {"input_tensor": np.zeros((1, 75, 75, 3))},
            "input_tensor must be a Keras tensor, such as keras.Input(shape=...)",
        ),
    ],
)
def test_mistake_is_answered_in_one_sentence(name, arguments, sentence):
    with pytest.raises(inception_tf.UserError, match=f"^{re.escape(sentence)}$"):
        inception_tf.create_model(name, **arguments)


@pytest.mark.parametrize(
    ("argument", "value", "sentence"),
    [
        *(
            (argument, value, f"{argument} must be {allowed}, got {value!r}")
            for argument, allowed, values in (
                ("width_multiplier", "above 0", (-1, 0, float("nan"), "wide", True)),
                ("batch_norm_momentum", "in [0, 1)", (5, -0.1, 1)),
                ("batch_norm_epsilon", "above 0", (-1, 0)),
                ("initializer_gain", "above 0", (-3, float("inf"))),
                ("weight_decay", "at least 0", (-1,)),
            )
            for value in values
        ),
        ("activation", "rel", "unknown activation 'rel'; known: celu, elu, "),
        ("activation", 3, "activation must be a name, a function or None, got 3"),
        ("classifier_activation", "soft", "unknown classifier_activation 'soft'; known: "),
        ("dtype", "bf16", "unknown dtype 'bf16'; known: float32, mixed_bfloat16"),
        (
            "weights",
            "imagnet",
            "unknown weights of inception_v1 'imagnet'; known: imagenet, slim_2016, torchvision, or the"
            " path of a weights file; did you mean 'imagenet'?",
        ),
    ],
)
def test_an_argument_out_of_its_range_is_answered_before_anything_is_built(
    argument, value, sentence
):
    with pytest.raises(inception_tf.UserError) as error:
        inception_tf.create_model("inception_v1", **{argument: value})
    assert str(error.value).startswith(sentence)


@pytest.mark.parametrize("name", ["a/b", "", 3])
def test_a_models_name_that_keras_refuses_is_one_sentence(name):
    with pytest.raises(inception_tf.UserError, match="^name must be a string without '/', got "):
        inception_tf.InceptionV1(name=name)


def test_unknown_argument_is_answered_with_the_nearest():
    with pytest.raises(
        inception_tf.UserError,
        match=r"^unknown argument of inception_v3 'clases'; known: include_top, .*; did you mean 'classes'\?$",
    ):
        inception_tf.create_model("inception_v3", clases=10)


def test_user_error_is_a_value_error():
    assert issubclass(inception_tf.UserError, ValueError)


def test_model_of_another_builder_has_no_endpoints():
    image = keras.Input((4,))
    other = keras.Model(image, keras.layers.Dense(2)(image), name="mine")
    with pytest.raises(
        inception_tf.UserError,
        match=r"^model 'mine' has no endpoints: it was not built by inception_tf.create_model$",
    ):
        inception_tf.endpoints(other)


@pytest.mark.usefixtures("all_short")
def test_initial_weights_are_slims():
    """tf_slim/nets/inception_v1.py and inception_v3.py: stddev 0.01 in V1, He's rule in V3, its own in the auxiliary head."""

    def initializer(model, name):
        return model.get_layer(name).kernel_initializer

    v1, v3 = build("inception_v1"), build("inception_v3", aux_logits=True)
    assert initializer(v1, "Mixed_5c_b1_1_conv").stddev == 0.01
    assert isinstance(initializer(v1, "Logits"), keras.initializers.HeNormal)
    assert isinstance(initializer(v3, "Mixed_5b_b1_1_conv"), keras.initializers.HeNormal)
    assert initializer(v3, "AuxLogits_Conv2d_2a_5x5_conv").stddev == 0.01
    assert initializer(v3, "AuxLogits").stddev == 0.001


def test_initial_weights_of_v2_are_slims():
    # tf_slim/nets/inception_v2.py: 20 reductions before a 3x3, 8 projections and Conv2d_2b_1x1.
    places = [
        place for step in find_network("inception_v2").backbone for place in spec.iter_layers(*step)
    ]
    found = [p.step.stddev for p in places if getattr(p.step, "stddev", None)]
    assert {stddev: found.count(stddev) for stddev in found} == {1.0: 1, 0.1: 9, 0.09: 20}
