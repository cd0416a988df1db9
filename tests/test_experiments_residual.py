# SPDX-License-Identifier: Apache-2.0
"""Inception-v4's and Inception-ResNet's blocks: equal cost, the papers' branches, and the whole in tiny form."""

from __future__ import annotations

import json

import pytest

from inception_tf import cli
from inception_tf.arch.counting import layer_costs, total
from inception_tf.arch.spec import Conv, Fork, Pool, Residual
from inception_tf.experiments.studies.residual import (
    BLOCKS,
    KINDS,
    PLAIN,
    SCALES,
    small_network,
)
from inception_tf.models import inception_resnet
from inception_tf.models.inception_v4 import A


def windows(branches):
    """The kind and window of each step of each branch."""
    return [
        [(type(step), step.window) for step in branch if isinstance(step, Conv | Pool)]
        for branch in branches
    ]


def test_networks_cost_the_same():
    counted = [layer_costs(small_network(kind), classes=10) for kind in KINDS]
    for field in ("multiply_adds", "params"):
        numbers = [total(rows, field) for rows in counted]
        assert max(numbers) / min(numbers) < 1.02, field


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_have_the_papers_branches_and_scale(kind):
    blocks = [step for name, step in small_network(kind).backbone if name.startswith("block_")]
    assert len(blocks) == BLOCKS
    for block in blocks:
        if kind == PLAIN:
            assert isinstance(block, Fork)
            assert windows(block.branches) == windows(A.branches)
        else:
            assert isinstance(block, Residual)
            assert block.scale == SCALES[kind]
            assert windows(block.branches) == windows(inception_resnet.V2_BLOCK35)


def test_the_scales_are_one_and_the_ends_of_what_the_paper_recommends():
    # Szegedy et al. 2016, section 3.3.
    assert sorted(SCALES.values()) == [0.1, 0.3, 1.0]


@pytest.mark.slow
def test_the_command_trains_and_draws(tmp_path, capfd):
    out = tmp_path / "residual"
    words = ["experiment", "residual", "--data", "digits", "--steps", "2", "--seeds", "1"]
    assert cli.main([*words, "--out", str(out)]) == 0
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert len(report["rows"]) == 2 * len(KINDS)
    assert len(list((out / "trials").iterdir())) == len(report["rows"])
    printed = capfd.readouterr().out
    assert all(statement in printed for statement in report["holds"])
    assert all(0 <= row["accuracy"] <= 1 for row in report["rows"] if not row["diverged"])
    assert (out / "figure.png").stat().st_size > 1000
