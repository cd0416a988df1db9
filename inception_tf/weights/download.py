# SPDX-License-Identifier: Apache-2.0
"""Published weights by name: downloaded once, checked, converted once, cached."""

from __future__ import annotations

import os
import shutil
import tarfile
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from inception_tf.errors import UserError
from inception_tf.host.atomic_io import atomic_path
from inception_tf.host.files import check_content
from inception_tf.host.locks import lock_folder
from inception_tf.models import find_network
from inception_tf.weights.convert import convert
from inception_tf.weights.fetch import FirstDownload, check_sums, download, file_sums, keep_record
from inception_tf.weights.formats.tf1_checkpoint import require_tensorflow
from inception_tf.weights.limits import network_limit
from inception_tf.weights.registry import RELEASES, Release, release_folder

__all__ = ["fetch_release"]

POLL_S = 0.2  # seconds between two looks at another process' lock
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
    folder = release_folder(release)
    converted = folder / f"{release.network}.weights.h5"
    if not converted.exists():
        if release.source == "slim":  # before the download, not after it
            _require_tensorflow(release)
        with _alone(folder):
            if not converted.exists():  # another process may have made it meanwhile
                folder.mkdir(parents=True, exist_ok=True)
                path, made = _downloaded(release, folder)
                _convert(_unpacked(path, release), release, converted)
                if made:
                    keep_record(path, made)
    return converted


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Waits until no other process downloads to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(lock_folder(folder, "downloads to"))
            except UserError:
                time.sleep(POLL_S)
            else:
                break
        yield


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


def _downloaded(release: Release, folder: Path) -> tuple[Path, FirstDownload | None]:
    """The file as published, in `folder`, and its download, if it was not there.

    A file put there by hand is used if its checksum is right, and is kept if not.
    """
    path = folder / release.file
    if not os.path.lexists(path):
        return path, download(release.address, path, release.checksums)
    check_content(path)
    sums = file_sums(path, tuple(release.checksums))
    then = "it is left as it is: replace it, or remove it to download it again"
    check_sums(str(path), sums, release.checksums, then)
    return path, None


def _unpacked(path: Path, release: Release) -> Path:
    """The file inside an archive, extracted beside it."""
    if not release.member:
        return path
    target = path.with_name(release.member)
    try:
        with tarfile.open(path) as archive, atomic_path(target) as unfinished:
            inside = next(m for m in archive if m.isfile() and Path(m.name).name == release.member)
            limit = network_limit(find_network(release.network))
            if inside.size > limit:
                raise UserError(
                    f"{release.member} in {path} unpacks to {inside.size:,} bytes, and the network needs at most"
                    f" {limit:,}; remove the archive and try again"
                )
            content = archive.extractfile(inside)
            assert content is not None  # of a regular file
            with open(unfinished, "wb") as file:
                shutil.copyfileobj(content, file)
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
