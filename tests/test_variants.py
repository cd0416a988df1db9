# SPDX-License-Identifier: Apache-2.0
"""What each network's own switches do; counts and shapes from the documents, slim's tests and the papers."""

from __future__ import annotations

import re

import keras
import pytest

import inception_tf
from inception_tf import models
from inception_tf.arch import counting, spec
from inception_tf.arch.spec import Conv, LocalNorm, Pool, Residual
from inception_tf.arch.table import summary

VARIANTS = [
    ("googlenet", {"batch_norm": True}),
    ("googlenet", {"lrn": False}),
    ("inception_v1", {"torch_padding": True}),
    ("inception", {"lrn": True}),
    ("inception", {"initial_deviation": 0.02}),
    ("bn_inception", {"lrn": True}),
    ("bn_inception", {"initial_deviation": 0.02}),
    ("bn_inception", {"hidden_batch_norm": True}),
    ("inception_v2", {"use_separable_conv": False}),
    ("inception_v3", {"count_padding": True}),
    ("inception_v3", {"last_pool": "max"}),
    ("inception_resnet_v1", {"paper": True}),
    ("inception_resnet_v1", {"residual_scale": 0.3}),
    ("inception_resnet_v2", {"output_stride": 8}),
    ("inception_resnet_v2", {"align_feature_maps": True}),
    ("inception_resnet_v2", {"paper": True}),
    ("inception_resnet_v2", {"residual_scale": 0.3}),
    ("googlenet", {"batch_norm": True, "batch_norm_scale": True}),
    ("inception_v1", {"torch_padding": True, "batch_norm_scale": True}),
    ("bn_inception", {"hidden_batch_norm": True, "batch_norm_scale": True}),
    ("inception_v2", {"batch_norm_scale": True}),
    ("inception_v3", {"batch_norm_scale": True}),
    ("inception_v4", {"batch_norm_scale": True}),
    ("inception_resnet_v1", {"batch_norm_scale": True}),
    ("inception_resnet_v2", {"batch_norm_scale": True}),
]
WITHOUT_BATCH_NORM = ("inception", "alexnet", "vgg16")


def counts(network):
    return (
        counting.total(counting.layer_costs(network), "params"),
        counting.total(counting.layer_costs(network, classes=1001), "params"),
        counting.total(counting.layer_costs(network), "trainable"),
    )


def shapes(network):
    """What each step gives at the published size."""
    return {row.layer.name: row.output for row in counting.layer_costs(network, classes=None)}


def places(network):
    return [place for step in network.backbone for place in spec.iter_layers(*step)]


def test_every_switch_has_a_test():
    switches = {(name, switch) for name in models.NETWORKS for switch in models.switches(name)}
    refused = {(name, "batch_norm_scale") for name in WITHOUT_BATCH_NORM}
    assert {(name, switch) for name, chosen in VARIANTS for switch in chosen} == switches - refused


@pytest.mark.usefixtures("all_short")
@pytest.mark.parametrize(
    ("name", "chosen"), VARIANTS, ids=[f"{n}-{'-'.join(c)}" for n, c in VARIANTS]
)
def test_variant_is_built_as_its_table_says(name, chosen):
    network = models.variant(name, **chosen)
    side = network.min_size + 20
    top = not network.backbone_only
    model = inception_tf.create_model(
        name, input_shape=(side, side, 3), width_multiplier=0.1, include_top=top, **chosen
    )
    rows = counting.layer_costs(network, side, classes=1000 if top else None, width_multiplier=0.1)
    assert model.count_params() == counting.total(rows, "params")
    last = network.backbone[-1][0]
    grid = model.get_layer(last).output.shape[1:3]
    assert grid == [row for row in rows if row.layer.endpoint == last][-1].output[:2]


# torchvision 0.29.1 and timm 1.0.31, parameters without moving statistics; torchvision's with auxiliary classifiers.
@pytest.mark.parametrize(
    ("name", "switches", "aux_logits", "parameters"),
    [
        ("inception_v1", {"torch_padding": True}, False, 6_624_904),
        ("inception_v1", {"torch_padding": True}, True, 13_004_888),
        ("inception_v3", {"count_padding": True}, True, 27_161_264),
        ("inception_v3", {"count_padding": True}, False, 23_834_568),
        ("inception_v4", {}, False, 42_679_816),
        ("inception_resnet_v2", {}, False, 55_843_464),
    ],
)
def test_with_gammas_a_network_has_torchs_parameters(name, switches, aux_logits, parameters):
    network = models.variant(name, **switches, batch_norm_scale=True)
    costs = counting.layer_costs(network, aux_logits=aux_logits)
    assert counting.total(costs, "trainable") == parameters


def test_torchvisions_auxiliary_classifiers_need_a_known_size():
    with pytest.raises(inception_tf.UserError, match="AuxLogits_1 pools to 4x4, which needs a"):
        inception_tf.InceptionV1(
            torch_padding=True, aux_logits=True, input_shape=(None, None, 3), width_multiplier=0.1
        )


@pytest.mark.parametrize("name", [*WITHOUT_BATCH_NORM, "googlenet"])
def test_a_scale_without_batch_normalization_is_refused(name):
    with pytest.raises(
        inception_tf.UserError, match=f"^{name} has no batch normalization that batch_norm_scale"
    ):
        inception_tf.create_model(name, batch_norm_scale=True)


@pytest.mark.usefixtures("all_short")
def test_variants_weights_load_by_name(tmp_path):
    arguments = {"input_shape": (64, 64, 3), "width_multiplier": 0.1, "classes": 5}
    model = inception_tf.GoogLeNet(**arguments, batch_norm=True, lrn=False)
    model.save(tmp_path / "variant.keras")
    other = inception_tf.GoogLeNet(**arguments, batch_norm=True)
    assert len(inception_tf.load_weights(other, tmp_path / "variant.keras").used) == len(
        model.weights
    )


def test_googlenet_with_batch_normalization_has_the_documents_counts():
    network = models.variant("googlenet", batch_norm=True)
    assert counts(network) == (7_013_112, 7_014_137, 6_998_552)


def test_googlenet_without_normalization_of_responses_differs_in_that_alone():
    plain, without = models.find_network("googlenet"), models.variant("googlenet", lrn=False)
    assert counts(without) == counts(plain)
    kept = [step for step in plain.backbone if not isinstance(step[1], LocalNorm)]
    assert (len(plain.backbone) - len(kept), list(without.backbone)) == (2, kept)


@pytest.mark.parametrize("name", ["inception", "bn_inception"])
def test_the_bn_papers_networks_have_response_normalization_where_googlenet_has_it(name):
    plain, normed = models.find_network(name), models.variant(name, lrn=True)
    assert counts(normed) == counts(plain)
    names = [step for step, _ in normed.backbone]
    assert names[: names.index("Mixed_3b")] == [
        step for step, _ in models.find_network("googlenet").backbone[: names.index("Mixed_3b")]
    ]


@pytest.mark.usefixtures("all_short")
def test_hidden_batch_norm_normalizes_each_feature_before_the_logits():
    # Ioffe and Szegedy 2015, section 4.2.3: not convolutional, on the last hidden layer.
    network = models.variant("bn_inception", hidden_batch_norm=True)
    assert counts(network)[0] - counts(models.find_network("bn_inception"))[0] == 3 * 1024
    assert counts(network)[2] - counts(models.find_network("bn_inception"))[2] == 1024
    model = inception_tf.BNInception(
        input_shape=(32, 32, 3), width_multiplier=0.1, classes=4, hidden_batch_norm=True
    )
    layer = model.get_layer("Hidden_bn")
    assert len(layer.input.shape) == 2
    names = [each.name for each in model.layers]
    assert names[names.index("Hidden_bn") - 1 :][:4] == [
        "global_pool",
        "Hidden_bn",
        "PreLogits",
        "Logits",
    ]
    rows = summary(network)
    assert [row["type"] for row in rows][-5:-2] == ["avg pool", "batch norm", "dropout (20%)"]
    assert sum(row["params"] for row in rows) == counts(network)[0]


@pytest.mark.usefixtures("all_short")
def test_gain_multiplies_the_initial_weights_of_convolutions_alone():
    def deviations(**arguments):
        keras.utils.set_random_seed(0)
        model = inception_tf.InceptionV2(input_shape=(32, 32, 3), classes=4, **arguments)
        return {v.path: float(keras.ops.std(v)) for v in model.weights if v.path.endswith("kernel")}

    plain, larger = deviations(), deviations(initializer_gain=1.5)
    ratios = {path: larger[path] / plain[path] for path in plain}
    assert ratios.pop("Logits/kernel") == pytest.approx(1)
    assert list(ratios.values()) == pytest.approx([1.5] * len(ratios), rel=1e-5)


def test_torchs_padding_keeps_the_shapes_at_the_published_size():
    assert shapes(models.variant("inception_v1", torch_padding=True)) == shapes(
        models.find_network("inception_v1")
    )


def test_torchs_padding_is_that_of_torchvision():
    # torchvision/models/googlenet.py: conv1 padding=3, maxpool1 to 4 ceil_mode=True.
    network = models.variant("inception_v1", torch_padding=True)
    first, *pools = (s for _, s in network.backbone if isinstance(s, Conv | Pool) and s.stride == 2)
    assert first.padding == 3
    assert [p.padding for p in pools] == [spec.CEIL] * 4


def test_plain_first_convolution_has_the_documents_count():
    network = models.variant("inception_v2", use_separable_conv=False)
    assert counts(network) == (11_204_936, 11_205_961, 11_185_032)


def test_counted_padding_reaches_every_average():
    network = models.variant("inception_v3", count_padding=True)
    averages = [p.step for p in places(network) if getattr(p.step, "kind", "") == "avg"]
    assert [step.padding for step in averages] == [1] * 9  # 3 + 4 + 2 blocks
    assert shapes(network) == shapes(models.find_network("inception_v3"))


def test_last_pool_of_2015_is_a_maximum():
    network = models.variant("inception_v3", last_pool="max")
    kinds = {p.name: p.step.kind for p in places(network) if p.name.endswith("_b3_0")}
    assert [name for name, kind in kinds.items() if kind == "max"] == ["Mixed_7c_b3_0"]


def test_paper_has_five_blocks_on_the_last_grid():
    # Szegedy et al. 2016, Figure 15: 5 x Inception-resnet-C.  facenet adds one.
    paper, facenet = (
        models.variant("inception_resnet_v1", paper=paper).backbone for paper in (True, False)
    )
    assert [name for name, _ in paper if name.startswith("Block8")] == [
        f"Block8_{n}" for n in range(1, 6)
    ]
    assert facenet[: len(paper)] == paper
    (_, last), *others = facenet[len(paper) :]
    assert isinstance(last, Residual)
    assert (last.scale, last.activate, others) == (1.0, False, [])


def test_the_papers_inception_resnet_v2_has_its_stem_blocks_and_grids():
    # Szegedy et al. 2016, Figures 3 and 15 to 19; Table 1 for k, l, m, n.  1152 = 384 + 384 + 384 and
    # 2144 = 1152 + 384 + 288 + 320 are the sums of the reductions, where Figures 17 and 19 print 1154 and 2048.
    network = models.variant("inception_resnet_v2", paper=True)
    stem = models.find_network("inception_v4").backbone[:6]
    assert network.backbone[:6] == stem
    names = [name for name, _ in network.backbone[6:]]
    blocks = {
        35: [f"Block35_{n}" for n in range(1, 6)],
        17: [*(f"Block17_{n}" for n in range(1, 10)), "PreAuxLogits"],
        8: [f"Block8_{n}" for n in range(1, 6)],
    }
    assert names == [*blocks[35], "Mixed_6a", *blocks[17], "Mixed_7a", *blocks[8]]
    ups = {name.removesuffix("_up"): o for name, o in shapes(network).items() if "_up" in name}
    for side, channels in ((35, 384), (17, 1152), (8, 2144)):
        assert {ups[name] for name in blocks[side]} == {(side, side, channels)}
    scales = {step.scale for _, step in network.backbone if isinstance(step, Residual)}
    assert scales == {0.17, 0.10, 0.20}
    assert all(step.activate for _, step in network.backbone if isinstance(step, Residual))


@pytest.mark.usefixtures("all_short")
@pytest.mark.parametrize("name", ["inception_resnet_v1", "inception_resnet_v2"])
@pytest.mark.parametrize("scale", [0.25, 1])
def test_one_scale_is_that_of_every_scaled_residual(name, scale):
    small = {"input_shape": (75, 75, 3), "width_multiplier": 0.05}
    published, model = (
        inception_tf.create_model(name, **small, **switches)
        for switches in ({}, {"residual_scale": scale})
    )
    factors = [
        [layer.scale for layer in one.layers if isinstance(layer, keras.layers.Rescaling)]
        for one in (published, model)
    ]
    assert set(factors[0]) == {0.17, 0.10, 0.20}
    assert factors[1] == ([] if scale == 1 else [scale] * len(factors[0]))


# slim inception_resnet_v2_test.py: testBuildAndCheckAllEndPointsUptoPreAuxLogits...
STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "MaxPool_3a_3x3", "Conv2d_3b_1x1")
STEM += ("Conv2d_4a_3x3", "MaxPool_5a_3x3", "Mixed_5b", "Mixed_6a", "PreAuxLogits")


@pytest.mark.usefixtures("all_short")
@pytest.mark.parametrize(
    ("chosen", "sides"),
    [
        ({"output_stride": 8}, (149, 147, 147, 73, 73, 71, 35, 35, 33, 33)),
        ({"align_feature_maps": True}, (150, 150, 150, 75, 75, 75, 38, 38, 19, 19)),
    ],
    ids=["output stride 8", "aligned feature maps"],
)
def test_grids_are_those_of_slims_own_tests(chosen, sides):
    ends = inception_tf.endpoints(
        inception_tf.InceptionResNetV2(
            include_top=False, input_shape=(299, 299, 3), width_multiplier=0.1, **chosen
        )
    )
    assert [tuple(ends[name].shape[1:3]) for name in STEM] == [(side, side) for side in sides]


def test_output_stride_of_eight_dilates_what_follows():
    network = models.variant("inception_resnet_v2", output_stride=8)
    rates = {
        p.step.dilation
        for p in places(network)
        if p.name.startswith(("Block17", "PreAux")) and p.step.window != (1, 1)
    }
    assert rates == {2}
    assert network.backbone[-1][0] == "PreAuxLogits"


@pytest.mark.parametrize(
    ("name", "chosen", "sentence"),
    [
        (
            "inception_resnet_v2",
            {"output_stride": 8},
            "this form of inception_resnet_v2 ends at PreAuxLogits, before the classifier;"
            " use include_top=False",
        ),
        (
            "inception_resnet_v2",
            {"output_stride": 32, "include_top": False},
            "output_stride must be 8 or 16, got 32",
        ),
        ("inception_v3", {"last_pool": "mean"}, "last_pool must be 'avg' or 'max', got 'mean'"),
        (
            "inception_resnet_v2",
            {"paper": True, "align_feature_maps": True},
            "paper=True is the network of the paper, which has neither output_stride=8 nor align_feature_maps; omit"
            " them",
        ),
        ("inception_resnet_v2", {"residual_scale": 0}, "residual_scale must be in (0, 1], got 0"),
        ("inception_resnet_v1", {"residual_scale": 2}, "residual_scale must be in (0, 1], got 2"),
    ],
)
def test_mistaken_switch_is_answered_in_one_sentence(name, chosen, sentence):
    with pytest.raises(inception_tf.UserError, match=f"^{re.escape(sentence)}$"):
        inception_tf.create_model(name, **chosen)
