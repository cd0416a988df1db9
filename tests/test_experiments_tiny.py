# SPDX-License-Identifier: Apache-2.0
"""Each small experiment from its command to its files, in a tiny form."""

from __future__ import annotations

import json

import pytest

from inception_tf import cli
from inception_tf.experiments.catalog import EXPERIMENTS

QUICK = ("standardization",)  # the others take tens of seconds even so
OWN = ("factorization", "residual")  # in files of their own
TWO_SEEDS = ("bn-outside", "scale-invariance")


@pytest.mark.parametrize(
    "name",
    [
        name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
        for name in EXPERIMENTS
        if name not in OWN
    ],
)
def test_an_experiment_runs_from_its_command_to_its_files(name, tmp_path, capfd):
    words = ["--data", "digits", "--steps", "3", "--out", str(tmp_path / "out")]
    words += ["--seeds", "2" if name in TWO_SEEDS else "1"]
    assert cli.main(["experiment", name, *words]) == 0
    out, err = capfd.readouterr()
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    trials = {path.stem for path in (tmp_path / "out" / "trials").iterdir()}
    assert len(trials) == err.count(" s\n")
    for row in report["rows"]:
        missing = {column["key"] for column in report["columns"]} - set(row)
        assert not missing or "ms_" in "".join(missing)  # times stand once per network
    assert all(statement in out for statement in report["holds"])
    assert (tmp_path / "out" / "figure.png").read_bytes().startswith(b"\x89PNG")
