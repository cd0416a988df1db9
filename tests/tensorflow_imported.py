# SPDX-License-Identifier: Apache-2.0
"""TensorFlow, imported without a walk through its objects every thousand of them: what `forked` forks from."""

import gc

gc.disable()
import tensorflow  # noqa: E402, F401

gc.enable()
