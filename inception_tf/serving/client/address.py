# SPDX-License-Identifier: Apache-2.0
"""Where a served model is asked: the same path for REST and for gRPC, so that only scheme and port differ."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from inception_tf.errors import UserError

__all__ = ["ADDRESS_FORM", "Address", "is_address", "parse_address"]

ADDRESS_FORM = "http://host:8501/v1/models/NAME or grpc://host:8500/v1/models/NAME"
SCHEMES = ("http", "https", "grpc", "grpcs")
# As TensorFlow Serving's own pattern, after whatever path a proxy puts before it.
PATH = re.compile(
    r"(?P<prefix>.*)/v1/models/(?P<model>[^/:]+)"
    r"(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[A-Za-z0-9_]+))?"
)


@dataclass(frozen=True)
class Address:
    """A server and one model on it; at most one of `version` and `label`, neither: the newest version."""

    scheme: str
    place: str  # host:port, with a user's name and password where REST has them
    prefix: str  # path before /v1/models, of a proxy
    model: str
    version: int | None = None
    label: str | None = None

    @property
    def path(self) -> str:
        """`/v1/models/digits/versions/2`, as both TensorFlow Serving and this package write it."""
        part = f"/versions/{self.version}" if self.version is not None else ""
        part = f"/labels/{self.label}" if self.label is not None else part
        return f"{self.prefix}/v1/models/{self.model}{part}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.place}{self.path}"

    def __str__(self) -> str:
        """For sentences: no password."""
        return f"{self.scheme}://{self.place.rpartition('@')[2]}{self.path}"


def is_address(text: str) -> bool:
    """A server's address, as against a path on the disk?"""
    return str(text).lower().startswith(tuple(f"{scheme}://" for scheme in SCHEMES))


def parse_address(
    text: str, model: str | None = None, version: int | None = None, label: str | None = None
) -> Address:
    """`http(s)://host:8501/v1/models/NAME[/versions/V|/labels/L]`, or grpc, grpcs and a port.

    Without the path `model` names the model.  Raises `UserError` for another form and for a model,
    version or label that is given twice.
    """
    parts = _split(text)
    if parts.path in ("", "/"):
        if model is None:
            raise UserError(f"'{text}' names no model; give {ADDRESS_FORM}")
        found = PATH.fullmatch(f"/v1/models/{model}")
    else:
        found = PATH.fullmatch(parts.path.rstrip("/"))
        if found and model not in (None, found["model"]):
            raise UserError(f"'{text}' and model='{model}' name two models; give one")
    if not found or parts.query or parts.fragment:
        raise UserError(f"'{text}' is not the address of a served model; give {ADDRESS_FORM}")
    if len([x for x in (found["version"], found["label"], version, label) if x is not None]) > 1:
        raise UserError(f"'{text}' has more than one version or label; give one")
    address = Address(
        parts.scheme,
        parts.netloc,
        found["prefix"],
        found["model"],
        int(found["version"]) if found["version"] else version,
        found["label"] or label,
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
