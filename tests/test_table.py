# SPDX-License-Identifier: Apache-2.0
"""The layer table against the GoogLeNet paper's Table 1, and its totals against the networks."""

from __future__ import annotations

import pytest
from expected import EXPECTED

import inception_tf
from inception_tf.arch import counting
from inception_tf.arch.spec import Fork
from inception_tf.arch.table import auxiliary_rows, summary
from inception_tf.models import find_network, variant

# fmt: off
# Szegedy et al. 2014, arXiv 1409.4842, Table 1 as printed:
# patch/stride, output size, depth, #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj, params (K), ops (M)
TABLE_1 = [
    ("convolution", "7x7/2", "112x112x64", 1, (),                            2.7,   34),
    ("max pool",    "3x3/2", "56x56x64",   0, (),                            0,     0),
    ("convolution", "3x3/1", "56x56x192",  2, (64, 192),                     112,   360),
    ("max pool",    "3x3/2", "28x28x192",  0, (),                            0,     0),
    ("inception",   "",      "28x28x256",  2, (64, 96, 128, 16, 32, 32),     159,   128),
    ("inception",   "",      "28x28x480",  2, (128, 128, 192, 32, 96, 64),   380,   304),
    ("max pool",    "3x3/2", "14x14x480",  0, (),                            0,     0),
    ("inception",   "",      "14x14x512",  2, (192, 96, 208, 16, 48, 64),    364,   73),
    ("inception",   "",      "14x14x512",  2, (160, 112, 224, 24, 64, 64),   437,   88),
    ("inception",   "",      "14x14x512",  2, (128, 128, 256, 24, 64, 64),   463,   100),
    ("inception",   "",      "14x14x528",  2, (112, 144, 288, 32, 64, 64),   580,   119),
    ("inception",   "",      "14x14x832",  2, (256, 160, 320, 32, 128, 128), 840,   170),
    ("max pool",    "3x3/2", "7x7x832",    0, (),                            0,     0),
    ("inception",   "",      "7x7x832",    2, (256, 160, 320, 32, 128, 128), 1072,  54),
    ("inception",   "",      "7x7x1024",   2, (384, 192, 384, 48, 128, 128), 1388,  71),
    ("avg pool",    "7x7/1", "1x1x1024",   0, (),                            0,     0),
    ("dropout (40%)", "",    "1x1x1024",   0, (),                            0,     0),
    ("linear",      "",      "1x1x1000",   1, (),                            1000,  1),
    ("softmax",     "",      "1x1x1000",   0, (),                            0,     0),
]
# fmt: on
FIXED = ("type", "name", "patch/stride", "output size", "depth", "params", "ops")


@pytest.mark.parametrize(
    ("row", "printed"), list(zip(summary(find_network("googlenet")), TABLE_1, strict=True)), ids=str
)
def test_googlenet_equals_table_1_in_every_row(row, printed):
    kind, patch, size, depth, widths, *_ = printed
    assert row["type"].split(",")[0] == kind
    assert (row["patch/stride"], row["output size"], row["depth"]) == (patch, size, depth)
    assert tuple(value for key, value in row.items() if key not in FIXED) == widths


def test_table_1_counts_a_separable_first_convolution_and_rounds_thousands_as_1024():
    """2.7K and 34M of the first row are those of slim's separable 7x7; the others count kernels alone, in 1,024."""
    first = summary(find_network("inception_v2"))[0]
    assert (round(first["params"] / 1024, 1), round(first["ops"] / 1e6)) == (2.7, 34)
    rows = summary(find_network("googlenet"))
    for row, printed in list(zip(rows, TABLE_1, strict=True))[1:]:
        *_, params, ops = printed
        assert row["params"] / 1024 == pytest.approx(params, rel=0.08, abs=0.01), row["name"]
        assert row["ops"] / 1e6 == pytest.approx(ops, rel=0.06, abs=0.5), row["name"]


@pytest.mark.parametrize("name", inception_tf.list_models())
def test_rows_add_up_to_the_network(name):
    rows, costs = summary(find_network(name)), counting.layer_costs(find_network(name))
    assert sum(row["params"] for row in rows) == counting.total(costs, "params")
    assert sum(row["ops"] for row in rows) == counting.total(costs, "multiply_adds")


@pytest.mark.parametrize("name", inception_tf.list_models())
def test_output_sizes_follow_the_image_size(name):
    network = find_network(name)
    rows = {row["name"]: row["output size"] for row in summary(network, network.size + 64)}
    last = counting.layer_costs(network, network.size + 64)[-2]
    assert rows[network.backbone[-1][0]].startswith(f"{last.output[0]}x{last.output[1]}x")


# The documents' Table 2, its auxiliary classifier; GoogLeNet's of Szegedy et al. 2014, section 5.
AUXILIARY = {
    "inception_v3": [
        ("auxiliary avg pool", "5x5/3", "5x5x768"),
        ("auxiliary convolution", "1x1/1", "5x5x128"),
        ("auxiliary convolution", "5x5/1", "1x1x768"),
        ("auxiliary linear", "", "1x1x1000"),
    ],
    "googlenet": [
        row
        for channels in (512, 528)
        for row in (
            ("auxiliary avg pool", "5x5/3", f"4x4x{channels}"),
            ("auxiliary convolution", "1x1/1", "4x4x128"),
            ("auxiliary convolution", "4x4/1", "1x1x1024"),
            ("auxiliary dropout (70%)", "", "1x1x1024"),
            ("auxiliary linear", "", "1x1x1000"),
        )
    ],
}


@pytest.mark.parametrize("name", list(AUXILIARY))
def test_auxiliary_classifiers_have_the_documents_rows(name):
    rows = auxiliary_rows(find_network(name))
    found = [(row["type"], row["patch/stride"], row["output size"]) for row in rows]
    assert found == AUXILIARY[name]


@pytest.mark.parametrize("name", list(EXPECTED))
def test_auxiliary_rows_add_up_to_the_published_count(name):
    rows = auxiliary_rows(find_network(name))
    assert sum(row["params"] for row in rows) == EXPECTED[name].auxiliary


def test_v3_has_48_layers_and_a_1x1_where_table_2_says_46_and_3x3():
    network = find_network("inception_v3")
    rows = {row["name"]: row for row in summary(network)}
    assert sum(row["depth"] for row in rows.values()) == 48
    assert rows["Conv2d_3b_1x1"]["patch/stride"] == "1x1/1"
    assert "Conv2d_3b_1x1" in network.notes[0]
    assert "48" in network.notes[1]


@pytest.mark.parametrize("name", ["inception", "bn_inception"])
def test_inception_says_that_its_paper_counts_other_parameters(name):
    network = find_network(name)
    counted = counting.total(counting.layer_costs(network), "params")
    assert "13.6 million parameters" in network.notes[0]
    assert f"{counted / 1e6:.1f} million" in network.notes[0]
    doubles = [
        branch[-1].filters
        for _, step in network.backbone
        if isinstance(step, Fork)
        for branch in step.branches
        if len(branch) == 3
    ]
    assert f"up to {max(doubles)} filters" in network.notes[0]
    assert f"25/9 = {25 / 9:.2f} times" in network.notes[1]
    assert f"25/18 = {25 / 18:.2f} times" in network.notes[1]


def test_branches_of_other_forms_are_spelled_out():
    rows = {row["name"]: row for row in summary(find_network("inception_v3"))}
    assert rows["Mixed_5b"]["branches"] == (
        "1x1 64; 1x1 48 > 5x5 64; 1x1 64 > 3x3 96 > 3x3 96; avg 3x3 > 1x1 32"
    )
    rows = {row["name"]: row for row in summary(find_network("inception_resnet_v2"))}
    assert (rows["Block17_1"]["type"], rows["Block17_1"]["depth"]) == ("inception-resnet", 4)


def test_the_documents_statements_about_cost_hold_or_are_off_as_the_readme_says():
    def cost(name, field):
        return counting.total(counting.layer_costs(find_network(name)), field)

    assert cost("googlenet", "params") == pytest.approx(7e6, rel=0.01)
    assert cost("googlenet", "multiply_adds") == pytest.approx(1.5e9, rel=0.06)
    assert cost("inception_v3", "multiply_adds") == pytest.approx(5.7e9, rel=0.01)  # not "5e9"
    assert cost("inception_v3", "params") < 60e6 / 2  # half of the paper's AlexNet
    assert cost("vgg16", "params") == pytest.approx(138e6, rel=0.01)


def test_a_variant_has_its_own_table():
    plain = summary(variant("googlenet", lrn=False))
    assert [row["type"] for row in plain][:2] == ["convolution", "max pool"]
