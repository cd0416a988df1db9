# SPDX-License-Identifier: Apache-2.0
"""What a weights file says of itself: network, switches, width, activation and preprocessing, in each format alike."""

from __future__ import annotations

import json
import os
import zipfile

import keras
import numpy as np
import pytest
import ramps

import inception_tf
from inception_tf import cli
from inception_tf.classifiers import open_classifier, open_weights
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.models import find_network
from inception_tf.run_folder import Run
from inception_tf.weights.metadata import WeightsMetadata, read_metadata, write_metadata
from inception_tf.weights.recognize import recognize_file
from inception_tf.weights.width import width_of_kernels

pytestmark = pytest.mark.usefixtures("short_networks")

SIDE = 48
NARROW = {"width_multiplier": 0.3, "activation": "elu", "torch_padding": True}
ENDINGS = (".weights.h5", ".keras", ".h5")


def saved(folder, ending, metadata=None, **arguments):
    """A file of a narrow network, and its answers on two images."""
    arguments = {"input_shape": (SIDE, SIDE, 3), "classes": 4} | arguments
    model = inception_tf.InceptionV1(**arguments)
    ramps.fill(model)
    path = folder / f"x{ending}"
    (model.save_weights if ending == ".weights.h5" else model.save)(path)
    if metadata:
        write_metadata(path, metadata)
    return path, model


def assert_equal_weights(found, expected):
    for ours, theirs in zip(found.weights, expected.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def answers(model):
    return np.asarray(model(ramps.images(2, SIDE, SIDE, 3), training=False))


@pytest.mark.parametrize("ending", [".weights.h5", ".keras"])
def test_what_is_stored_comes_back_and_the_file_opens_as_the_same_network(tmp_path, ending):
    stored = WeightsMetadata(
        "inception_v1", NARROW, Preprocessing(SIDE, None, "torch", antialias=True)
    )
    path, model = saved(tmp_path, ending, stored, **NARROW)
    assert read_metadata(path) == stored
    found = open_classifier(str(path))
    assert (found.network, found.preprocessing) == ("inception_v1", stored.preprocessing)
    assert_equal_weights(found.model, model)
    activations = [one for one in found.model.layers if isinstance(one, keras.layers.Activation)]
    assert {keras.activations.serialize(one.activation) for one in activations} == {
        "elu",
        "softmax",
    }


def test_what_is_stored_goes_along_with_the_weights(tmp_path, capsys):
    path, _ = saved(tmp_path, ".keras", WeightsMetadata("inception_v1", NARROW), **NARROW)
    target = tmp_path / "y.weights.h5"
    assert cli.main(["convert", "--skip-head", str(path), str(target)]) == 0
    assert read_metadata(target).switches == NARROW
    assert "width_multiplier=0.3" in capsys.readouterr().out


def test_a_keras_file_keeps_what_keras_wrote_and_loads_without_this_package(tmp_path):
    path, model = saved(tmp_path, ".keras")
    with zipfile.ZipFile(path) as archive:
        before = {name: archive.read(name) for name in archive.namelist()}
    write_metadata(path, WeightsMetadata("inception_v1", NARROW))
    with zipfile.ZipFile(path) as archive:
        after = {name: archive.read(name) for name in archive.namelist()}
    assert list(after) == list(before)
    changed = json.loads(after.pop("metadata.json"))
    kept = json.loads(before.pop("metadata.json"))
    assert after == before
    assert changed == kept | {
        "inception_tf_network": "inception_v1",
        "inception_tf_switches": NARROW,
    }
    assert os.listdir(tmp_path) == ["x.keras"]
    np.testing.assert_array_equal(answers(keras.models.load_model(path)), answers(model))


@pytest.mark.parametrize("ending", ENDINGS)
def test_without_metadata_width_and_activation_are_those_of_kernels_and_configuration(
    tmp_path, ending
):
    path, _ = saved(tmp_path, ending, **NARROW)
    name, arguments = recognize_file(str(path))
    assert name == "inception_v1"
    configured = {"activation": "elu"} if ending != ".weights.h5" else {}  # has no configuration
    assert arguments == {"width_multiplier": 0.3, "torch_padding": True} | configured


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_a_whole_model_of_a_user_opens_as_what_it_is(tmp_path, ending):
    path, model = saved(tmp_path, ending, **NARROW)
    assert_equal_weights(open_weights(str(path))[2], model)
    again = inception_tf.InceptionV1(input_shape=(SIDE, SIDE, 3), classes=4, weights=path, **NARROW)
    np.testing.assert_array_equal(answers(again), answers(model))


@pytest.mark.parametrize("width", [0.01, 0.1, 0.25, 1 / 3, 0.5, 0.999, 1.0, 1.37, 2.0])
@pytest.mark.parametrize("name", ["inception_v3", "inception_resnet_v2", "bn_inception"])
def test_the_width_that_is_found_gives_the_same_filters(name, width):
    from inception_tf.arch import spec

    network = find_network(name)
    steps = [
        (layer.name, layer.step)
        for block, step in network.backbone
        for layer in spec.iter_layers(block, step)
        if isinstance(layer.step, spec.Conv) and layer.step is not spec.UP
    ]

    def kernels(multiplier):
        return {
            f"{layer}_conv": (*one.window, 3, spec.scale_filters(one.filters, multiplier))
            for layer, one in steps
        }

    found = width_of_kernels(kernels(width), network)
    assert kernels(found) == kernels(width)
    assert (found == 1.0) == (width == 1.0)
    odd = kernels(width) | {f"{steps[0][0]}_conv": (*steps[0][1].window, 3, 7)}
    assert width_of_kernels(odd, network) is None
    windows = kernels(width) | {
        f"{steps[0][0]}_conv": (9, 9, 3, kernels(width)[f"{steps[0][0]}_conv"][-1])
    }
    assert width_of_kernels(windows, network) is None


def test_a_network_of_another_width_or_activation_is_not_filled_in_silence(tmp_path):
    path, _ = saved(tmp_path, ".keras", WeightsMetadata("inception_v1", NARROW), **NARROW)
    with pytest.raises(inception_tf.UserError) as caught:
        inception_tf.InceptionV1(classes=4, weights=path, activation="elu")
    assert "were trained with width_multiplier=0.3; create the network with width_" in str(
        caught.value
    )
    with pytest.raises(inception_tf.UserError) as caught:
        inception_tf.InceptionV1(classes=4, weights=path, width_multiplier=0.3)
    assert str(caught.value).endswith(
        "were trained with activation='elu'; create the network with activation='elu'"
    )


def test_the_report_says_that_a_model_is_another_variant(tmp_path):
    stored = WeightsMetadata("inception_v1", NARROW)
    path, model = saved(tmp_path, ".weights.h5", stored, **NARROW)
    assert inception_tf.load_weights(model, path).notes == ()
    other = inception_tf.InceptionV1(
        input_shape=(SIDE, SIDE, 3), classes=4, **NARROW | {"torch_padding": False}
    )
    [note] = inception_tf.load_weights(other, path).notes
    assert note.endswith("differ from this model's; create it with torch_padding=True")


def test_a_run_that_starts_from_another_width_or_activation_is_refused(
    tmp_path, capsys, class_folders
):
    path, _ = saved(tmp_path, ".keras", WeightsMetadata("inception_v1", NARROW), **NARROW)
    words = ["train", "--model", "inception_v1", "--data", f"folder:{class_folders(red=4, blue=4)}"]
    words += ["--weights", str(path), "--set", f"model.size={SIDE}", "--out", str(tmp_path / "run")]
    words += ["--batch-size", "2"]
    words += ["--set", "model.switches={torch_padding: true}"]
    assert cli.main([*words, "--set", "model.activation=elu"]) == 2
    assert "add --set model.width_multiplier=0.3" in capsys.readouterr().err
    assert cli.main([*words, "--set", "model.width_multiplier=0.3"]) == 2
    assert "add --set model.activation=elu" in capsys.readouterr().err


def test_the_model_of_a_run_is_evaluated_and_converted_without_its_folder(
    digits_run, tmp_path, capsys
):
    """A width of 0.25, at 32 pixels."""
    alone = tmp_path / "alone.keras"
    alone.write_bytes(Run(digits_run).model_file.read_bytes())
    for what in (digits_run, alone):
        words = ["evaluate", str(what), "--data", "digits", "--json", str(tmp_path / "x.json")]
        assert cli.main(words) == 0
        report = json.loads((tmp_path / "x.json").read_text())
        if what == digits_run:
            expected = report
    assert (report["top1"], report["top5"]) == (expected["top1"], expected["top5"])
    target = tmp_path / "y.weights.h5"
    assert cli.main(["convert", str(alone), str(target)]) == 0
    assert read_metadata(target) == read_metadata(alone)
    assert read_metadata(target).switches == {"width_multiplier": 0.25}


@pytest.mark.parametrize(
    ("network", "switches", "sentence"),
    [
        (
            "inception_v1",
            {"last_pool": "max"},
            "last_pool='max', which is no switch of inception_v1",
        ),
        ("inception_v1", {"torch_padding": "yes"}, "torch_padding='yes', which is no switch of"),
        ("inception_v1", {"torch_padding": 1}, "torch_padding='1', which is no switch of"),
        ("inception_v1", {"width_multiplier": True}, "width_multiplier='True', which is no switch"),
        (None, {"classes": 5}, "classes='5', which is no switch of a network"),
        ("inception_resnet_v2", {"residual_scale": "x"}, "residual_scale='x', which is no switch"),
    ],
)
def test_what_is_no_switch_of_the_network_is_refused(tmp_path, network, switches, sentence):
    """By a sentence, before a network is built from it."""
    path = tmp_path / "x.keras"
    with zipfile.ZipFile(path, "w") as archive:
        stored = {"inception_tf_network": network, "inception_tf_switches": switches}
        archive.writestr("metadata.json", json.dumps(stored))
    with pytest.raises(inception_tf.UserError) as caught:
        read_metadata(path)
    assert sentence in str(caught.value)
