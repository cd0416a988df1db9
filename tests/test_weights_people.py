# SPDX-License-Identifier: Apache-2.0
"""The files that people have: trainers' checkpoints, replaced classifiers, whole Keras classifiers, files of our own."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import ramps
from torch_file import state_of, write

import inception_tf
from inception_tf import cli
from inception_tf.classifiers import open_classifier
from inception_tf.models import find_network, variant
from inception_tf.nn.network import build_model
from inception_tf.weights import convert as convert_module
from inception_tf.weights.convert import convert
from inception_tf.weights.formats.keras_h5 import _classifier_layer
from inception_tf.weights.formats.torch_checkpoint import find_state_dict
from inception_tf.weights.names.keras_applications import keras_names
from inception_tf.weights.names.torch import torch_names
from inception_tf.weights.recognize import describe_file, has_layers_of, variants_with

pytestmark = pytest.mark.usefixtures("short_networks")
SHORTENED = ("inception_v1", "inception_v3")
NARROW = {"width_multiplier": 0.1, "input_shape": (32, 32, 3)}


def v1(classes=5, **arguments) -> keras.Model:
    made = inception_tf.InceptionV1(classes=classes, **NARROW, **arguments)
    ramps.fill(made)
    return made


@pytest.fixture
def narrow(monkeypatch):
    """`build_model` of `convert` at the width of the files here."""
    monkeypatch.setattr(
        convert_module,
        "build_model",
        lambda table, **options: build_model(table, **NARROW, **options),
    )


# Checkpoints of torch's trainers

WEIGHTS = {"fc.weight": np.ones((3, 4)), "fc.bias": np.zeros(3)}
AVERAGES = {name: array + 1 for name, array in WEIGHTS.items()}


def wrapped(prefix, arrays=WEIGHTS):
    return {prefix + name: array for name, array in arrays.items()}


def found(content, ema=False):
    return find_state_dict(content, "x.pth", lambda one: isinstance(one, np.ndarray), ema=ema)


@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        {"state_dict": WEIGHTS, "epoch": 3, "optimizer": {"state": {}}},
        {"model": WEIGHTS, "args": object(), "lr": 0.1},
        {"model_state_dict": wrapped("module.")},
        wrapped("module."),
        wrapped("model."),
        {"state_dict": wrapped("model.")},
        {"model": wrapped("_orig_mod.module.")},
        {"model_ema": {"n_averaged": np.array(7), **wrapped("module.")}},
    ],
    ids=lambda content: "+".join(list(content)[:2]),
)
def test_the_state_dict_of_a_checkpoint_is_found_and_unwrapped(content):
    state = found(content)
    assert state.tensors.keys() == WEIGHTS.keys()
    inner = {"state_dict", "model", "model_state_dict", "model_ema"} & content.keys()
    expected = set(content) - inner if inner else set()
    assert set(state.skipped) - {"n_averaged"} == expected  # each is reported


def test_moving_averages_are_taken_when_asked_for_and_named_otherwise():
    content = {"state_dict": WEIGHTS, "state_dict_ema": wrapped("module.", AVERAGES)}
    raw, averages = found(content), found(content, ema=True)
    assert raw.tensors["fc.bias"].sum() == 0
    assert raw.notes == ("read the raw weights, not the moving averages ('state_dict_ema'; ema)",)
    assert averages.tensors["fc.bias"].sum() == 3
    assert averages.notes[0] == "read the moving averages ('state_dict_ema'), not the raw weights"
    with pytest.raises(inception_tf.UserError, match=r"'x.pth' has no moving averages; omit ema"):
        found({"model": WEIGHTS}, ema=True)


@pytest.mark.parametrize("content", [{"epoch": 3, "lr": 0.1}, {}, [1, 2], {"model": object()}])
def test_a_checkpoint_without_tensors_says_what_it_has(content):
    with pytest.raises(inception_tf.UserError, match=r"'x.pth' has no state dict of tensors, but"):
        found(content)


def test_some_names_with_a_prefix_are_left_as_they_are():
    mixed = {"module.fc.weight": np.ones(2), "criterion.weight": np.ones(2)}
    assert found(mixed).tensors.keys() == mixed.keys()


@pytest.mark.slow
def test_torch_reads_what_its_trainers_write(tmp_path):
    torch = pytest.importorskip("torch")
    import argparse

    from inception_tf.weights.formats.state_dict import read_state_dict
    from inception_tf.weights.formats.stored import EVERYTHING

    state = {name: torch.from_numpy(array) for name, array in wrapped("module.").items()}
    content = {
        "model": state,
        "args": argparse.Namespace(lr=0.1),
        "best": np.float64(0.5),
        "epoch": 3,
    }
    torch.save(content, tmp_path / "checkpoint.pth")
    assert read_state_dict(str(tmp_path / "checkpoint.pth"), EVERYTHING)["fc.weight"].sum() == 12


# Classifiers of others


def test_a_replaced_classifier_is_named_and_skipped_on_demand(tmp_path, narrow):
    state = state_of(v1(torch_padding=True), "inception_v1", torch_padding=True)
    state["fc.1.weight"], state["fc.1.bias"] = state.pop("fc.weight"), state.pop("fc.bias")
    write(tmp_path / "tuned.safetensors", state)
    with pytest.raises(inception_tf.UserError, match=r"another structure.*--skip-head"):
        convert("inception_v1", "torchvision", tmp_path / "tuned.safetensors")
    done = convert("inception_v1", "torchvision", tmp_path / "tuned.safetensors", skip_head=True)
    assert set(done.report.unused) == {"fc.1.weight", "fc.1.bias"}
    assert done.report.missing == ()


def test_cadenes_classifier_is_found_under_its_name():
    network = find_network("inception_resnet_v2")
    assert torch_names(network)["Logits/kernel"] == "classif.weight"
    theirs = torch_names(
        network, {"last_linear.weight", "last_linear.bias", "conv2d_1a.conv.weight"}
    )
    assert theirs["Logits/kernel"] == "last_linear.weight"
    v3 = torch_names(find_network("inception_v3"), {"last_linear.weight"})
    assert v3["Logits/bias"] == "last_linear.bias"


def keras_config(*layers) -> str:
    named = [
        {"class_name": kind, "config": {"name": name, "activation": activation}}
        for kind, name, activation in layers
    ]
    return json.dumps({"config": {"layers": named}})


POOL, DENSE = ("GlobalAveragePooling2D", "pool", None), ("Dense", "mine", "softmax")


@pytest.mark.parametrize(
    ("layers", "head"),
    [
        ((("Functional", "inception_v3", None), POOL, DENSE), "mine"),
        ((POOL, ("Dropout", "drop", None), DENSE), "mine"),
        ((POOL, ("Dense", "mine", "linear"), ("Activation", "act", "softmax")), "mine"),
        ((POOL, ("Dense", "hidden", "relu"), DENSE), ""),
        ((("GlobalMaxPooling2D", "pool", None), DENSE), ""),
        ((("Flatten", "flat", None), DENSE), ""),
        ((POOL, ("Dense", "mine", "sigmoid")), ""),
        ((POOL,), ""),
        ((), ""),
    ],
)
def test_a_keras_classifier_is_ours_only_if_it_computes_the_same(layers, head):
    assert _classifier_layer(keras_config(*layers)) == head


def test_what_is_left_of_a_complete_keras_backbone_is_a_classifier():
    network = find_network("inception_v3")
    count = sum(path.endswith("_conv/kernel") for path in keras_names(network, _numbered(200)))
    paths = [*_numbered(count), "dense_1/kernel", "dense_1/bias"]
    assert keras_names(network, paths)["Logits/dense_1/kernel"] == "dense_1/kernel"
    fewer = [*_numbered(count - 1), "dense_1/kernel"]  # another network
    assert "Logits/dense_1/kernel" not in keras_names(network, fewer)


def _numbered(count):
    names = [f"{stem}_{n}" for stem in ("conv2d", "batch_normalization") for n in range(count)]
    return [f"{name}/kernel" if name.startswith("conv") else f"{name}/beta" for name in names]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["nested", "flat"])
def test_keras_2s_file_of_a_whole_classifier_gives_its_predictions(
    whole_networks, form, tmp_path, recwarn
):
    tf_keras = pytest.importorskip("tf_keras")
    side = 75
    base = tf_keras.applications.InceptionV3(
        include_top=False, weights=None, input_shape=(side, side, 3)
    )
    pool, dense = tf_keras.layers.GlobalAveragePooling2D(), tf_keras.layers.Dense(5, "softmax")
    theirs = tf_keras.Sequential([base, pool, dense])
    if form == "flat":
        theirs = tf_keras.Model(base.input, dense(pool(base.output)))
    theirs.set_weights([ramps.weight(w.name, w.shape) for w in theirs.weights])
    theirs.save(tmp_path / "tuned.h5")
    done = convert("inception_v3", "keras", tmp_path / "tuned.h5")
    assert done.arguments == {"classes": 5}
    ours = inception_tf.InceptionV3(classes=5, input_shape=(side, side, 3))
    ours.set_weights(done.model.get_weights())
    images = ramps.images(2, side, side, 3)
    np.testing.assert_allclose(ours(images), theirs(images), atol=1e-5)


# Other classes


def test_other_classes_take_the_backbone_and_a_warning_says_that_the_classifier_is_new(tmp_path):
    path = tmp_path / "five.weights.h5"
    five = v1()
    five.save_weights(path)
    with pytest.warns(
        UserWarning,
        match="the classifier is new, with random weights: .* 5 classes, and the model 12",
    ):
        twelve = inception_tf.create_model("inception_v1", classes=12, weights=path, **NARROW)
    layer = "Mixed_5c_b0_0_conv"
    np.testing.assert_array_equal(twelve.get_layer(layer).kernel, five.get_layer(layer).kernel)
    # Loading itself stays strict.
    with pytest.raises(inception_tf.UserError, match="has 5 classes in the file and 12"):
        inception_tf.load_weights(twelve, path)


def test_a_file_without_a_classifier_gives_its_backbone(tmp_path):
    path = tmp_path / "backbone.weights.h5"
    backbone = inception_tf.InceptionV1(include_top=False, **NARROW)
    backbone.save_weights(path)
    with pytest.warns(UserWarning, match="the classifier is new.*the file has none that fits"):
        inception_tf.create_model("inception_v1", classes=3, weights=path, **NARROW)


def test_a_model_of_1000_takes_all_classes_but_the_background(tmp_path, recwarn):
    path = tmp_path / "slim.weights.h5"
    whole = v1(classes=1001)
    whole.save_weights(path)
    model = inception_tf.create_model("inception_v1", weights=path, **NARROW)
    bias = np.asarray(whole.get_layer("Logits").bias)
    np.testing.assert_array_equal(model.get_layer("Logits").bias, bias[1:])
    assert not [one for one in recwarn if "classifier" in str(one.message)]


# Files of our own


@pytest.mark.parametrize("ending", [".weights.h5", ".keras"])
def test_a_file_of_our_own_says_its_network_and_its_pools(tmp_path, ending):
    made = inception_tf.InceptionV3(
        classes=5,
        width_multiplier=0.1,
        input_shape=(75, 75, 3),
        last_pool="max",
        count_padding=True,
    )
    path = tmp_path / f"v3{ending}"
    made.save_weights(path) if ending == ".weights.h5" else made.save(path)
    found = describe_file(str(path))
    assert (found.network, found.classes) == ("inception_v3", 5)
    assert found.switches == {"last_pool": "max", "count_padding": True}
    assert has_layers_of(made, variant("inception_v3", **found.switches))
    assert not has_layers_of(made, find_network("inception_v3"))


def test_every_network_is_told_from_the_others_by_its_layers(all_short):
    from inception_tf.models import NETWORKS
    from inception_tf.weights.recognize import _expected

    for name in NETWORKS:
        layers = _expected(find_network(name))
        assert variants_with(layers, name)[0] == {}, name


def test_evaluate_and_convert_need_not_be_told_what_a_converted_file_is(tmp_path, narrow, capsys):
    state = state_of(v1(torch_padding=True), "inception_v1", torch_padding=True)
    write(tmp_path / "googlenet.safetensors", state)
    words = ["convert", "--model", "inception_v1", str(tmp_path / "googlenet.safetensors")]
    assert cli.main([*words, str(tmp_path / "mine.weights.h5")]) == 0
    found = describe_file(str(tmp_path / "mine.weights.h5"))
    assert found.network == "inception_v1"
    assert found.switches == {"torch_padding": True, "batch_norm_scale": True}
    assert found.preprocessing.shorter == 256
    backbone = str(tmp_path / "backbone.weights.h5")
    assert cli.main(["convert", "--skip-head", str(tmp_path / "mine.weights.h5"), backbone]) == 0
    assert describe_file(backbone).preprocessing.shorter == 256
    with pytest.raises(inception_tf.UserError, match="is a file of inception_v1, not of vgg16"):
        open_classifier(str(tmp_path / "mine.weights.h5"), "vgg16")


def test_a_file_of_no_network_is_refused(tmp_path):
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save_weights(
        tmp_path / "other.weights.h5"
    )
    with pytest.raises(inception_tf.UserError, match="is of no network of this package, by its"):
        describe_file(str(tmp_path / "other.weights.h5"))
