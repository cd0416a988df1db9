# SPDX-License-Identifier: Apache-2.0
"""Factorized convolutions: their cost against Keras' own layers, networks of equal cost, and the whole in tiny form."""

from __future__ import annotations

import json

import keras
import pytest

from inception_tf import cli
from inception_tf.arch.counting import layer_costs, total
from inception_tf.experiments.studies import factorization
from inception_tf.experiments.studies.factorization import (
    EARLY,
    KINDS,
    MIDDLE,
    costs,
    equal_cost_network,
)

# Szegedy et al. 2015, section 3: 28 % are saved by two 3x3 for a 5x5, 33 % by 1x3 and 3x1 and 11 % by two 2x2 for a 3x3.
SAVED = {
    ("two 3x3", "5x5"): 0.28,
    ("1x3 and 3x1", "3x3"): 0.33,
    ("two 2x2", "3x3"): 0.11,
}


@pytest.mark.parametrize("pair", SAVED, ids=" for ".join)
def test_as_much_is_saved_as_the_paper_says(pair):
    (kernels, operations), (other, others) = (costs(kind, 14, 128) for kind in pair)
    assert 1 - kernels / other == pytest.approx(SAVED[pair], abs=0.005)
    assert 1 - operations / others == pytest.approx(SAVED[pair], abs=0.005)


@pytest.mark.parametrize("kind", KINDS)
def test_the_numbers_are_those_of_keras_convolutions(kind):
    windows = {"5x5": [5], "two 3x3": [3, 3], "3x3": [3], "two 2x2": [2, 2]}
    windows |= {"1x3 and 3x1": [(1, 3), (3, 1)], "1x7 and 7x1": [(1, 7), (7, 1)]}
    layers = [
        keras.layers.Conv2D(6, window, padding="same", use_bias=False) for window in windows[kind]
    ]
    model = keras.Sequential([keras.Input((9, 9, 6)), *layers])
    assert costs(kind, 9, 6) == (model.count_params(), 81 * model.count_params())


@pytest.mark.parametrize("grid", [EARLY, MIDDLE])
def test_networks_cost_the_same_and_replace_on_their_grid(grid):
    found = {}
    for kind in KINDS:
        rows = layer_costs(equal_cost_network(kind, grid), classes=10)
        blocks = [row for row in rows if row.layer.name.startswith("block_")]
        assert {row.output[:2] for row in blocks} == {(grid, grid)}
        assert rows[-2].output == (8, 8, 64)
        found[kind] = sum(row.multiply_adds for row in blocks), total(rows, "multiply_adds")
    for replaced, whole in found.values():
        assert replaced == pytest.approx(factorization.BUDGET, rel=0.15)
        assert whole == pytest.approx(5.4e6, rel=0.14)


@pytest.mark.slow
def test_the_command_times_trains_and_draws(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(factorization, "GRIDS", {14: 8, 7: 16})
    monkeypatch.setattr(factorization, "ROUNDS", 2)
    out = tmp_path / "factorization"
    words = ["experiment", "factorization", "--data", "digits", "--steps", "2", "--seeds", "1"]
    assert cli.main([*words, "--out", str(out)]) == 0
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert [row["kind"] for row in report["rows"]] == list(KINDS)
    assert all(row["time_14"] > 0 for row in report["rows"])
    assert next(row for row in report["rows"] if row["kind"] == "3x3")["time_7"] == 1
    assert len(list((out / "trials").iterdir())) == 2 + 2 * len(KINDS)
    assert "25/9 = 2.78" in capsys.readouterr().out
