# SPDX-License-Identifier: Apache-2.0
"""Figure 4's ensemble: its members, resuming, and that errors are those of the mean of probabilities."""

from __future__ import annotations

import csv
import itertools
import json

import numpy as np
import pytest

from inception_tf import cli
from inception_tf.experiments.ensemble import (
    PAPER,
    make_ensemble,
    subset_errors,
    write_figure4,
)
from inception_tf.experiments.short_runs import RunSettings

pytestmark = pytest.mark.usefixtures("always_short")

TINY = RunSettings(
    "digits", steps=1, size=32, width=0.05, rate_factor=1.0, every=30, validation_images=12
)
OPTIONS = (
    *("--data", "digits", "--members", "2", "--steps", "1", "--size", "32", "--width", "0.05"),
    *("--test-images", "12"),
)


def test_members_are_the_recipe_with_seeds_and_dropouts_of_their_own():
    configs = make_ensemble(TINY, 6).configs
    assert [config.training.seed for config in configs.values()] == list(range(6))
    # Ioffe and Szegedy 2015, section 4.2.3.
    assert [config.model.dropout for config in configs.values()] == [0.05, 0.1] * 3
    for config in configs.values():
        assert config.optimizer.learning_rate == 0.045
        assert config.model.switches["hidden_batch_norm"]
        assert config.model.initializer_gain > 1


def test_errors_are_those_of_the_mean_of_the_probabilities():
    """Three members and ten classes; top-k counted by sorting, as Figure 4 says it."""
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(10), (3, 50))
    classes = rng.integers(0, 10, 50)
    rows = subset_errors(probabilities, classes, 1)
    assert [(row.models, len(row.top1)) for row in rows] == [(1, 3), (2, 3), (3, 1)]
    for row in rows:
        subsets = itertools.combinations(range(3), row.models)
        for chosen, first, five in zip(subsets, row.top1, row.top5, strict=True):
            ranked = np.argsort(-sum(probabilities[n] for n in chosen), axis=1)
            assert first == pytest.approx(np.mean(ranked[:, 0] != classes))
            wrong = [true not in best for best, true in zip(ranked[:, :5], classes, strict=True)]
            assert five == pytest.approx(np.mean(wrong))


def test_the_papers_rows_are_figure_4():
    # arXiv 1502.03167, Figure 4: top-5 errors from the first row to the last, and the two that have a top-1 error.
    assert [row[5] for row in PAPER] == [6.67, 7.96, 7.42, 5.98, 7.82, 5.82, 4.9, 4.82]
    assert [row[4] for row in PAPER if row[4]] == [24.88, 25.2, 21.99, 20.1]


@pytest.mark.slow
def test_the_command_trains_evaluates_and_keeps_what_is_done(tmp_path, capsys):
    out = tmp_path / "ensemble"
    words = ["experiment", "ensemble", "--out", str(out), *OPTIONS]
    assert cli.main(words) == 0
    printed = capsys.readouterr().out
    assert "4.82%" in printed
    assert printed.count("here") == 4
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["images"] == {"train": 1437, "test": 12}
    with open(out / "figure4.csv", encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [(row["crops"], row["models"]) for row in rows] == [
        *(("1", "1"), ("1", "2"), ("144", "1"), ("144", "2")),
    ]
    assert (out / "figure4.png").stat().st_size > 1000

    # What is there is neither trained nor evaluated again.
    before = {path: path.stat().st_mtime_ns for path in out.glob("member-*/*")}
    (out / "figure4.csv").unlink()
    assert cli.main(words) == 0
    assert (out / "figure4.csv").is_file()
    assert {path: path.stat().st_mtime_ns for path in out.glob("member-*/*")} == before

    # Other images are evaluated, with the same members.
    fewer = make_ensemble(RunSettings(**report["setting"] | {"validation_images": 6}), 2)
    again = write_figure4(fewer, out, log=lambda line: None)
    assert again["images"]["test"] == 6

    # Other members are refused.
    assert cli.main([*words, "--width", "0.1"]) == 2
    assert "was trained with model.width_multiplier 0.05, not 0.1" in capsys.readouterr().err
