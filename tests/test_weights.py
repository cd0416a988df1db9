# SPDX-License-Identifier: Apache-2.0
"""Loading weights: by name, three checks, all or nothing, one sentence for each mistake."""

from __future__ import annotations

import functools
import re
import shutil
import zipfile

import h5py
import keras
import numpy as np
import pytest
import ramps

import inception_tf
from inception_tf.models import find_network, variant
from inception_tf.weights import transfer
from inception_tf.weights.formats import hdf5
from inception_tf.weights.names import slim

pytestmark = pytest.mark.usefixtures("short_networks")
SHORTENED = ("inception_v1", "inception", "inception_v3")
SIDE = 75


def build(name="inception_v3", fill=True, **arguments):
    """A narrow network, weights by rule or of zeros; one model for the same arguments, also within a test."""
    model = _built(name, **arguments)
    if fill:
        ramps.fill(model)
    else:
        model.set_weights([np.zeros(w.shape, w.dtype) for w in model.weights])
    return model


@functools.cache
def _built(name, **arguments):
    side = max(SIDE, find_network(name).min_size)
    defaults = {"input_shape": (side, side, 3), "classes": 5, "width_multiplier": 0.1}
    return inception_tf.create_model(name, **defaults | arguments)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The file of a model with both heads, and its values by path."""
    model = build(aux_logits=True)
    path = tmp_path_factory.mktemp("weights") / "v3.weights.h5"
    model.save_weights(path)
    return path, values(model)


def values(model):
    return {w.path: w.numpy() for w in model.weights}


def assert_equal(found, expected):
    assert found.keys() <= expected.keys()
    for path in found:
        np.testing.assert_array_equal(found[path], expected[path], err_msg=path)


def refused(sentence, model, path, **arguments):
    """The load raises exactly this sentence and leaves the model as it was."""
    before = values(model)
    with pytest.raises(inception_tf.UserError, match=f"^{re.escape(sentence)}$"):
        inception_tf.load_weights(model, path, **arguments)
    assert_equal(values(model), before)


# What fits


def test_every_variable_is_filled_by_name(saved):
    path, expected = saved
    model = build(fill=False, aux_logits=True)
    report = inception_tf.load_weights(model, path)
    assert_equal(values(model), expected)
    assert len(report.used) == len(report.read) == len(expected)
    assert (report.unused, report.missing, report.mismatched) == ((), (), ())


def test_branches_that_changed_places_in_the_file_still_find_their_layers(saved, tmp_path):
    # Keras alone would load these two, equal in shape, into each other without a word.
    path = shutil.copy(saved[0], tmp_path / "swapped.weights.h5")
    pair = {"Mixed_6e_b1_0_conv", "Mixed_6e_b2_0_conv"}
    with h5py.File(path, "a") as file:
        layers = file["layers"]
        one, two = (n for n in layers if layers[n]["vars"].attrs.get("name") in pair)
        layers.move(one, "aside")
        layers.move(two, one)
        layers.move("aside", two)
    model = build(fill=False, aux_logits=True)
    inception_tf.load_weights(model, path)
    assert_equal(values(model), saved[1])


def test_left_out_auxiliary_classifier_is_reported_as_unused(saved):
    path, expected = saved
    model = build(fill=False)
    report = inception_tf.load_weights(model, path)
    assert_equal(values(model), expected)
    assert {name.split("/")[0] for name in report.unused} == {
        "AuxLogits",
        *(
            f"AuxLogits_Conv2d_{step}_{kind}"
            for step in ("1b_1x1", "2a_5x5")
            for kind in ("conv", "bn")
        ),
    }


@pytest.mark.parametrize("aux_logits", [False, True])
def test_a_whole_model_in_hdf5_fits(saved, tmp_path, aux_logits):
    build(aux_logits=True).save(tmp_path / "whole.h5")
    model = build(aux_logits=aux_logits, fill=False)
    report = inception_tf.load_weights(model, tmp_path / "whole.h5")
    assert len(report.used) == len(model.weights)
    assert_equal(values(model), saved[1])


def test_left_out_top_is_reported_as_unused(saved):
    path, expected = saved
    model = build(fill=False, include_top=False)
    report = inception_tf.load_weights(model, path)
    assert_equal(values(model), expected)
    assert {"Logits/0", "Logits/1"} <= set(report.unused)


def test_model_with_an_optimizer_loads_without_it(tmp_path):
    model = build("inception_v1", batch_norm_momentum=0.9)  # a model of its own
    model.compile("adam", "sparse_categorical_crossentropy")
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "trained.keras")
    other = build("inception_v1", fill=False)
    report = inception_tf.load_weights(other, tmp_path / "trained.keras")
    assert_equal(values(other), values(model))
    assert len(report.read) == len(model.weights)


def test_half_precision_file_loads_into_a_float32_model(tmp_path):
    half = build("inception_v1", dtype="bfloat16")
    half.save_weights(tmp_path / "half.weights.h5")
    model = build("inception_v1", fill=False)
    inception_tf.load_weights(model, tmp_path / "half.weights.h5")
    for path, value in values(half).items():
        np.testing.assert_array_equal(values(model)[path], value.astype("float32"), err_msg=path)


def test_weights_argument_of_a_builder_loads_the_file(saved):
    path, expected = saved
    assert_equal(values(_built("inception_v3", weights=str(path))), expected)


def test_pointwise_kernel_becomes_a_dense_one():
    model = build("inception_v1")
    path, shape = "Logits/kernel", tuple(model.get_layer("Logits").kernel.shape)
    kernel = ramps.uniform("pointwise", (1, 1, *shape))
    transfer.assign(model, {"theirs": kernel}, {path: "theirs"}, strict=False)
    np.testing.assert_array_equal(model.get_layer("Logits").kernel, kernel[0, 0])


# slim's names.  V1, V2, V3 and the yardsticks are held against tf_slim itself in test_slim_parity.py;
# these are facts of tensorflow/models research/slim/nets and davidsandberg/facenet src/models.


# fmt: off
SLIM_NAMES = {
    "inception_v4": {
        "Conv2d_1a_3x3_conv":         "InceptionV4/Conv2d_1a_3x3",
        "Mixed_3a_b1_0_conv":         "InceptionV4/Mixed_3a/Branch_1/Conv2d_0a_3x3",
        "Mixed_4a_b0_1_conv":         "InceptionV4/Mixed_4a/Branch_0/Conv2d_1a_3x3",
        "Mixed_4a_b1_2_conv":         "InceptionV4/Mixed_4a/Branch_1/Conv2d_0c_7x1",
        "Mixed_4a_b1_3_conv":         "InceptionV4/Mixed_4a/Branch_1/Conv2d_1a_3x3",
        "Mixed_5a_b0_0_conv":         "InceptionV4/Mixed_5a/Branch_0/Conv2d_1a_3x3",
        "Mixed_5e_b3_1_conv":         "InceptionV4/Mixed_5e/Branch_3/Conv2d_0b_1x1",
        "Mixed_6a_b1_2_conv":         "InceptionV4/Mixed_6a/Branch_1/Conv2d_1a_3x3",
        "Mixed_6h_b2_4_conv":         "InceptionV4/Mixed_6h/Branch_2/Conv2d_0e_1x7",
        "Mixed_7a_b1_3_conv":         "InceptionV4/Mixed_7a/Branch_1/Conv2d_1a_3x3",
        "Mixed_7d_b1_1_b0_0_conv":    "InceptionV4/Mixed_7d/Branch_1/Conv2d_0b_1x3",
        "Mixed_7d_b1_1_b1_0_conv":    "InceptionV4/Mixed_7d/Branch_1/Conv2d_0c_3x1",
        "Mixed_7d_b2_1_conv":         "InceptionV4/Mixed_7d/Branch_2/Conv2d_0b_3x1",
        "Mixed_7d_b2_2_conv":         "InceptionV4/Mixed_7d/Branch_2/Conv2d_0c_1x3",
        "Mixed_7d_b2_3_b0_0_conv":    "InceptionV4/Mixed_7d/Branch_2/Conv2d_0d_1x3",
        "Mixed_7d_b2_3_b1_0_conv":    "InceptionV4/Mixed_7d/Branch_2/Conv2d_0e_3x1",
        "AuxLogits_Conv2d_1b_1x1_conv": "InceptionV4/AuxLogits/Conv2d_1b_1x1",
        "AuxLogits_Conv2d_2a_5x5_conv": "InceptionV4/AuxLogits/Conv2d_2a",
        "AuxLogits":                  "InceptionV4/AuxLogits/Aux_logits",
        "Logits":                     "InceptionV4/Logits/Logits",
    },
    "inception_resnet_v2": {
        "Mixed_5b_b0_0_conv":         "InceptionResnetV2/Mixed_5b/Branch_0/Conv2d_1x1",
        "Mixed_5b_b1_1_conv":         "InceptionResnetV2/Mixed_5b/Branch_1/Conv2d_0b_5x5",
        "Block35_1_b0_0_conv":        "InceptionResnetV2/Repeat/block35_1/Branch_0/Conv2d_1x1",
        "Block35_10_b2_2_conv":       "InceptionResnetV2/Repeat/block35_10/Branch_2/Conv2d_0c_3x3",
        "Block35_10_up_conv":         "InceptionResnetV2/Repeat/block35_10/Conv2d_1x1",
        "Mixed_6a_b0_0_conv":         "InceptionResnetV2/Mixed_6a/Branch_0/Conv2d_1a_3x3",
        "Mixed_6a_b1_2_conv":         "InceptionResnetV2/Mixed_6a/Branch_1/Conv2d_1a_3x3",
        "Block17_19_b1_1_conv":       "InceptionResnetV2/Repeat_1/block17_19/Branch_1/Conv2d_0b_1x7",
        "PreAuxLogits_b1_2_conv":     "InceptionResnetV2/Repeat_1/block17_20/Branch_1/Conv2d_0c_7x1",
        "PreAuxLogits_up_conv":       "InceptionResnetV2/Repeat_1/block17_20/Conv2d_1x1",
        "Mixed_7a_b2_2_conv":         "InceptionResnetV2/Mixed_7a/Branch_2/Conv2d_1a_3x3",
        "Block8_9_b1_2_conv":         "InceptionResnetV2/Repeat_2/block8_9/Branch_1/Conv2d_0c_3x1",
        "Block8_10_b0_0_conv":        "InceptionResnetV2/Block8/Branch_0/Conv2d_1x1",
        "Block8_10_up_conv":          "InceptionResnetV2/Block8/Conv2d_1x1",
        "Conv2d_7b_1x1_conv":         "InceptionResnetV2/Conv2d_7b_1x1",
        "AuxLogits_Conv2d_2a_5x5_conv": "InceptionResnetV2/AuxLogits/Conv2d_2a_5x5",
        "AuxLogits":                  "InceptionResnetV2/AuxLogits/Logits",
        "Logits":                     "InceptionResnetV2/Logits/Logits",
    },
    "inception_resnet_v1": {
        "Conv2d_4b_3x3_conv":         "InceptionResnetV1/Conv2d_4b_3x3",
        "Block35_5_up_conv":          "InceptionResnetV1/Repeat/block35_5/Conv2d_1x1",
        "Mixed_6a_b1_2_conv":         "InceptionResnetV1/Mixed_6a/Branch_1/Conv2d_1a_3x3",
        "Block17_10_b1_1_conv":       "InceptionResnetV1/Repeat_1/block17_10/Branch_1/Conv2d_0b_1x7",
        "Mixed_7a_b0_0_conv":         "InceptionResnetV1/Mixed_7a/Branch_0/Conv2d_0a_1x1",
        "Block8_5_b0_0_conv":         "InceptionResnetV1/Repeat_2/block8_5/Branch_0/Conv2d_1x1",
        "Block8_6_b1_2_conv":         "InceptionResnetV1/Block8/Branch_1/Conv2d_0c_3x1",
    },
}
# fmt: on


@pytest.mark.parametrize("name", SLIM_NAMES)
def test_layers_have_their_published_names_in_slim(name):
    found = slim.slim_names(find_network(name))
    expected = SLIM_NAMES[name]
    assert {path: found[f"{path}/kernel"].removesuffix("/weights") for path in expected} == expected


VARIANTS_OF_SLIM = pytest.mark.parametrize(
    ("name", "switches"),
    [(name, own) for name, row in slim.NETWORKS_OF_SLIM.items() for own in row.variants],
    ids=str,
)


@VARIANTS_OF_SLIM
def test_no_two_weights_have_one_name_in_slim(name, switches):
    found = slim.slim_names(variant(name, **switches))
    assert len(set(found.values())) == len(found)


@VARIANTS_OF_SLIM
@pytest.mark.usefixtures("all_short")
def test_every_weight_has_a_name_in_slim(name, switches):
    top = (
        {"include_top": False}
        if name == "inception_resnet_v1" or "output_stride" in switches
        else {}
    )
    model = _built(name, **switches, **top)
    found = slim.slim_names(slim.identify_slim_network(model))
    assert found == slim.slim_names(variant(name, **switches))
    assert {w.path for w in model.weights} <= found.keys()


def test_stride_does_not_change_slims_names():
    plain, fine = (
        slim.slim_names(variant("inception_resnet_v2", output_stride=stride)) for stride in (16, 8)
    )
    assert fine.items() <= plain.items()


def test_network_that_slim_lacks_is_refused(tmp_path):
    refused(
        "model 'inception' is not one of slim's networks; known: inception_v1, inception_v2,"
        " inception_v3, inception_v4, inception_resnet_v1, inception_resnet_v2, alexnet, vgg16;"
        " create one of these",
        build("inception"),
        tmp_path / "inception.ckpt",
    )


# What does not fit


def test_other_number_of_classes_is_refused(saved):
    refused(
        "Logits/kernel has 5 classes in the file and 10 in the model; create the model with"
        " classes=5, or load with strict=False to keep its classifier",
        build(classes=10),
        saved[0],
    )


def test_without_strict_the_rest_of_another_number_of_classes_is_loaded(saved):
    path, expected = saved
    model = build(fill=False, classes=10)
    before = model.get_layer("Logits").kernel.numpy()
    report = inception_tf.load_weights(model, path, strict=False)
    assert [m[0] for m in report.mismatched] == ["Logits/kernel", "Logits/bias"]
    np.testing.assert_array_equal(model.get_layer("Logits").kernel, before)
    assert_equal({p: v for p, v in values(model).items() if "Logits/" not in p}, expected)


def test_missing_auxiliary_classifier_is_refused(tmp_path):
    build().save_weights(tmp_path / "plain.weights.h5")
    refused(
        "the file has no auxiliary classifier (AuxLogits_Conv2d_1b_1x1_conv/kernel,"
        " AuxLogits_Conv2d_1b_1x1_bn/beta, AuxLogits_Conv2d_1b_1x1_bn/moving_mean and 7 more);"
        " create the model with aux_logits=False, or load with strict=False to keep the auxiliary"
        " classifier",
        build(aux_logits=True),
        tmp_path / "plain.weights.h5",
    )


def test_another_network_is_refused(saved):
    with pytest.raises(
        inception_tf.UserError,
        match=r"' is a file of inception_v3, and the model 'inception_v1' is inception_v1; nothing was loaded:"
        r" create inception_v3, or give a file of this network$",
    ) as refusal:
        inception_tf.load_weights(build("inception_v1"), saved[0])
    # What --debug shows.
    assert re.match(
        r"the file does not fit the model 'inception_v1': the file lacks \d+ of the model's variables"
        r" \(Conv2d_1a_7x7_conv/kernel, .* and \d+ more\); the model has no variable for \d+ of the file's"
        r" arrays \(.* more\); .*; nothing was loaded",
        str(refusal.value.__cause__),
    )


def test_another_width_is_refused_with_the_shapes(saved):
    with pytest.raises(
        inception_tf.UserError,
        match=r"shapes differ \(Conv2d_2b_3x3_conv/kernel is \(3, 3, 16, 16\) in the file and"
        r" \(3, 3, 16, 32\) in the model",
    ):
        inception_tf.load_weights(build(width_multiplier=0.5), saved[0])


def test_array_of_no_layer_is_refused(saved, tmp_path):
    path = shutil.copy(saved[0], tmp_path / "more.weights.h5")
    with h5py.File(path, "a") as file:
        group = file.create_group("layers/conv2d_999/vars")
        group.attrs["name"] = "extra"
        group["0"] = np.zeros(3)
    refused(
        "the file does not fit the model 'inception_v3': the model has no variable for 1 of the file's arrays"
        " (extra/0); nothing was loaded: create the network that wrote the file, or load what fits"
        " with strict=False",
        build(),
        path,
    )


# What is no weights file


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("form", ["functional", "sequential", "subclass"])
def test_a_model_around_the_network_is_refused_and_the_network_named(saved, strict, form):
    base = build("inception_v1", include_top=False, pooling="avg")
    if form == "functional":
        image = keras.Input(base.input_shape[1:])
        model = keras.Model(image, keras.layers.Dense(3)(base(image)), name="mine")
    elif form == "sequential":
        model = keras.Sequential([base, keras.layers.Dense(3)], name="mine")
    else:
        model = keras.Model(name="mine")  # as a subclass, with an attribute
        model.base = base
    refused(
        "model 'mine' contains the network 'inception_v1', and its layers have the file's names; give that"
        " model, such as model.get_layer('inception_v1'), instead",
        model,
        saved[0],
        strict=strict,
    )
    with pytest.raises(inception_tf.UserError, match="contains the network 'inception_v1'"):
        inception_tf.endpoints(model)


def test_a_file_of_which_nothing_fits_is_refused_without_strict_too(tmp_path):
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="elsewhere")])
    other.save_weights(tmp_path / "other.weights.h5")
    refused(
        "none of the file's 2 arrays fits a variable of the model 'inception_v1'; nothing was loaded: give the"
        " file of this network",
        build("inception_v1"),
        tmp_path / "other.weights.h5",
        strict=False,
    )


def test_missing_file_is_refused(tmp_path):
    path = tmp_path / "none.weights.h5"
    refused(f"no weights file at '{path}'; give a .weights.h5 or .keras file", small(), path)


def test_folder_is_refused(tmp_path):
    path = tmp_path / "run.keras"
    path.mkdir()
    refused(f"{path} is a folder, and only regular files are read", small(), path)


@pytest.mark.parametrize("kept", [0, 100, 5000, 0.5, 0.999])
@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_truncated_file_is_refused(saved, tmp_path, kept, suffix):
    path = tmp_path / f"cut{suffix}"
    if suffix == ".keras":
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(saved[0], hdf5.WEIGHTS_IN_KERAS_FILE)
        whole = path.read_bytes()
    else:
        whole = saved[0].read_bytes()
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    refused(damaged(path), small(), path)


def test_keras_file_without_weights_is_refused(tmp_path):
    path = tmp_path / "empty.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
    refused(damaged(path), small(), path)


def test_text_under_a_weights_name_is_refused(tmp_path):
    path = tmp_path / "page.h5"
    path.write_text("<html>not found</html>")
    refused(damaged(path), small(), path)


def test_file_without_layer_names_is_refused(tmp_path):
    path = tmp_path / "other.h5"
    with h5py.File(path, "w") as file:
        file["layers/conv2d/vars/0"] = np.zeros(3)
    refused(
        f"'{path}' has no layer names, which Keras 3 writes; save the model again with"
        " model.save_weights or model.save",
        small(),
        path,
    )


def test_file_with_two_layers_of_one_name_is_refused(saved, tmp_path):
    path = shutil.copy(saved[0], tmp_path / "two.weights.h5")
    with h5py.File(path, "a") as file:
        file.copy("layers/dense", "layers/functional/layers/dense")
        name = file["layers/dense/vars"].attrs["name"]
    refused(
        f"'{path}' has several layers called '{name}'; give the file of one network alone",
        small(),
        path,
    )


def test_unknown_source_is_refused_with_the_nearest(saved):
    refused(
        "unknown source 'slin'; known: auto, native, slim, keras, torchvision, timm, bvlc, graph; did you mean 'slim'?",
        small(),
        saved[0],
        source="slin",
    )


def test_name_that_tells_no_source_is_refused(tmp_path):
    path = tmp_path / "weights.bin"
    refused(
        f"cannot detect the format of '{path}'; give a .weights.h5 or .keras file, a slim checkpoint (.ckpt),"
        " an .h5 file of keras.applications, a .safetensors or .pth file of torchvision or timm,"
        " BVLC's .npz or a frozen graph (.pb), or name the source with source='native' or 'slim' or 'keras' or"
        " 'torchvision' or 'timm' or 'bvlc' or 'graph'",
        small(),
        path,
    )


def test_missing_checkpoint_is_refused(tmp_path):
    path = tmp_path / "inception_v1.ckpt"
    refused(
        f"no checkpoint at '{path}'; give its name without .index or .data-00000-of-00001",
        small(),
        path,
    )


def test_damaged_checkpoint_is_refused(tmp_path):
    path = tmp_path / "inception_v1.ckpt"
    path.write_bytes(bytes(range(256)) * 40)
    refused(
        f"'{path}' is not a readable TensorFlow checkpoint; give the name of a complete one,"
        " without .index or .data-00000-of-00001",
        small(),
        path,
    )


def test_report_reads_as_one_paragraph():
    report = transfer.Report(
        read=("a", "b", "c", "d", "e", "f"),
        used=("a",),
        unused=("b", "c", "d", "e"),
        missing=("x/bias",),
        mismatched=(("x/kernel", (2, 3), (2, 4)),),
    )
    assert str(report) == (
        "6 arrays read, 1 used; 4 unused (b, c, d and 1 more); 1 missing (x/bias);"
        " 1 of another shape (x/kernel is (2, 4) in the file and (2, 3) in the model)."
    )


@functools.cache
def small():
    """One model for all: `refused` sees that it stays as it was."""
    return build("inception_v1")


def damaged(path) -> str:
    return f"'{path}' is damaged or not a Keras file; give a complete .weights.h5 or .keras file"
