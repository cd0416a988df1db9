# SPDX-License-Identifier: Apache-2.0
"""TensorFlow, imported without a walk through its objects every thousand of them, and without JAX: what `forked` forks from."""

import gc
import sys

gc.disable()
sys.modules["jax"] = None  # type: ignore[assignment]
import tensorflow  # noqa: E402, F401

del sys.modules["jax"]
gc.freeze()  # nor is there one at the end
gc.enable()
