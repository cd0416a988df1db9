# SPDX-License-Identifier: Apache-2.0
"""Members of zip archives, unpacked within a limit: what `.keras`, `.npz` and torch's `.pth` files are."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from inception_tf.errors import UserError
from inception_tf.weights.formats.stored import shown_name

__all__ = ["check_member", "member_chunks", "open_archive", "read_exactly"]

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED = 0x1
CHUNK = (
    2**20
)  # bytes; `ZipExtFile.read()` without a size unpacks all before it compares with the stated size


@contextmanager
def open_archive(path: str) -> Iterator[zipfile.ZipFile]:
    """Opens a zip archive whose members all have names of their own.

    Args:
        path: The file.

    Yields:
        The archive.

    Raises:
        UserError: Two members have one name.
    """
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise UserError(
                f"'{path}' has two members called '{shown_name(twice)}'; give another file"
            )
        yield archive


def check_member(path: str, member: zipfile.ZipInfo, *, stored: bool = False) -> None:
    """Checks that a member can be unpacked.

    Args:
        path: The archive, for the error.
        member: The member.
        stored: It must not be compressed either.

    Raises:
        UserError: It is encrypted or compressed by another method.
    """
    if member.flag_bits & ENCRYPTED:
        raise UserError(
            f"'{shown_name(member.filename)}' in '{path}' is encrypted; give a file without a password"
        )
    if member.compress_type not in (METHODS[:1] if stored else METHODS):
        raise UserError(
            f"'{shown_name(member.filename)}' in '{path}' is compressed in a way that such files never are"
            f" (method {member.compress_type}); give the file as it was saved"
        )


def member_chunks(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    """Unpacks a member piece by piece; at its end the checksum is compared.

    Args:
        archive: The archive.
        member: The member.

    Yields:
        Its content, no more than its stated size.
    """
    with archive.open(member) as file:
        while chunk := file.read(CHUNK):
            yield chunk


def read_exactly(file: IO[bytes], size: int) -> bytearray:
    """Reads a number of bytes, in pieces.

    Args:
        file: A binary file.
        size: The number of bytes.

    Returns:
        That many bytes.

    Raises:
        EOFError: The file has fewer.
    """
    content = bytearray()
    while len(content) < size:
        chunk = file.read(min(CHUNK, size - len(content)))
        if not chunk:
            raise EOFError("the data ends too early")
        content += chunk
    return content
