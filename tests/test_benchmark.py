# SPDX-License-Identifier: Apache-2.0
"""The timing report: its lines byte for byte, its figures, and what the clock counts."""

from __future__ import annotations

import dataclasses
import re
import time
from datetime import datetime

import pytest
from timings import setting

from inception_tf.benchmark.case import Case
from inception_tf.benchmark.plausibility import Peak
from inception_tf.benchmark.report import (
    Timing,
    least_bytes,
    percentile,
    step_line,
    summary_line,
)
from inception_tf.benchmark.run import clocked, time_case
from inception_tf.errors import UserError

STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}"


def test_the_lines_are_those_of_the_documents():
    assert (
        step_line(datetime(2018, 6, 23, 11, 43, 30, 350918), 0, 0.1671)
        == "2018-06-23 11:43:30.350918: step 0, duration = 0.167"
    )
    # Mean 0.168 and population standard deviation 0.002: with the sample's it would be 0.003.
    assert (
        summary_line(datetime(2018, 6, 23, 11, 43, 45, 939761), "Forward", [0.16551, 0.17049])
        == "2018-06-23 11:43:45.939761: Forward across 2 steps, 0.168 +/- 0.002 sec / batch"
    )


def test_a_whole_second_keeps_its_six_zeros():
    assert step_line(datetime(2018, 6, 23, 11, 43, 30), 10, 1.0).startswith(
        "2018-06-23 11:43:30.000000: step 10, "
    )


def test_ten_steps_burn_in_and_every_tenth_is_told():
    calls, lines = [], []
    durations = clocked(lambda: calls.append(1), 25, lines.append)
    assert len(calls) == 35
    assert len(durations) == 25
    assert [re.search(r"step (\d+)", line)[1] for line in lines] == ["0", "10", "20"]
    assert all(re.fullmatch(rf"{STAMP}: step \d+, duration = \d+\.\d{{3}}", line) for line in lines)


def test_the_clock_counts_all_that_a_step_does():
    durations = clocked(lambda: time.sleep(0.002), 3, lambda line: None)
    assert min(durations) >= 0.002


def test_percentiles_are_values_that_occurred():
    values = list(range(1, 101))
    assert (percentile(values, 90), percentile(values, 99), percentile([3.0], 99)) == (90, 99, 3.0)


def test_rates_follow_from_the_median():
    forward = setting(multiply_adds=1000, batch_size=8, size=32)
    figures = Timing(forward, 1.0, (0.1, 0.2, 0.9), 0, Peak(160e3), {}).as_dict()
    assert figures["images_per_second"] == pytest.approx(40)
    assert figures["flops_per_second"] == pytest.approx(2 * 1000 * 8 / 0.2)
    assert figures["share_of_peak"] == pytest.approx(0.5)
    backward = dataclasses.replace(forward, what="Forward-backward", backward_multiply_adds=1900)
    assert backward.operations == 2 * 2900 * 8


@pytest.mark.parametrize(
    ("what", "precision", "expected"),
    [
        ("Forward", "float32", 10 * 4),
        ("Forward", "bfloat16", 10 * 2),
        ("Forward", "int8", 10),
        ("Forward-backward", "float16", 10 * (2 + 4)),
        ("Train-step", "float32", 10 * (4 + 12)),
    ],
)
def test_a_step_moves_its_weights_and_its_images_at_least(what, precision, expected):
    assert least_bytes(what, precision, parameters=10, pixels=100) == expected + 400


def test_a_report_says_what_is_timed_and_ends_with_the_summary():
    lines = []
    case = Case("inception_v1", batch_size=2, size=32, steps=11, precision="float32")
    timing = time_case(case, lines.append)
    assert lines[0].startswith("inception_v1: 6,632,184 parameters, batch 2, 32x32, float32, ")
    assert re.fullmatch(
        rf"{STAMP}: Forward across 11 steps, \d+\.\d{{3}} \+/- \d+\.\d{{3}} sec / batch", lines[-1]
    )
    assert len(lines) == 4
    figures = timing.as_dict()
    assert len(figures["durations"]) == 11
    assert figures["median"] <= figures["p90"] <= figures["p99"]
    assert figures["peak_memory"] > 100e6
    # Building, tracing and freezing are in it, not only the first step.
    assert figures["compile_seconds"] > 10 * figures["median"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"batch_size": 0}, "the batch size must be at least 1, got 0"),
        ({"steps": 0}, "the number of steps must be at least 1, got 0"),
        ({"size": 20}, "inception_v1 needs images of at least 32x32 pixels, got 20x20"),
    ],
)
def test_a_setting_out_of_range_is_one_sentence(arguments, sentence):
    with pytest.raises(UserError) as error:
        time_case(Case("inception_v1", **arguments), print)
    assert str(error.value) == sentence
