# SPDX-License-Identifier: Apache-2.0
"""The timing of the training data: stages that add up, and who waits for whom."""

from __future__ import annotations

import json

import pytest

from inception_tf import cli
from inception_tf.benchmark.data import DataTiming, time_data
from inception_tf.config import Config
from inception_tf.errors import UserError

pytestmark = pytest.mark.usefixtures("short_networks")

SMALL = ("model.name=googlenet", "model.size=32", "model.width_multiplier=0.25")


def _timing(step):
    stages = {"read": 1000.0, "decode": 200.0, "distort": 250.0}
    return DataTiming("a", "b", 32, 224, "float32", stages, step)


def test_each_stage_is_what_it_adds_to_those_before_it():
    added = _timing(100.0).milliseconds
    assert added == pytest.approx({"read": 1.0, "decode": 4.0, "distort": 0.0})


def test_the_slower_of_pipeline_and_network_is_named():
    assert _timing(249.0).slower == "model"
    assert _timing(251.0).slower == "data"


@pytest.mark.alone
@pytest.mark.slow
def test_the_stages_of_files_are_timed(class_folders):
    folder = class_folders(blue=6, red=6)
    words = (f"data.name='folder:{folder}'", "data.batch_size=4", "data.photometric=reduced")
    timing = time_data(Config().override([*SMALL, *words]), steps=2)
    assert list(timing.stages) == ["read", "decode", "distort"]
    assert all(rate > 0 for rate in (*timing.stages.values(), timing.step))


def test_the_command_prints_a_table_a_sentence_and_json(capsys, tmp_path):
    file = tmp_path / "data.json"
    words = "benchmark data --data digits --model googlenet --size 32 --batch-size 8 --steps 2"
    words += " --set model.width_multiplier=0.25 --set training.precision=float32"
    assert cli.main([*words.split(), "--json", str(file)]) == 0
    out = capsys.readouterr().out
    result = json.loads(file.read_text())
    assert list(result["stages"]) == ["decode", "distort"]  # the digits are pixels already
    assert out.splitlines()[0] == "digits: batch 8, 32x32, recipe default"
    assert (
        f"{result['step']:.1f} images/s of training; the {result['slower']} is the bottleneck"
        in out
    )


def test_no_steps_are_refused():
    with pytest.raises(UserError, match="the number of steps must be at least 1, got 0"):
        time_data(Config(), steps=0)
