# SPDX-License-Identifier: Apache-2.0
"""TensorFlow's deterministic operations, for one run and not for what the process does afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from inception_tf.host.private_names import PrivateName, PrivateNames

__all__ = ["TENSORFLOW", "op_determinism"]

# TensorFlow's public API can switch it on, and neither ask nor switch it off again.
_CONFIG, _USE = "tensorflow.python.framework.config", "leaving the process as a run found it"
TENSORFLOW = PrivateNames(
    "tensorflow>=2.20,<2.21",
    (
        PrivateName(_CONFIG, "disable_op_determinism", _USE),
        PrivateName(_CONFIG, "is_op_determinism_enabled", _USE),
    ),
)


@contextlib.contextmanager
def op_determinism(wanted: bool) -> Iterator[None]:
    """Makes TensorFlow's operations deterministic while the block runs, in all threads.

    Args:
        wanted: False changes nothing.
    """
    if not wanted or TENSORFLOW.get("is_op_determinism_enabled")():
        yield
        return
    disable = TENSORFLOW.get("disable_op_determinism")
    tf.config.experimental.enable_op_determinism()
    try:
        yield
    finally:
        disable()
