# SPDX-License-Identifier: Apache-2.0
"""torchvision's and timm's names against facts from outside, their state dicts made here byte by byte."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
import sys

import keras
import numpy as np
import pytest
import ramps
from torch_file import write

import inception_tf
from inception_tf.models import find_network
from inception_tf.weights.formats import state_dict
from inception_tf.weights.formats.stored import EVERYTHING
from inception_tf.weights.names import torch

# fmt: off
# From the state dicts of torchvision 0.28.0 (googlenet and inception_v3 with aux_logits) and timm
# 1.0.31 (the others).  In brackets: how many names there are without num_batches_tracked, and the
# beginning of the SHA-256 of those names, sorted, one a line.
REAL = {
    "inception_v1": ((305, "219299a71c89ff29"), {
        "Conv2d_1a_7x7_conv/kernel":      "conv1.conv.weight",
        "Conv2d_2c_3x3_bn/beta":          "conv3.bn.bias",
        "Mixed_3b_b0_0_conv/kernel":      "inception3a.branch1.conv.weight",
        "Mixed_4f_b2_1_bn/moving_mean":   "inception4e.branch3.1.bn.running_mean",
        "Mixed_5c_b3_1_conv/kernel":      "inception5b.branch4.1.conv.weight",
        "Logits/kernel":                  "fc.weight",
    }),
    "inception_v3": ((484, "4577ade35e239489"), {
        "Mixed_5b_b1_1_conv/kernel":      "Mixed_5b.branch5x5_2.conv.weight",
        "Mixed_5d_b3_1_conv/kernel":      "Mixed_5d.branch_pool.conv.weight",
        "Mixed_6a_b0_0_conv/kernel":      "Mixed_6a.branch3x3.conv.weight",
        "Mixed_6c_b2_4_conv/kernel":      "Mixed_6c.branch7x7dbl_5.conv.weight",
        "Mixed_7a_b1_3_bn/moving_variance": "Mixed_7a.branch7x7x3_4.bn.running_var",
        "Mixed_7c_b2_2_b1_0_conv/kernel": "Mixed_7c.branch3x3dbl_3b.conv.weight",
        "AuxLogits_Conv2d_2a_5x5_conv/kernel": "AuxLogits.conv1.conv.weight",
        "AuxLogits/bias":                 "AuxLogits.fc.bias",
    }),
    "inception_v4": ((747, "d7fc046491bf7fdb"), {
        "Mixed_3a_b1_0_conv/kernel":      "features.3.conv.conv.weight",
        "Mixed_4a_b1_3_conv/kernel":      "features.4.branch1.3.conv.weight",
        "Mixed_5a_b0_0_conv/kernel":      "features.5.conv.conv.weight",
        "Mixed_6h_b2_4_conv/kernel":      "features.17.branch2.4.conv.weight",
        "Mixed_7c_b1_1_b1_0_conv/kernel": "features.20.branch1_1b.conv.weight",
        "Logits/kernel":                  "last_linear.weight",
    }),
    "inception_resnet_v2": ((1102, "4b0510d2904a1710"), {
        "Conv2d_4a_3x3_conv/kernel":      "conv2d_4a.conv.weight",
        "Block35_2_b2_2_conv/kernel":     "repeat.1.branch2.2.conv.weight",
        "Block35_7_up_conv/kernel":       "repeat.6.conv2d.weight",
        "PreAuxLogits_up_conv/bias":      "repeat_1.19.conv2d.bias",
        "Mixed_7a_b2_2_conv/kernel":      "mixed_7a.branch2.2.conv.weight",
        "Block8_10_b1_2_conv/kernel":     "block8.branch1.2.conv.weight",
        "Logits/bias":                    "classif.bias",
    }),
}
# fmt: on


@pytest.mark.parametrize("network", REAL)
def test_places_have_their_real_names(network):
    found = torch.torch_names(find_network(network))
    expected = REAL[network][1]
    assert {path: found[path] for path in expected} == expected


@pytest.mark.parametrize("network", REAL)
def test_all_names_together_are_those_of_the_real_state_dict(network):
    names = set(torch.torch_names(find_network(network)).values())
    names |= {re.sub(r"bias$", "weight", name) for name in names if name.endswith(".bn.bias")}
    digest = hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:16]
    assert (len(names), digest) == REAL[network][0]


FOLDED = (
    "57 gammas folded into the kernels, which is exact in evaluation only: trained or recalibrated, this is another"
    " network; create the model with batch_norm_scale=True to keep them"
)


# Files


def ours(**arguments):
    arguments = {"input_shape": (32, 32, 3), "classes": 5, "width_multiplier": 0.1} | arguments
    return inception_tf.InceptionV1(torch_padding=True, **{"batch_norm_scale": True} | arguments)


@pytest.fixture(scope="module")
def state():
    """A state dict in torch's layout with torchvision's names, by a fixed rule; gammas of both signs and 0."""
    names, arrays = torch.torch_names(find_network("inception_v1")), {}
    for variable in ours().weights:
        shape = tuple(variable.shape)
        order = {4: (3, 2, 0, 1), 2: (1, 0)}.get(len(shape), (0,))
        shape = tuple(shape[axis] for axis in order)
        name = names[variable.path]
        positive = "moving_variance" if name.endswith("running_var") else ""
        arrays[name] = ramps.weight(name + positive, shape)
        if name.endswith(".bn.bias"):
            gamma = ramps.uniform(name + "gamma", shape)
            gamma[0] = 0
            arrays[name.removesuffix("bias") + "weight"] = gamma
            arrays[name.removesuffix("bias") + "num_batches_tracked"] = np.array(7, np.int64)
    return arrays


@pytest.fixture(scope="module")
def file(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("torch") / "googlenet.safetensors"
    write(path, state)
    return path


def test_file_fills_every_variable(file):
    model = ours()
    report = inception_tf.load_weights(model, file)
    assert len(report.used) == len(report.read) == len(model.weights)
    assert report.notes == ()
    assert len(report.training_state) == 57  # num_batches_tracked


@pytest.mark.parametrize("scale", [True, False])
def test_gamma_gives_what_torch_computes_kept_or_folded(file, state, scale):
    model = ours(input_shape=(None, None, 3), batch_norm_scale=scale)
    with contextlib.nullcontext() if scale else pytest.warns(UserWarning, match=FOLDED):
        inception_tf.load_weights(model, file)
    images = ramps.images(1, 32, 32, 3)
    found = keras.Model(model.input, model.get_layer("Conv2d_1a_7x7_bn").output)(images)
    kernel = state["conv1.conv.weight"].transpose(2, 3, 1, 0)
    padded = np.pad(images, ((0, 0), (3, 3), (3, 3), (0, 0)))
    x = np.asarray(keras.ops.conv(padded, kernel, strides=2, padding="valid"))
    mean, var, gamma, beta = (
        state[f"conv1.bn.{kind}"] for kind in ("running_mean", "running_var", "weight", "bias")
    )
    expected = gamma * (x - mean) / np.sqrt(var + 1e-3) + beta
    np.testing.assert_allclose(
        found, expected, rtol=1e-5, atol=1e-5
    )  # float32 sums of 147 products


def test_heads_that_our_network_lacks_are_reported_as_unused(state, tmp_path):
    write(tmp_path / "aux.safetensors", state | {"aux2.fc1.bias": np.zeros(4, np.float32)})
    report = inception_tf.load_weights(ours(), tmp_path / "aux.safetensors")
    assert report.unused == ("aux2.fc1.bias",)


def test_gammas_of_one_are_left_out_without_a_warning(state, tmp_path):
    ones = {k: np.ones_like(a) if k.endswith(".bn.weight") else a for k, a in state.items()}
    write(tmp_path / "ones.safetensors", ones)
    report = inception_tf.load_weights(ours(batch_norm_scale=False), tmp_path / "ones.safetensors")
    assert report.notes == ("57 gammas omitted, all of them 1",)
    assert report.unused == ()


def test_gamma_of_another_shape_than_its_mean_is_refused(state, tmp_path):
    models = [ours(batch_norm_scale=scale) for scale in (True, False)]
    for gamma in (np.ones((), np.float32), np.ones(3, np.float32), np.ones((16, 1), np.float32)):
        write(tmp_path / "odd.safetensors", state | {"conv1.bn.weight": gamma})
        for model in models:
            with pytest.raises(inception_tf.UserError, match="Conv2d_1a_7x7_bn/gamma"):
                inception_tf.load_weights(model, tmp_path / "odd.safetensors")


def test_half_precision_is_read(tmp_path):
    write(tmp_path / "half.safetensors", {"fc.bias": np.array([0.5, 2], np.float16)})
    np.testing.assert_array_equal(
        state_dict.read_state_dict(str(tmp_path / "half.safetensors"), EVERYTHING)["fc.bias"],
        [0.5, 2],
    )


def test_model_with_another_padding_is_told(file):
    model = inception_tf.InceptionV1(
        input_shape=(32, 32, 3), classes=5, width_multiplier=0.1, batch_norm_scale=True
    )
    report = inception_tf.load_weights(model, file)
    assert str(report).endswith(
        "torch's padding differs from this model's; create it with torch_padding=True."
    )


# Bad input


@functools.cache
def refusing():
    """One model for what is refused, which loads nothing into it."""
    return ours()


@pytest.mark.parametrize(("dropped", "sentence"), [
    ("inception3a.branch1.bn.bias", r"lacks 1 of the model's variables \(Mixed_3b_b0_0_bn/beta\)"),
    ("inception3a.branch1.bn.weight", r"lacks 1 of the model's variables \(Mixed_3b_b0_0_bn/gamma\)"),
    ("inception3a.branch1.conv.weight", r"lacks 1 of the model's variables \(Mixed_3b_b0_0_conv/k"),
])  # fmt: skip
def test_one_missing_array_is_refused(state, tmp_path, dropped, sentence):
    write(tmp_path / "less.safetensors", {k: v for k, v in state.items() if k != dropped})
    with pytest.raises(inception_tf.UserError, match=sentence):
        inception_tf.load_weights(refusing(), tmp_path / "less.safetensors")


@pytest.mark.parametrize("kept", [0, 4, 100, 0.5, 0.9999])
def test_truncated_file_is_refused(file, tmp_path, kept):
    whole = file.read_bytes()
    path = tmp_path / "cut.safetensors"
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    with pytest.raises(inception_tf.UserError, match="is damaged or not a .safetensors file"):
        inception_tf.load_weights(refusing(), path)


def test_network_that_torch_lacks_is_refused(file):
    with pytest.raises(
        inception_tf.UserError, match="^model 'googlenet' is not one of the networks of torchvision"
    ):
        inception_tf.load_weights(inception_tf.GoogLeNet(input_shape=(32, 32, 3)), file)


@pytest.fixture
def pth(tmp_path):
    path = tmp_path / "model.pth"
    path.write_bytes(b"PK")
    return path


def test_file_that_is_no_pickle_is_not_called_one(pth):
    pth.write_bytes(b"<html>not found</html>")
    with pytest.raises(inception_tf.UserError, match=r"model.pth' is damaged or has more than"):
        inception_tf.load_weights(ours(), pth)


def test_pickle_without_torch_is_refused(pth, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(inception_tf.UserError, match="only torch reads it safely: pip install"):
        inception_tf.load_weights(ours(), pth)
