# SPDX-License-Identifier: Apache-2.0
"""Published weights by name: downloaded once, checked, converted once, cached."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import time
import zlib
from pathlib import Path

import keras

from inception_tf.errors import UserError
from inception_tf.host.atomic_io import atomic_path
from inception_tf.host.files import cache_folder
from inception_tf.weights.convert import convert
from inception_tf.weights.formats.tf1_checkpoint import require_tensorflow
from inception_tf.weights.registry import RELEASES, Release

__all__ = ["fetch_release"]

ATTEMPTS = 3
RETRY_DELAY_S = 1.0  # seconds before the second attempt; doubled for each further one
CLASSES = 1000  # of ImageNet


def fetch_release(release: Release) -> Path:
    """Download a release and convert it, unless the cache has it.

    Args:
        release: The release.

    Returns:
        The `.weights.h5` file, without a background class and with the release's auxiliary classifier, if any.

    Raises:
        UserError: The download failed (the message says where to put the file by hand), the checksum
            is wrong, or the format needs a package that is not installed.
    """
    folder = cache_folder() / f"{release.network}-{release.name}"
    converted = folder / f"{release.network}.weights.h5"
    if not converted.exists():
        if release.source == "slim":  # before the download, not after it
            _require_tensorflow(release)
        folder.mkdir(parents=True, exist_ok=True)
        _convert(_unpacked(_downloaded(release, folder), release), release, converted)
    return converted


def _require_tensorflow(release: Release) -> None:
    others = [
        repr(other.name)
        for other in RELEASES
        if other.network == release.network and other.source != release.source
    ]
    require_tensorflow(
        f"the release '{release.name}' of {release.network}, a TensorFlow 1 checkpoint,",
        f"; or use weights={' or '.join(others)}" if others else "",
    )


def _downloaded(release: Release, folder: Path) -> Path:
    """The file as published, in `folder`; a file put there by hand is used if its checksum is right."""
    path = folder / release.file
    if not path.exists():
        part = _with_retries(release, folder)
        _check(part, release)
        part.replace(path)
    _check(path, release)
    return path


def _with_retries(release: Release, folder: Path) -> Path:
    for left in reversed(range(ATTEMPTS)):
        try:
            # Under another name until it is complete, in case the process is killed.
            return Path(
                keras.utils.get_file(
                    fname=f".part-{os.getpid()}-{release.file}",
                    origin=release.address,
                    cache_dir=str(folder.parent),
                    cache_subdir=folder.name,
                    force_download=True,
                )
            )
        # get_file raises a bare Exception for every network failure.
        except Exception as error:
            if left:
                time.sleep(RETRY_DELAY_S * 2 ** (ATTEMPTS - 1 - left))
                continue
            reason = str(error).splitlines()[0]
            raise UserError(
                f"cannot download {release.address}: {reason}; put that file by hand at"
                f" {folder / release.file} and try again"
            ) from error
    raise AssertionError("unreachable")


def _check(path: Path, release: Release) -> None:
    kind, _, wanted = release.checksum.partition(":")
    if not wanted:
        return
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, kind).hexdigest()
    if not found.startswith(wanted):
        path.unlink()
        raise UserError(
            f"{release.file} has the {kind} checksum {found} and should have {wanted}: it is damaged or"
            " was changed, and has been removed; try again to download it"
        )


def _unpacked(path: Path, release: Release) -> Path:
    """The file inside an archive, extracted beside it."""
    if not release.member:
        return path
    target = path.with_name(release.member)
    try:
        with tarfile.open(path) as archive, atomic_path(target) as unfinished:
            of_that_name = (m for m in archive if Path(m.name).name == release.member)
            inside = next(filter(None, map(archive.extractfile, of_that_name)))
            with open(unfinished, "wb") as file:
                shutil.copyfileobj(inside, file)
    except (tarfile.TarError, EOFError, StopIteration, zlib.error) as error:
        raise UserError(
            f"{path} is damaged or has no {release.member}; remove it and try again"
        ) from error
    return target


def _convert(path: Path, release: Release, converted: Path) -> None:
    has_background = release.classes == CLASSES + 1
    done = convert(
        release.network,
        release.source,
        path,
        classes=release.classes - has_background,
        drop_background=has_background,
        release=release,
    )
    done.save(converted)
    if release.member:
        path.unlink()  # the archive keeps it
