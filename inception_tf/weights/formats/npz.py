# SPDX-License-Identifier: Apache-2.0
"""NumPy's `.npz` archives: numbers only, each member compared with its header before it is unpacked."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Container
from functools import partial

import numpy as np

from inception_tf.errors import UserError
from inception_tf.weights.formats.archive import check_member, open_archive, read_exactly
from inception_tf.weights.formats.stored import StoredArray, damage_is, read_wanted, shown_name

__all__ = ["read_npz"]

SUFFIX = ".npy"
HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_npz(path: str, wanted: Container[str]) -> dict[str, np.ndarray]:
    """The arrays of a `.npz` file.

    Args:
        path: str. The file.
        wanted: Names of the arrays to read; the others are placeholders.

    Returns:
        Name → array.

    Raises:
        UserError: The file is damaged, or has something else than arrays of numbers.
    """
    with (
        damage_is(f"'{path}' is damaged or not a .npz file; give a complete one"),
        open_archive(path) as archive,
    ):
        stored = {
            member.filename.removesuffix(SUFFIX): _stored(path, archive, member)
            for member in archive.infolist()
        }
        return read_wanted(stored, wanted)


def _stored(path: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> StoredArray:
    check_member(path, member)
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version not in HEADERS:
            raise ValueError(f"an array of version {version}")
        shape, columns_first, dtype = HEADERS[version](file)
        start = file.tell()
    if dtype.hasobject:
        raise UserError(
            f"'{shown_name(member.filename)}' in '{path}' has objects, which can run code and are never loaded;"
            " give a file of numbers"
        )
    if min(shape, default=0) < 0 or start + math.prod(shape) * dtype.itemsize != member.file_size:
        raise UserError(
            f"'{shown_name(member.filename)}' in '{path}' has {member.file_size:,} bytes, which do not fit its"
            " shape; give a complete, undamaged file"
        )
    read = partial(_read, archive, member, start, shape, dtype, columns_first)
    return StoredArray(shape, dtype, read)


def _read(
    archive: zipfile.ZipFile,
    member: zipfile.ZipInfo,
    start: int,
    shape: tuple[int, ...],
    dtype: np.dtype,
    columns_first: bool,
) -> np.ndarray:
    with archive.open(member) as file:
        content = read_exactly(file, member.file_size)
    order = "F" if columns_first else "C"
    return np.frombuffer(content, dtype, offset=start).reshape(shape, order=order)
