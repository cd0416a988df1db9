# SPDX-License-Identifier: Apache-2.0
"""The memory that a process has held, and what a processor computes in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inception_tf.host import hardware
from inception_tf.host.hardware import (
    computes_bfloat16_in_vectors,
    peak_memory,
    reset_peak_memory,
)

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


@pytest.mark.parametrize(
    ("flags", "gpu", "expected"),
    [
        ("avx2 avx512_bf16", {}, True),
        ("avx512_bf16 amx_bf16", {}, False),
        ("avx2", {}, False),
        ("", {}, False),
        ("avx512_bf16", {"device_name": "GPU"}, False),
    ],
)
def test_vectors_compute_bfloat16_where_there_is_neither_a_matrix_unit_nor_a_gpu(
    monkeypatch, flags, gpu, expected
):
    monkeypatch.setattr(hardware, "_processor", lambda key: flags)
    monkeypatch.setattr(hardware, "_gpu", lambda: gpu)
    assert computes_bfloat16_in_vectors() is expected
