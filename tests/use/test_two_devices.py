# SPDX-License-Identifier: Apache-2.0
"""Networks built, cloned and loaded inside MirroredStrategy train on two devices as on one."""

from __future__ import annotations

from pathlib import Path

import forked
import pytest

from inception_tf.models import NETWORKS

SCRIPT = Path(__file__).parent / "two_devices.py"


def run(cut, ways, networks) -> None:
    child = forked.run([SCRIPT, cut, ways, *networks], timeout=1200, optimizers=False)
    assert child.returncode == 0, child.stderr[-2000:]
    assert child.stdout.split() == list(networks)


def test_two_devices_train_as_one():
    # A clone is made of a configuration, as what is loaded is.
    run("least", "built,loaded", ["inception_v1"])


@pytest.mark.slow
def test_two_devices_train_every_network_as_one():
    # What loads them is the same for all.
    run("least", "built", [name for name in NETWORKS if name != "inception_v1"])


@pytest.mark.slow
def test_a_clone_is_trained_on_two_devices_as_on_one():
    run("shorten", "built,cloned,loaded", ["inception_v1"])
