# SPDX-License-Identifier: Apache-2.0
"""What can be timed, and each way of timing it."""

from __future__ import annotations

import re
from contextlib import nullcontext
from importlib import metadata

import pytest
from small_runs import only

from inception_tf.benchmark.case import KINDS, Case
from inception_tf.benchmark.run import time_case
from inception_tf.benchmark.steps import prepare, resolved
from inception_tf.errors import UserError

pytestmark = pytest.mark.usefixtures("short_networks")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"kind": "backward"},
            "unknown benchmark 'backward'; known: forward, forward-backward, train-step",
        ),
        ({"backend": "torch"}, "unknown backend 'torch'; known: tensorflow, openvino, keras"),
        ({"threads": 0}, "the number of threads must be at least 1, got 0"),
        ({"backend": "openvino", "compile": "xla"}, "remove --compile xla"),
        ({"kind": "train-step", "input": "redrawn"}, "a train-step reads its batch from memory"),
        (
            {"backend": "openvino", "kind": "forward-backward"},
            "OpenVINO only runs the forward pass; time forward-backward with --backend tensorflow",
        ),
        ({"precision": "int8"}, "int8 needs --backend openvino"),
        ({"model": "inception_v5"}, "unknown network 'inception_v5'"),
    ],
)
def test_what_cannot_be_timed_is_one_sentence(settings, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)):
        Case(**{"model": "inception_v1"} | settings).checked()


def test_the_size_is_the_networks_own_unless_it_is_given():
    assert Case("inception_v3").checked().size == 299
    assert Case("inception_v3", size=96).checked().size == 96


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "one graph"),
        ({"compile": "none"}, "operation by operation"),
        ({"precision": "bfloat16", "input": "redrawn"}, "one graph, input redrawn"),
        ({"kind": "forward-backward"}, "one graph"),
        ({"kind": "forward-backward", "precision": "bfloat16"}, "one graph"),
        ({"kind": "train-step"}, "one graph"),
        ({"kind": "train-step", "compile": "none"}, "operation by operation"),
        ({"backend": "keras"}, f"on tensorflow {metadata.version('tensorflow')}, predict"),
        (
            {"backend": "keras", "kind": "forward-backward"},
            f"on tensorflow {metadata.version('tensorflow')}, one graph",
        ),
        ({"backend": "openvino", "threads": 1}, "OpenVINO " + metadata.version("openvino")),
        ({"backend": "openvino", "precision": "int8"}, "OpenVINO " + metadata.version("openvino")),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_each_way_of_running_is_timed(settings, words):
    lines = []
    case = Case(
        # The network that is traced soonest.
        **{"model": "googlenet", "batch_size": 2, "size": 32, "steps": 1, "precision": "float32"}
        | settings
    )
    # A training step has auxiliary classifiers, too.
    whole = case.kind == "train-step"
    with nullcontext() if whole else only("googlenet", "Conv2d_1a_7x7", "Mixed_3a"):
        figures = time_case(case, lines.append).as_dict()
    assert lines[0].endswith(words)
    assert figures["what"] == KINDS[case.kind]
    assert figures["compile_seconds"] > figures["median"]
    assert (figures["forward_seconds"] is None) == (case.kind == "forward")
    assert figures["precision"] == case.precision
    assert figures["median"] > 0


@pytest.mark.usefixtures("small_peak")
def test_the_share_of_the_peak_is_of_what_this_process_measured():
    case = Case("inception_v1", batch_size=2, size=64, steps=3, precision="float32")
    figures = time_case(case, lambda line: None, peak=True).as_dict()
    assert figures["peak_flops_per_second"] > 1e9
    assert figures["memory_bytes_per_second"] > 1e8
    # Not held against 1: others may have the cores while one of the two is measured.
    share = figures["flops_per_second"] / figures["peak_flops_per_second"]
    assert figures["share_of_peak"] == share > 0


def test_a_train_step_moves_the_weights_by_its_recipe():
    case = resolved(
        Case("googlenet", "train-step", batch_size=2, size=32, precision="float32").checked()
    )
    prepared = prepare(case)
    losses = [prepared.step()["loss"] for _ in range(2)]
    assert losses[0] != losses[1]


def test_a_recipe_of_another_network_is_refused():
    case = Case("googlenet", "train-step", size=32, recipe="bn-x5", precision="float32")
    with pytest.raises(
        UserError, match="recipe bn-x5 is written for bn_inception, not for googlenet"
    ):
        time_case(case, print)
