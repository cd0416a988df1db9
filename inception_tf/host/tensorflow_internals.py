# SPDX-License-Identifier: Apache-2.0
"""The parts of TensorFlow that it does not document."""

from __future__ import annotations

from inception_tf.host.private_names import PrivateName, PrivateNames

__all__ = ["TENSORFLOW"]

_FRAMEWORK = "tensorflow.python.framework"
# TensorFlow's public API can switch it on, and neither ask nor switch it off again.
_CONFIG = f"{_FRAMEWORK}.config"
_DETERMINISM = "leaving the process as a run found it"
_CANCELLATION = "stopping a request whose client has given up"
_GRADIENTS = "freeing the memory of a finished training"

TENSORFLOW = PrivateNames(
    "tensorflow>=2.20,<2.21",
    (
        PrivateName(_CONFIG, "disable_op_determinism", _DETERMINISM),
        PrivateName(_CONFIG, "is_op_determinism_enabled", _DETERMINISM),
        PrivateName(
            "tensorflow.python.saved_model.pywrap_saved_model.fingerprinting",
            "CreateFingerprintDef",
            "comparing an export with the hashes that were written",
        ),
        PrivateName("tensorflow.python.eager.cancellation", "CancellationManager", _CANCELLATION),
        PrivateName("tensorflow.python.eager.execute", "execute_with_cancellation", _CANCELLATION),
        PrivateName("tensorflow.python.eager.context", "context", _CANCELLATION),
        PrivateName(f"{_FRAMEWORK}.ops", "gradient_registry", _GRADIENTS),
        PrivateName(f"{_FRAMEWORK}.registry.Registry", "_registry", _GRADIENTS),
    ),
)
