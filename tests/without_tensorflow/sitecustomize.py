# SPDX-License-Identifier: Apache-2.0
"""Put on PYTHONPATH, this folder makes TensorFlow look as if it were not installed."""

from __future__ import annotations

import importlib.abc
import sys

# TensorFlow, what is built on it, and the protobuf that comes with it.
HIDDEN = ("tensorflow", "tensorflow_datasets", "tensorflow_serving", "official", "google")


class Hide(importlib.abc.MetaPathFinder):
    """Refuses the hidden packages before any other finder sees them."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


sys.meta_path.insert(0, Hide())
