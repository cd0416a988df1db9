# SPDX-License-Identifier: Apache-2.0
"""Timings as rows, as CSV, as a picture, and beside each other."""

from __future__ import annotations

import csv
import json

import pytest
from timings import setting

from inception_tf import cli
from inception_tf.benchmark.plausibility import Peak
from inception_tf.benchmark.plot import plot
from inception_tf.benchmark.report import Timing
from inception_tf.benchmark.tables import (
    COLUMNS,
    compare_timings,
    read_timings,
    timing_rows,
    timings_to_csv,
)
from inception_tf.errors import UserError

pytestmark = pytest.mark.usefixtures("short_networks")


def timing(median: float, model: str = "inception_v1", peak: float | None = 4e9) -> dict:
    durations = (median, median, 3 * median)
    return Timing(setting(model=model), 1.0, durations, 2**30, Peak(peak), {}).as_dict()


def test_a_row_has_rates_of_the_median_and_the_share_of_the_peak():
    (row, bare) = timing_rows([timing(0.5), timing(0.25, peak=None)])
    figures = dict(zip(COLUMNS, row, strict=True))
    assert figures["median s"] == "0.5000"
    assert (figures["images/s"], figures["GFLOP/s"], figures["of peak"]) == ("8.0", "2", "40%")
    assert figures["MiB"] == "1,024"
    assert dict(zip(COLUMNS, bare, strict=True))["of peak"] == ""


def test_a_csv_file_has_a_column_for_each_single_figure():
    text = timings_to_csv([timing(0.5), timing(0.25)])
    found = list(csv.DictReader(text.splitlines()))
    assert [float(row["median"]) for row in found] == [0.5, 0.25]
    assert {"durations", "environment"}.isdisjoint(found[0])


def test_what_both_files_have_is_compared(tmp_path):
    ours, theirs = [timing(0.2), timing(0.1, "vgg16")], [timing(0.3), timing(0.1, "alexnet")]
    ((model, *_, a, b, ratio, suspect),) = compare_timings(ours, theirs)
    assert suspect == ""
    assert (model, a, b, ratio) == ("inception_v1", "0.2000", "0.3000", "1.50")


@pytest.mark.parametrize("content", ["[1]", "{", '[{"median": 1}]'])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(UserError, match=r"a\.json is not what `inception-tf benchmark forward"):
        read_timings(tmp_path / "a.json")


def test_a_suspect_side_of_a_comparison_is_named():
    ((*_, suspect),) = compare_timings([timing(0.1)], [timing(0.3)])
    assert suspect == "A"


def test_a_missing_file_is_one_sentence(tmp_path, capsys):
    paths = [str(tmp_path / name) for name in ("a.json", "b.json")]
    assert cli.main(["benchmark", "forward", "--compare", *paths]) == 2
    err = capsys.readouterr().err
    assert err == f"inception-tf: {paths[0]} is missing\n"


def test_a_picture_is_written(tmp_path):
    plot([timing(0.5), timing(0.25, "inception_v3")], tmp_path / "times.png")
    assert (tmp_path / "times.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("small_peak")
def test_the_command_times_all_and_prints_one_table_last(tmp_path, capsys):
    words = "benchmark forward --model inception_v1 --model googlenet --batch-size 1 --size 64"
    words += " --steps 1 --precision float32"
    files = {
        option: str(tmp_path / f"t.{ending}")
        for option, ending in (("--json", "json"), ("--csv", "csv"), ("--plot", "png"))
    }
    assert cli.main([*words.split(), *(word for pair in files.items() for word in pair)]) == 0
    out = capsys.readouterr().out.splitlines()
    table = [line for line in out if not line.startswith("suspect: ")]
    assert [line.split()[0] for line in table[-3:]] == ["model", "inception_v1", "googlenet"]
    assert [t["model"] for t in json.loads((tmp_path / "t.json").read_text())] == [
        *("inception_v1", "googlenet")
    ]
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 3
    assert (tmp_path / "t.png").is_file()

    both = [files["--json"]] * 2
    assert cli.main(["benchmark", "forward", "--compare", *both]) == 0
    out = capsys.readouterr().out
    assert "speed-up of A over B" in out
    assert out.count("1.00") == 2
