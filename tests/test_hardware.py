# SPDX-License-Identifier: Apache-2.0
"""The memory that a process has held."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inception_tf.host.hardware import peak_memory, reset_peak_memory

BIG = 200_000_000  # bytes


def test_the_peak_stays_when_memory_is_given_back_until_it_is_to_begin_anew():
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("only Linux forgets a process' peak")
    reset_peak_memory()
    before = peak_memory()
    held = np.ones(BIG, np.uint8)
    del held
    assert peak_memory() > before + 0.9 * BIG
    reset_peak_memory()
    assert peak_memory() < before + 0.5 * BIG
