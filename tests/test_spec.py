# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of tables, by hand and against the documents' Table 1; without TensorFlow."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from inception_tf.arch import counting, spec
from inception_tf.arch.spec import AVG, HE, MAX, SAME, VALID, Auxiliary, Conv, Network, Pool, fork
from inception_tf.errors import UserError
from inception_tf.models import find_network

TINY = Network(
    name="tiny",
    source="this test",
    backbone=(
        ("Stem", Conv(8, 3, 2, VALID)),
        ("Mixed", fork((Conv(4),), (MAX, Conv(6, (1, 7))))),
    ),
    size=9,
    min_size=3,
    dropout=0.0,
    initializer=HE,
    auxiliaries=(
        Auxiliary(
            "Aux", "aux", "Mixed", (("Pool", Pool("avg", 5, 3, VALID)), ("Conv", Conv(5))), 0.3
        ),
    ),
)


def test_tables_import_neither_tensorflow_nor_keras():
    code = (
        "import sys, inception_tf, inception_tf.arch.spec, inception_tf.models, inception_tf.applications;"
        "inception_tf.list_models(); inception_tf.create_model;"
        "print(sorted({'tensorflow', 'keras', 'numpy'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "padding", "expected"),
    [
        (224, 7, 2, SAME, 112),
        (112, 3, 2, SAME, 56),
        (7, 3, 1, SAME, 7),
        (299, 3, 2, VALID, 149),
        (149, 3, 1, VALID, 147),
        (147, 3, 2, VALID, 73),
        (17, 5, 3, VALID, 5),
        (5, 5, 1, VALID, 1),
    ],
)
def test_output_side_follows_the_two_paddings(side, kernel, stride, padding, expected):
    assert spec.output_length(side, kernel, stride, padding) == expected


@pytest.mark.parametrize(
    ("filters", "multiplier", "expected"),
    [(32, 1.0, 32), (8, 1.0, 8), (64, 0.5, 32), (64, 0.33, 21), (64, 0.1, 16), (96, 1.5, 144)],
)
def test_width_is_rounded_down_and_never_below_sixteen(filters, multiplier, expected):
    assert spec.scale_filters(filters, multiplier) == expected


def test_stage_names_steps_in_order():
    assert spec.stage(5, "bc", MAX, AVG) == (("Mixed_5b", MAX), ("Mixed_5c", AVG))


def test_stage_repeats_one_step():
    assert spec.stage(7, "bcd", MAX) == tuple((f"Mixed_7{letter}", MAX) for letter in "bcd")


def test_walk_names_by_position_in_the_order_of_the_table():
    wide = fork((Conv(3),), (Conv(4),))
    places = list(spec.iter_layers("Mixed_7b", fork((Conv(1),), (AVG, Conv(2), wide))))
    assert [(p.name, p.path) for p in places] == [
        ("Mixed_7b_b0_0", (0, 0)),
        ("Mixed_7b_b1_0", (1, 0)),
        ("Mixed_7b_b1_1", (1, 1)),
        ("Mixed_7b_b1_2_b0_0", (1, 2, 0, 0)),
        ("Mixed_7b_b1_2_b1_0", (1, 2, 1, 0)),
    ]
    assert {p.endpoint for p in places} == {"Mixed_7b"}


@pytest.mark.parametrize(
    ("step", "depth"),
    [
        (Conv(1), 1),
        (MAX, 0),
        (fork((Conv(1),), (Conv(1), Conv(1, 3)), (MAX, Conv(1))), 2),  # Table 1: inception (3a)
        (
            fork(
                (Conv(1), fork((Conv(1),), (Conv(1),))),
            ),
            2,
        ),
    ],
)
def test_depth_counts_the_longest_path(step, depth):
    assert spec.depth_of(step) == depth


def test_costs_of_a_small_network_by_hand():
    rows = {row.layer.name: row for row in counting.layer_costs(TINY, classes=10)}
    assert {name: row.output for name, row in rows.items()} == {
        "Stem": (4, 4, 8),
        "Mixed_b0_0": (4, 4, 4),
        "Mixed_b1_0": (4, 4, 8),
        "Mixed_b1_1": (4, 4, 6),
        "Logits": (1, 1, 10),
    }
    kernel = 3 * 3 * 3 * 8
    assert (rows["Stem"].params, rows["Stem"].trainable) == (kernel + 24, kernel + 8)
    assert rows["Stem"].multiply_adds == kernel * 16
    assert rows["Mixed_b1_1"].params == 1 * 7 * 8 * 6 + 18
    assert rows["Mixed_b1_0"].params == 0
    assert rows["Logits"].params == rows["Logits"].trainable == (4 + 6) * 10 + 10
    assert rows["Logits"].multiply_adds == 100


def test_auxiliary_window_is_cut_to_a_small_feature_map():
    rows = {row.layer.name: row for row in counting.layer_costs(TINY, classes=10, aux_logits=True)}
    assert rows["Aux_Pool"].layer.step.kernel == 4
    assert rows["Aux_Conv"].output == (1, 1, 5)
    assert rows["Aux"].params == 5 * 10 + 10


def test_facts_take_height_and_width():
    assert counting.layer_costs(TINY, (9, 19))[0].output == (4, 9, 8)


def test_facts_below_the_minimum_are_refused():
    with pytest.raises(UserError, match=r"^tiny needs images of at least 3x3 pixels, got 2x9$"):
        counting.layer_costs(TINY, (2, 9))


# The documents' Table 1: side, channels in, #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj,
# params in K, ops in M.
# fmt: off
TABLE_1 = {
    "3a": (28, 192,  64,  96, 128, 16,  32,  32,  159, 128),
    "3b": (28, 256, 128, 128, 192, 32,  96,  64,  380, 304),
    "4a": (14, 480, 192,  96, 208, 16,  48,  64,  364,  73),
    "4b": (14, 512, 160, 112, 224, 24,  64,  64,  437,  88),
    "4c": (14, 512, 128, 128, 256, 24,  64,  64,  463, 100),
    "4d": (14, 512, 112, 144, 288, 32,  64,  64,  580, 119),
    "4e": (14, 528, 256, 160, 320, 32, 128, 128,  840, 170),
    "5a": ( 7, 832, 256, 160, 320, 32, 128, 128, 1072,  54),
    "5b": ( 7, 832, 384, 192, 384, 48, 128, 128, 1388,  71),
}
# fmt: on


@pytest.mark.parametrize("row", TABLE_1)
def test_costs_are_those_of_the_documents_table_1(row):
    side, channels, n1, r3, n3, r5, n5, pool, kilo, mega = TABLE_1[row]
    block = fork((Conv(n1),), (Conv(r3), Conv(n3, 3)), (Conv(r5), Conv(n5, 5)), (MAX, Conv(pool)))
    network = Network(row, "Table 1", ((row, block),), side, 1, 0.0, HE)
    rows = counting.layer_costs(network, side, channels, classes=None)
    # The table counts kernels alone.  Its own widths give 7 % more params in 4c, 5 % fewer in 5a.
    kernels = counting.total(rows, "multiply_adds") / side**2
    assert kernels / 1024 == pytest.approx(kilo, rel=0.08)
    assert counting.total(rows, "multiply_adds") / 1e6 == pytest.approx(mega, rel=0.06)


def test_a_gradient_step_costs_two_products_a_kernel_and_one_where_the_image_is_read():
    body = (
        ("pool", MAX),
        ("first", fork((Conv(4, 3),), (Conv(2), Conv(4)))),  # both branches read the image
        ("second", Conv(8)),
    )
    network = dataclasses.replace(TINY, backbone=body, auxiliaries=())
    rows = {row.layer.name: row for row in counting.layer_costs(network, 4, channels=1, classes=5)}
    ratios = {
        name: row.backward_multiply_adds / row.multiply_adds
        for name, row in rows.items()
        if row.multiply_adds
    }
    assert ratios == {
        "first_b0_0": 1,
        "first_b1_0": 1,
        "first_b1_1": 2,
        "second": 2,
        "Logits": 2,
    }


def test_of_a_separable_convolution_of_the_image_the_depthwise_part_needs_no_gradient_by_the_image():
    row = counting.layer_costs(find_network("inception_v2"))[0]
    depthwise, pointwise = (grid * 112**2 for grid in (7 * 7 * 3 * 8, 3 * 8 * 64))
    assert row.multiply_adds == depthwise + pointwise
    assert row.backward_multiply_adds == depthwise + 2 * pointwise
