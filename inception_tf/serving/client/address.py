# SPDX-License-Identifier: Apache-2.0
"""Addresses of served models: the same path for REST and for gRPC, so that only scheme and port differ.

`/v1/models/` is TensorFlow Serving's API, `/v2/models/` the Open Inference Protocol of KServe, Triton and others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from inception_tf.errors import UserError

__all__ = ["ADDRESS_FORM", "Address", "is_address", "parse_address"]

ADDRESS_FORM = "http://host:8501/v1/models/NAME or grpc://host:8500/v1/models/NAME, with v2 for the Open Inference Protocol"
SCHEMES = ("http", "https", "grpc", "grpcs")
# TensorFlow Serving's own pattern, after the path of a proxy; v2 has no labels, and its versions are any words.
PATH = re.compile(
    r"(?P<prefix>.*)/(?:v1/models/(?P<model>[^/:]+)"
    r"(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[A-Za-z0-9_]+))?"
    r"|v2/models/(?P<v2_model>[^/:]+)(?:/versions/(?P<v2_version>[\w.-]+))?)"
)
APIS = {"": "v1", "/v1": "v1", "/v2": "v2"}  # of an address without a model, by its path


@dataclass(frozen=True)
class Address:
    """A server and one model on it; at most one of `version` and `label`, without both the newest version."""

    scheme: str  # one of SCHEMES
    host_port: str  # with a user's name and password where REST has them
    prefix: str  # path of a proxy before /v1/models
    model: str
    version: int | str | None = None  # a number in v1
    label: str | None = None
    api: str = "v1"  # or `v2`, the Open Inference Protocol

    @property
    def path(self) -> str:
        """`/v1/models/digits/versions/2`, as TensorFlow Serving has it, or the same with `/v2`."""
        part = f"/versions/{self.version}" if self.version is not None else ""
        part = f"/labels/{self.label}" if self.label is not None else part
        return f"{self.prefix}/{self.api}/models/{self.model}{part}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host_port}{self.path}"

    def __str__(self) -> str:
        """The address for messages, without a password."""
        return f"{self.scheme}://{self.host_port.rpartition('@')[2]}{self.path}"


def is_address(text: str) -> bool:
    """Tells a server's address from a path on the disk.

    Args:
        text: Either of them.

    Returns:
        True for an address.
    """
    return str(text).lower().startswith(tuple(f"{scheme}://" for scheme in SCHEMES))


def parse_address(
    text: str,
    model: str | None = None,
    version: int | str | None = None,
    label: str | None = None,
) -> Address:
    """Parses the address of a served model.

    Args:
        text: `http(s)://host:8501/v1/models/NAME[/versions/V|/labels/L]` or `http(s)://host:8000/v2/models/NAME[/versions/V]`,
            or either with grpc, grpcs and a port.
        model: The model's name where the address has no path, or `/v2` alone.
        version: The version where the address has none.
        label: The version's label where the address has none.

    Returns:
        The parts of the address.

    Raises:
        UserError: The address has another form, or gives a model, version or label twice.
    """
    parts = _split(text)
    path = parts.path.rstrip("/")
    if path in APIS:
        if model is None:
            raise UserError(f"'{text}' names no model; give {ADDRESS_FORM}")
        found = PATH.fullmatch(f"/{APIS[path]}/models/{model}")
    else:
        found = PATH.fullmatch(path)
        if found and model not in (None, found["model"] or found["v2_model"]):
            raise UserError(f"'{text}' and model='{model}' name two models; give one")
    if not found or parts.query or parts.fragment:
        raise UserError(f"'{text}' is not the address of a served model; give {ADDRESS_FORM}")
    written = found["version"] or found["v2_version"]
    if len([x for x in (written, found["label"], version, label) if x is not None]) > 1:
        raise UserError(f"'{text}' has more than one version or label; give one")
    is_v2 = found["v2_model"] is not None
    if is_v2 and label is not None:
        raise UserError(f"the Open Inference Protocol has no labels of versions; '{text}' has v2")
    address = Address(
        parts.scheme,
        parts.netloc,
        found["prefix"],
        found["model"] or found["v2_model"],
        int(found["version"]) if found["version"] else written or version,
        found["label"] or label,
        "v2" if is_v2 else "v1",
    )
    if parts.scheme.startswith("grpc") and (address.prefix or "@" in parts.netloc):
        raise UserError(
            f"gRPC has neither paths nor passwords; got '{address}', give {ADDRESS_FORM}"
        )
    return address


def _split(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UserError(f"'{text}' is not an address: {error}; give {ADDRESS_FORM}") from error
    if parts.scheme not in SCHEMES or not host:
        raise UserError(f"'{text}' is not the address of a server; give {ADDRESS_FORM}")
    if parts.scheme.startswith("grpc") and port is None:
        raise UserError(f"'{text}' has no port, which gRPC needs; give {ADDRESS_FORM}")
    return parts
