# SPDX-License-Identifier: Apache-2.0
"""Figures that are impossible are marked, with the reason, wherever they are shown, and no page takes them."""

from __future__ import annotations

import json

import pytest
from timings import setting

from inception_tf import UserError, cli
from inception_tf.benchmark import steps, tables
from inception_tf.benchmark.plausibility import Evidence, Peak, refuse_suspect, suspicions
from inception_tf.benchmark.plot import plot
from inception_tf.benchmark.report import Timing

pytestmark = pytest.mark.usefixtures("short_networks")

PEAK = Peak(flops=100e9, bytes=10e9)


def evidence(**changes) -> Evidence:
    """A gradient step at 80 % of the peak, three times its forward pass."""
    sound = {
        "seconds": 1.0,
        "operations": 80e9,
        "least_bytes": 1e9,
        "peak": PEAK,
        "compile_seconds": 5.0,
        "forward_seconds": 1 / 3,
    }
    return Evidence(**(sound | changes))


def test_a_figure_within_all_limits_is_not_suspect():
    assert suspicions(evidence()) == ()
    assert suspicions(evidence(operations=105e9)) == ()  # a limit has an error, too
    assert suspicions(Evidence(1.0, 1e15, 1e15)) == ()  # with nothing to hold it against


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"operations": 214e9}, "214% of the peak rate that was measured on this machine"),
        ({"operations": 106e9}, "106% of the peak rate"),
        ({"least_bytes": 11e9}, "110% of the peak memory bandwidth"),
        ({"compile_seconds": 0.01}, "compilation took 0.01 s, less than one step"),
        ({"forward_seconds": 0.7}, "1.43 times its forward pass in training mode"),
        ({"seconds": 0.0}, "a step took 0 s"),
        ({"seconds": float("nan")}, "a step took nan s"),
    ],
)
def test_a_figure_beyond_a_limit_says_which(changes, reason):
    (found,) = suspicions(evidence(**changes))
    assert found.startswith(reason)


def test_the_better_of_two_measured_limits_counts():
    assert Peak(1.0, None).better(Peak(2.0, 3.0)) == Peak(2.0, 3.0)
    assert Peak(2.0, 3.0).better(Peak(1.0, 4.0)) == Peak(2.0, 4.0)
    assert Peak().better(Peak()) == Peak()


def timing(seconds: float, model: str = "inception_v3") -> dict:
    figures = {"parameters": 10**6, "multiply_adds": 10**9, "batch_size": 16}
    made = setting(model=model, precision="bfloat16", **figures)
    return Timing(made, 9.0, (seconds,) * 3, 2**30, PEAK, {}).as_dict()


def test_a_suspect_figure_is_marked_in_json_table_csv_and_plot(tmp_path):
    sound, wrong = timing(0.5), timing(0.1)
    assert (sound["suspect"], len(wrong["suspect"])) == ([], 1)
    column = tables.COLUMNS.index("suspect")
    assert [row[column] for row in tables.timing_rows([sound, wrong])] == ["", "suspect"]
    (line,) = tables.suspect_lines([sound, wrong])
    assert line.startswith("suspect: inception_v3, forward, bfloat16, batch 16: 320% of the peak")
    assert "320% of the peak rate" in tables.timings_to_csv([sound, wrong]).splitlines()[2]
    pictures = [tmp_path / "sound.png", tmp_path / "wrong.png"]
    for picture, seconds in zip(pictures, (0.5, 0.1), strict=True):
        plot([timing(seconds)], picture)
    assert pictures[0].read_bytes() != pictures[1].read_bytes()


def test_what_writes_a_page_refuses_a_suspect_figure():
    refuse_suspect([("ours", timing(0.5)), ("theirs", evidence())])
    with pytest.raises(
        UserError, match=r"^ours is impossible: 320% of the peak rate .* nothing is written"
    ):
        refuse_suspect([("ours", timing(0.1))])
    with pytest.raises(UserError, match="^theirs is impossible: 1.43 times its forward pass"):
        refuse_suspect([("theirs", evidence(forward_seconds=0.7))])


@pytest.mark.usefixtures("small_peak")
def test_a_clock_that_leaves_the_gradients_out_is_suspect(monkeypatch, capsys, tmp_path):
    """The command itself, with a step that computes a forward pass alone, and one without statistics."""
    monkeypatch.setattr(
        steps.passes,
        "gradients",
        lambda model, how: steps.passes.forward(model, how),
    )
    words = "benchmark forward-backward --model inception_v1 --size 64 --batch-size 4 --steps 20"
    file = tmp_path / "times.json"
    assert cli.main([*words.split(), "--precision", "float32", "--json", str(file)]) == 0
    (found,) = json.loads(file.read_text())
    assert any("forward pass in training mode" in reason for reason in found["suspect"])
    assert (
        capsys.readouterr()
        .out.splitlines()[-1]
        .startswith("suspect: inception_v1, forward-backward")
    )
