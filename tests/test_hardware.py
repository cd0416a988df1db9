# SPDX-License-Identifier: Apache-2.0
"""What the machine says of itself: memory, processor, number formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inception_tf.host import hardware
from inception_tf.host.hardware import (
    has_vector_bfloat16,
    machine_memory,
    peak_memory,
    processor_flags,
    reset_peak_memory,
    resolve_precision,
    uses_tf32,
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


def test_memory_is_that_of_the_machine():
    pytest.importorskip("psutil")
    import psutil

    found = machine_memory()
    assert 0 < found["available"] <= found["total"] <= psutil.virtual_memory().total


def test_flags_are_those_of_the_processor():
    if not Path("/proc/cpuinfo").exists():
        pytest.skip("only Linux lists them")
    text = Path("/proc/cpuinfo").read_text().split()
    assert set(processor_flags()) <= set(text)
    assert ("avx2" in processor_flags()) == ("avx2" in text)


def test_a_processor_does_not_multiply_in_tf32():
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        pytest.skip("TensorFlow sees a GPU")
    assert tf.config.experimental.tensor_float_32_execution_enabled()
    assert uses_tf32() is False


def test_a_gpu_multiplies_in_tf32_unless_told_otherwise():
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        pytest.skip("TensorFlow sees no GPU")
    details = tf.config.experimental.get_device_details(gpus[0])
    assert uses_tf32() == (details["compute_capability"] >= (8, 0))
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        assert not uses_tf32()
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(True)


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
    assert has_vector_bfloat16() is expected


@pytest.mark.parametrize(
    ("capability", "policy"),
    [
        ((6, 1), "float32"),
        ((6, 9), "float32"),
        ((7, 0), "mixed_float16"),
        ((9, 0), "mixed_float16"),
    ],
)
def test_a_gpu_computes_in_float16_from_the_first_with_tensor_cores_on(
    monkeypatch, capability, policy
):
    gpu = {"device_name": "GPU", "compute_capability": capability}
    monkeypatch.setattr(hardware, "_gpu", lambda: gpu)
    assert resolve_precision("auto").policy == policy
    assert resolve_precision("float32").policy == "float32"


@pytest.mark.parametrize(
    ("flags", "policy"),
    [
        ("avx2 avx512f", "float32"),
        ("avx2 amx_bf16", "mixed_bfloat16"),
        ("avx2 avx512_bf16", "mixed_bfloat16"),
    ],
)
def test_a_processor_computes_in_bfloat16_where_it_has_units_for_it(monkeypatch, flags, policy):
    monkeypatch.setattr(hardware, "_processor", lambda key: flags)
    monkeypatch.setattr(hardware, "_gpu", dict)
    for value in ("", "1", "true"):
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", value)
        assert resolve_precision("auto").policy == policy


@pytest.mark.parametrize("value", ["0", "false", "False"])
def test_tensorflow_computes_in_float32_without_its_bfloat16_kernels(monkeypatch, value):
    monkeypatch.setattr(hardware, "_processor", lambda key: "avx512_bf16")
    monkeypatch.setattr(hardware, "_gpu", dict)
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", value)
    found = resolve_precision("auto")
    assert found.policy == "float32"
    assert "TF_ENABLE_ONEDNN_OPTS" in found.reason
    assert resolve_precision("mixed_bfloat16").policy == "mixed_bfloat16"
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    assert resolve_precision("auto").policy == "mixed_bfloat16"
