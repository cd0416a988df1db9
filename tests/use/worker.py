# SPDX-License-Identifier: Apache-2.0
"""What a worker process is sent: it imports Keras alone."""

from __future__ import annotations

import sys

__all__ = ["predict"]


def predict(model, x):
    """The outputs of a model that came by pickle, and whether this package was imported for it."""
    import keras

    return keras.ops.convert_to_numpy(model(x, training=False)), "inception_tf" in sys.modules
