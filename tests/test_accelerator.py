# SPDX-License-Identifier: Apache-2.0
"""The one command for a card that is at hand for minutes: what it plans, keeps, leaves out and refuses to show."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import ramps

from inception_tf.benchmark import peak
from inception_tf.models import find_network

pytestmark = pytest.mark.usefixtures("short_networks")

OTHER_PYTHON = "INCEPTION_TF_PYTHON_WITHOUT_TENSORFLOW"


@pytest.fixture(scope="module")
def plan(root):
    sys.path.insert(0, str(root / "benchmarks"))
    from accelerator_parts import plan

    yield plan
    sys.path.remove(str(root / "benchmarks"))


@pytest.fixture(scope="module")
def processes(plan):
    from accelerator_parts import processes

    return processes


@pytest.fixture(scope="module")
def tasks(plan):
    from accelerator_parts import tasks

    return tasks


@pytest.fixture(scope="module")
def page(plan):
    from accelerator_parts import page

    return page


@pytest.fixture
def options(tmp_path):
    return {"tiny": True, "files": {}, "work": str(tmp_path)}


def titles(plan, part, tiny):
    return [plan.title(task) for group in plan.groups(part, tiny) for task in group["tasks"]]


@pytest.mark.parametrize("tiny", [False, True])
def test_every_part_has_tasks_of_names_of_their_own(plan, tiny):
    assert sum(plan.SHARES.values()) == pytest.approx(1)
    for part in plan.SHARES:
        named = titles(plan, part, tiny)
        assert len(named) == len(set(named)) > 0


def test_each_part_begins_with_what_matters_most(plan):
    assert titles(plan, "networks", False)[0] == "inception_v3, forward, batch 256, bfloat16"
    assert titles(plan, "train-step", False)[0] == ("inception_v3, train-step, batch 64, bfloat16")
    assert len(titles(plan, "networks", False)) == 11 * 3 * 2
    assert "inception_v3, forward, batch 32, float32 without TF32" in titles(plan, "report", False)


def test_what_there_is_no_time_for_is_listed(plan, processes, options):
    part = processes.run_part("networks", time.monotonic() - 1, options)
    assert part["results"] == []
    assert {one["reason"] for one in part["not_run"]} == {"no time"}
    assert [one["task"] for one in part["not_run"]] == titles(plan, "networks", True)


def test_a_process_that_fails_is_listed_with_its_exit_code(processes, options, monkeypatch):
    task = {"do": "memory", "case": {"kind": "forward", "model": "x", "batch_size": 1}}
    task["case"]["precision"] = "float32"
    broken = {"backend": "jax", "tasks": [task]}
    monkeypatch.setattr(processes, "groups", lambda part, tiny: [broken])
    monkeypatch.setattr(processes.sys, "executable", "/bin/false")
    part = processes.run_part("memory", time.monotonic() + 60, options)
    assert [one["reason"] for one in part["not_run"]] == ["its process ended with 1"]


def test_a_process_that_takes_too_long_is_ended_and_keeps_what_it_wrote(
    processes, options, monkeypatch, tmp_path
):
    slow = tmp_path / "slow"
    slow.write_text('#!/bin/sh\necho \'{"task": 0, "memory": 1}\' >"$5"\nexec sleep 60\n')
    slow.chmod(0o755)
    monkeypatch.setattr(processes.sys, "executable", str(slow))
    monkeypatch.setattr(processes, "GRACE_S", 0.5)
    started = time.monotonic()
    found, over, _ = processes.run_child({"backend": "jax", "tasks": []}, started + 1, options)
    assert (found, over) == ({0: {"memory": 1}}, True)
    assert time.monotonic() - started < 45


def timed(seconds: float, model: str = "inception_v3") -> dict:
    """A result of the part `networks`, its machine at best at 100 GFLOP/s."""
    timing = {
        "model": model,
        "batch_size": 2,
        "size": 75,
        "precision": "bfloat16",
        "median": seconds,
        "peak_flops_per_second": 1e11,
        "flops_per_second": 4e10 / seconds,
        "forward_seconds": None,
        "compile_seconds": 9.0,
        "suspect": [],
    }
    case = {"precision": "bfloat16", "model": model, "kind": "forward", "batch_size": 2}
    return {"task": f"{model} in {seconds}", "case": case, "timing": timing}


def record(results: list[dict]) -> dict:
    part = {"seconds": 1.0, "results": results, "not_run": [{"task": "t", "reason": "no time"}]}
    return {"device": "card", "about": "v", "command": "c", "parts": {"networks": part}}


def test_a_figure_that_cannot_be_is_listed_and_not_shown(page):
    found = record([timed(1.0), timed(0.1, "vgg16")])
    page.judge(found)
    shares = [r["timing"]["share_of_peak"] for r in found["parts"]["networks"]["results"]]
    assert shares == pytest.approx([0.4, 4.0])
    text = page.render(found)
    assert "| inception_v3 | 2 | 75 | bfloat16 | 1000.00 | 2 | 40 | 40% | 9.0 |" in text
    assert "| vgg16" not in text
    assert "- vgg16 in 0.1: impossible: 400% of the peak rate" in text
    assert "- t: no time" in text


def test_the_cases_of_a_network_are_timed_and_one_that_fails_leaves_the_others(tasks, monkeypatch):
    monkeypatch.setattr(peak, "SIDE", 256)  # four peaks are measured, with seven products each
    monkeypatch.setattr(peak, "IMAGES", 1)
    case = {"kind": "forward", "model": "googlenet", "size": 32, "steps": 1, "backend": "keras"}
    cases = [
        {"do": "time", "case": case | {"batch_size": batch, "precision": precision}}
        for batch, precision in ((2, "float32"), (2, "bfloat16"), (1, "float32"))
    ]
    cases.append({"do": "time", "case": cases[0]["case"] | {"model": "alexnet"}})
    found, failed = {}, {}

    def done(number, timing=None, error=None):
        (found if timing else failed)[number] = timing or error

    tasks._time_all(cases, done)
    assert sorted(found) == [0, 1, 2]
    assert found[1]["precision"] == "bfloat16"
    assert found[1]["share_of_peak"] > 0
    assert found[0]["lines"][-1].endswith(" sec / batch")
    assert failed[3].startswith("UserError: alexnet needs images of at least 195x195")


def test_digits_from_a_file_are_those_of_scikit_learn(plan, tmp_path):
    from accelerator_parts import training

    training.write_digits(tmp_path / "digits.npz")
    images, labels = training.read_digits(str(tmp_path / "digits.npz"))
    again, _ = training.read_digits(None)
    assert images.shape == (1797, 48, 48, 3)
    assert (images == again).all()
    assert (images.min(), images.max()) == (-1, 1)
    assert labels.sum() == 1797


def test_arrays_train_a_network_with_its_auxiliary_classifiers_in_two_phases(plan, all_short):
    from accelerator_parts import training

    size = find_network("googlenet").min_size
    images = ramps.images(10, size, size, 3)
    labels, used, lines = np.eye(2, dtype="float32")[np.arange(10) % 2], [], []

    def batch_of(chosen, random):
        used.append(len(chosen))
        return images[chosen]

    settings = ["model.name=googlenet", "model.width_multiplier=0.05", f"model.size={size}"]
    settings += ["data.batch_size=4", "model.aux_logits=true", "optimizer.ema=0.9"]
    settings += ["training.epochs=3", "training.head_epochs=1", "optimizer.head_learning_rate=0.01"]
    found = training.fit_arrays(
        *("default", settings, labels, batch_of, (images, labels)),
        precision="float32",
        test_batch=5,
        say=lines.append,
    )
    assert (len(found["accuracy"]), len(found["loss"])) == (3, 3)
    assert (found["images"], found["tested"], found["loss_scale"]) == (8, 10, 1.0)
    assert set(used) == {4}
    assert [line.partition(":")[0] for line in lines] == ["epoch 1", "epoch 2", "epoch 3"]


@pytest.mark.alone
@pytest.mark.slow
def test_the_rehearsal_runs_every_part_without_tensorflow(plan, root, tmp_path):
    python = os.environ.get(OTHER_PYTHON)
    if not python:
        pytest.skip(f"{OTHER_PYTHON} names no interpreter with jax and torch")
    words = [python, str(root / "benchmarks/accelerator.py"), "--tiny", "--out", str(tmp_path)]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    found = json.loads((tmp_path / "accelerator.json").read_text())
    assert list(found["parts"]) == list(plan.SHARES)
    for name, part in found["parts"].items():
        # Photographs and weights do not come with the project.
        assert [n["task"] for n in part["not_run"]] == titles(plan, name, True)[
            len(part["results"]) :
        ]
        assert len(part["not_run"]) == (name == "training")
    assert (tmp_path / "accelerator.md").read_text().startswith("# Inception on ")
