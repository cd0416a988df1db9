# SPDX-License-Identifier: Apache-2.0
"""The scripts in benchmarks/: each says what it takes, and none prints a figure that is impossible."""

from __future__ import annotations

import importlib
import re
import sys

import click
import pytest
from click.testing import CliRunner

from inception_tf import UserError
from inception_tf.benchmark.plausibility import Peak
from inception_tf.data.skipped import OK
from inception_tf.inference.prediction import Prediction

SCRIPTS = (
    *("accelerator", "backends", "batch_norm", "convolutions", "data", "fid", "growth", "mlperf"),
    *("peers", "recorded", "records", "roofline", "serving", "shuffling", "soak", "step"),
    "training",
)
PEAK = Peak(100e9, 10e9)
OPERATIONS = 2 * 17_120_466_624 * 4  # of a training step of Inception V3 on four images


@pytest.fixture
def script(monkeypatch, root):
    """A function that imports one of the scripts, which import each other."""
    monkeypatch.syspath_prepend(root / "benchmarks")
    return importlib.import_module


@pytest.fixture
def limits(script):
    """A machine with 100 GFLOP/s in float32 and bfloat16 and 10 GB/s."""
    found = script("side_by_side").Limits(("float32", "bfloat16"), 1)
    found.flops, found.bytes = {"float32": 100e9, "bfloat16": 100e9}, 10e9
    return found


def test_all_scripts_are_asked_here(root):
    files = {path.stem for path in (root / "benchmarks").glob("*.py")}
    assert files == {*SCRIPTS, "side_by_side"}


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_names_the_options(script, name):
    result = CliRunner().invoke(script(name).main, ["--help"])
    assert (result.exit_code, "Options:" in result.output) == (0, True)


def measured(seconds: float, forward: float = 0.5) -> dict:
    process = {"seconds": [seconds] * 3, "compile_seconds": 30.0, "peak_memory": 2**30}
    bfloat16 = process | {"precision": "bfloat16"}
    return {
        "inception_tf": [bfloat16 | {"forward_seconds": forward, "aux_logits": False}],
        "inception_tf, fit": [bfloat16 | {"share": 0.99}],
        "timm, eager": [bfloat16 | {"seconds": [2 * seconds] * 3}],
        "keras.applications": [process | {"precision": "float32"}],
    }


SETTINGS = {"model": "inception_v3", "size": 299, "batch_size": 4}


def test_the_page_of_training_has_ratios_and_rates(script, limits):
    lines = script("training").page(SETTINGS, measured(2.0), limits).splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line[:1] == "|"]
    assert lines[0].endswith(f"{OPERATIONS / 1e9:,.0f} GFLOP a step")
    assert [row[:7] for row in rows[2:]] == [
        ["inception_tf", "bfloat16", "2.000", "2.00", "1.00", "68", "68%"],
        ["timm, eager", "bfloat16", "4.000", "1.00", "2.00", "34", "34%"],
        ["keras.applications", "float32", "2.000", "2.00", "1.00", "68", "68%"],
    ]
    assert "99.0% of the time is the step" in lines[-1]
    assert "1.00 of the time of `fit`'s" in lines[-1]


@pytest.mark.parametrize(
    ("figures", "reason"),
    [
        (measured(1.0), "inception_tf, process 1 is impossible: 137% of the peak rate"),
        (
            measured(2.0, forward=1.6),
            "inception_tf, process 1 is impossible: 1.25 times its forward",
        ),
        (
            measured(2.0) | {"timm, eager": measured(1.0)["inception_tf, fit"]},
            "timm, eager, process 1 is impossible: 137% of the peak rate",
        ),
        (measured(40.0), "is impossible: compilation took 30 s, less than one step"),
    ],
)
def test_training_refuses_what_cannot_be(script, limits, figures, reason):
    with pytest.raises(UserError, match=reason):
        script("training").page(SETTINGS, figures, limits)


def test_peers_refuse_what_cannot_be(script, limits):
    common = {"model": "inception_v3", "batch": 4, "size": 299}
    ours, theirs = ("inception_tf, tensorflow", "bfloat16"), ("timm", "float32")
    memory = {ours: 2**30, theirs: 2**31}
    page = script("peers").page
    table = page(common, {ours: [1.0], theirs: [2.0]}, memory, limits).splitlines()
    assert table[-1] == "| timm | float32 | 2.0000 | 2.0 | 2.00 | 2,048 |"
    with pytest.raises(UserError, match=r"^timm, float32 is impossible: 457% of the peak rate"):
        page(common, {ours: [1.0], theirs: [0.1]}, memory, limits)


@pytest.mark.parametrize(("meanwhile", "code"), [(4e12, 0), (4e10, 2)])
def test_peers_measure_the_machine_again_when_a_figure_is_above_its_limits(
    script, monkeypatch, meanwhile, code
):
    """It may be faster for the time of one peer."""
    peers, seconds = script("peers"), []

    def answer(*words, **more):
        seconds.append(100.0 if seconds else 1.0)
        return seconds[-1:], 2**30

    def measure(limits):
        rate = meanwhile if len(seconds) == 1 else 4e10
        limits.flops = {p: max(rate, limits.flops.get(p, 0)) for p in ("float32", "bfloat16")}

    monkeypatch.setattr(peers.Limits, "measure", measure)
    monkeypatch.setattr(peers, "answer", answer)
    words = ["--only", "inception_tf, tensorflow", "--rounds", "1"]
    result = CliRunner().invoke(peers.main, words)
    assert len(seconds) == 2
    assert result.exit_code == code, result.output
    assert ("is impossible" in result.output) == (code == 2)
    assert ("| 1.0000 | 32.0 | 1.00 |" in result.output) == (code == 0)


def test_roofline_refuses_a_stage_above_the_roof(script):
    roofline = script("roofline")
    sound, whole = (
        roofline.Stage("8x8", 80e9, 1e9, 1.0),
        roofline.Stage("one graph", 80e9, 2e9, 1.0),
    )
    assert "| 8x8 | 80.0 |" in roofline.page("V3", [sound], whole, PEAK)
    for operations, moved, reason in ((110e9, 1e9, "110% of the peak rate"), (1e9, 11e9, "memory")):
        with pytest.raises(UserError, match=f"^8x8 is impossible: .*{reason}"):
            roofline.page("V3", [roofline.Stage("8x8", operations, moved, 1.0)], whole, PEAK)


def test_roofline_names_every_mark(script, tmp_path):
    roofline = script("roofline")
    rows = [roofline.Stage(f"{n}x{n}", n * 1e9, 1e8, 1.0) for n in (8, 9, 10, 11, 12)]
    roofline.draw(rows, PEAK, tmp_path / "roof.png", "V3")
    assert (tmp_path / "roof.png").stat().st_size > 1000


def test_growth_refuses_what_cannot_be(script):
    growth = script("growth")
    one = {"seconds": [1.0], "operations": 80e9, "least_bytes": 1e9, "limits": [100e9, 10e9]}
    one |= {"memory": 3 << 20, "least_memory": 2 << 20}
    growth.refuse({("batch", 2, 8): [one]})
    growth.refuse({("batch", 2, 8): [one | {"limits": [50e9, 1e9]}, one]})  # the better counts
    with pytest.raises(UserError, match=r"^batch, 2, 8 is impossible: 160% of the peak rate"):
        growth.refuse({("batch", 2, 8): [one | {"seconds": [0.5]}]})
    sentence = r"^batch, 2, 8 is impossible: 1\.0 MiB, and its largest feature maps take 2\.0 MiB"
    with pytest.raises(UserError, match=sentence):
        growth.refuse({("batch", 2, 8): [one, one | {"memory": 1 << 20}]})


@pytest.mark.slow
def test_growth_measures_the_memory_of_a_pass(script):
    growth = script("growth")
    small, large = (
        growth.measure(growth.Point(1, "float32", 1, batch=batch, size=75, width=0.25))["memory"]
        for batch in (16, 32)
    )
    assert large / small == pytest.approx(2, rel=0.2)


def test_growth_writes_values_on_its_axes(script):
    ticks = script("growth").ticks
    assert ticks(0.5, 2000) == [1, 10, 100, 1000]
    assert len(ticks(39, 64)) >= 3


def test_batch_norm_refuses_what_cannot_be(script):
    page = script("batch_norm").page
    peaks = dict.fromkeys(("float32", "mixed_bfloat16"), PEAK)
    found = {
        (precision, what, layer): seconds
        for precision in peaks
        for layer in ("keras", "ours")
        for what, seconds in (("training step", 0.3), ("forward", 0.1))
    }
    assert page("inception_v1", 64, 4, found, peaks).count("\n") == 5
    found["float32", "training step", "ours"] = 0.12
    with pytest.raises(UserError, match=r"^training step, float32, ours is impossible: 1.20 times"):
        page("inception_v1", 64, 4, found, peaks)


def test_a_refusal_is_one_sentence_with_exit_code_2(script):
    @click.command()
    def main():
        with script("side_by_side").one_sentence():
            raise UserError("timm cannot be")

    result = CliRunner().invoke(main)
    assert (result.exit_code, result.output) == (2, "Error: timm cannot be\n")


def test_a_program_in_a_process_of_its_own_answers_fails_or_is_missing(script):
    answer = script("side_by_side").answer
    assert (
        answer(sys.executable, "import sys", "7", clock="print('noise')\nprint(sys.argv[1])") == 7
    )
    assert answer(sys.executable, "import no_such_package") is None
    with pytest.raises(click.ClickException, match="no_such_package"):
        answer(sys.executable, "pass", clock="import no_such_package")


class Echo:
    """A client whose answers name their images."""

    def __init__(self, fails: bool = False):
        self.fails, self.images = fails, []

    def predict(self, images, top=1):
        if self.fails:
            raise UserError("the server is gone")
        self.images += images
        return [Prediction("0", OK, ((image.decode(), 1.0),)) for image in images]


@pytest.mark.parametrize("scenario", ["single-stream", "server", "offline"])
def test_mlperfs_generator_asks_for_every_query_and_a_failure_ends_it(script, scenario):
    generator = pytest.importorskip("mlperf_loadgen")
    mlperf = script("mlperf")
    settings = {"queries": 20, "seconds": 0.1, "bound": 0.5, "rate": 200.0}
    images, client = [b"a", b"b", b"c"], Echo()
    found = mlperf.run_scenario(generator, client, images, scenario, 2, **settings)
    assert len(client.images) >= 20
    assert set(client.images) == set(images)
    assert float(found["99.00 percentile latency (ns)"]) > 0
    assert re.match(
        rf"\| {scenario} \| [\d.]+ \S+ \| \d+ \| \d+ \| (IN)?VALID \|", mlperf.row(scenario, found)
    )
    with pytest.raises(click.ClickException, match="requests failed: the server is gone"):
        mlperf.run_scenario(generator, Echo(fails=True), images, scenario, 2, **settings)


def test_a_block_shuffle_mixes_sorted_records_less_than_a_permutation(
    script, monkeypatch, tmp_path
):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    words = ["--records", "3000", "--classes", "30", "--batches", "40"]
    result = CliRunner().invoke(script("shuffling").main, words, catch_exceptions=False)
    rows = [line.strip("| ").split(" | ") for line in result.output.splitlines()[2:]]
    classes = {name: float(several) for name, several, _ in rows}
    near = {name: float(part.rstrip("%")) for name, _, part in rows}
    small = "`block`, `shuffle_images=512`"
    # By chance: 30 * (1 - (29 / 30) ** 32), and 64 records on either side of 3,000.
    assert classes["`full`"] == pytest.approx(19.9, abs=0.5)
    assert near["`full`"] == pytest.approx(4.3, abs=0.4)
    assert classes[small] < 12
    assert near[small] > 10
