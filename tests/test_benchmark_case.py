# SPDX-License-Identifier: Apache-2.0
"""What can be timed, and each way of timing it."""

from __future__ import annotations

import re
from importlib import metadata

import pytest

from inception_tf.benchmark.case import Case
from inception_tf.benchmark.peak import peak_flops
from inception_tf.benchmark.run import time_case
from inception_tf.errors import UserError


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"kind": "backward"}, "unknown benchmark 'backward'; known: forward, forward-backward"),
        ({"backend": "torch"}, "unknown backend 'torch'; known: tensorflow, openvino, keras"),
        ({"threads": 0}, "the number of threads must be at least 1, got 0"),
        ({"backend": "keras", "compile": "xla"}, "compile xla is TensorFlow's; leave it out"),
        (
            {"backend": "openvino", "kind": "forward-backward"},
            "OpenVINO only predicts; time forward-backward with backend tensorflow",
        ),
        ({"precision": "int8"}, "int8 is timed with --backend openvino"),
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
        ({"backend": "keras"}, "on tensorflow " + metadata.version("tensorflow")),
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
    figures = time_case(case, lines.append).as_dict()
    assert lines[0].endswith(words)
    assert figures["what"] == ("Forward-backward" if "kind" in settings else "Forward")
    assert figures["precision"] == case.precision
    assert figures["median"] > 0


def test_the_share_of_the_peak_is_of_what_this_process_measured():
    case = Case("inception_v1", batch_size=2, size=64, steps=3, precision="float32")
    figures = time_case(case, lambda line: None, peak=True).as_dict()
    peak = peak_flops("float32")
    assert figures["peak_flops_per_second"] == peak > 1e9
    # Not held against 1: others may have the cores while one of the two is measured.
    assert figures["share_of_peak"] == figures["flops_per_second"] / peak > 0
