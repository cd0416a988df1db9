# SPDX-License-Identifier: Apache-2.0
"""Which release a weights file is, by its name, its project and the switches of its network."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from inception_tf.errors import UserError
from inception_tf.models import SCALE
from inception_tf.weights.hub import hub_repository
from inception_tf.weights.registry import FID, RELEASES, Release, releases_of

__all__ = ["identify_release", "release_of_name", "without_scale"]

STATE_DICTS = ("torchvision", "timm")


def release_of_name(name: str, path: str) -> Release | None:
    """The release of a network whose file has this name, or that lies in this repository of the Hub.

    A name that several files have, `model.safetensors`, says nothing.

    Args:
        name: str. The network.
        path: str. The file, or its address.

    Returns:
        The release, or None.
    """
    repository = hub_repository(path)
    found = [
        one
        for one in RELEASES
        if one.network == name
        and (
            f"/{repository}/" in one.address if repository else os.path.basename(path) in one.names
        )
    ]
    return found[0] if len(found) == 1 else None


def identify_release(
    name: str,
    source: str,
    path: str,
    release: Release | None,
    switches: Mapping[str, Any] | None = None,
) -> tuple[Release | None, str]:
    """The release that a file is.

    Args:
        name: str. The network.
        source: str. The project.
        path: str. The file.
        release: The release that the user names, or None.
        switches: The switches that the file needs; None: not known.

    Returns:
        The release, or None if none is known, and for a message how it was identified.

    Raises:
        UserError: The release is of another source.
    """
    if release is not None:
        if not {source} & set(_same_format(release)):
            raise UserError(
                f"release '{release.name}' of {name} is a file of '{release.source}', not of '{source}'; give"
                " the source and the release of one project"
            )
        return release, f"as release '{release.name}' expects them"
    named = release_of_name(name, path)
    if named is not None and source in _same_format(named):
        return named, f"identified by its name as release '{named.name}'"
    known = releases_of(name, source)
    if source in STATE_DICTS:  # of one format, which a file does not tell apart
        for other in STATE_DICTS:
            known += releases_of(name, other) if other != source else []
    if switches is not None:
        needed = without_scale(switches)
        known = [one for one in known if without_scale(one.switches) == needed] or known
    if not known:
        return None, f"no release of {name} by '{source}' is known"
    default = known[0]
    if default.name == FID:
        return default, f"identified by its network as release '{FID}'"
    others = [
        repr(one.name)
        for one in known
        if one.source == default.source and one.preprocessing != default.preprocessing
    ]
    instead = f"; otherwise --release {' or '.join(others)}" if others else ""
    return (
        default,
        f"assumed to be '{default.name}', the default release of '{default.source}'{instead}",
    )


def _same_format(release: Release) -> tuple[str, ...]:
    """The sources whose files a release may be."""
    return (*release.sources, *STATE_DICTS) if release.source in STATE_DICTS else release.sources


def without_scale(switches: Mapping[str, Any]) -> dict[str, Any]:
    """Switches without `batch_norm_scale`, which the file decides.

    Args:
        switches: Arguments of `create_model`.

    Returns:
        The others.
    """
    return {key: value for key, value in switches.items() if key != SCALE}
