# SPDX-License-Identifier: Apache-2.0
"""The parts of KServe's server that it does not document: `kserve.ModelServer` listens on all addresses."""

from __future__ import annotations

from inception_tf.host.private_names import PrivateName, PrivateNames

__all__ = ["KSERVE"]

_REST = "the local server's REST side"

KSERVE = PrivateNames(
    "kserve>=0.19,<0.22",
    (
        PrivateName("kserve.model_server", "app", _REST),
        PrivateName("kserve.protocol.dataplane", "DataPlane", _REST),
        PrivateName(
            "kserve.protocol.model_repository_extension", "ModelRepositoryExtension", _REST
        ),
        PrivateName("kserve.protocol.rest.server", "RESTServer", _REST),
    ),
)
