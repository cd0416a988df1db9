# SPDX-License-Identifier: Apache-2.0
"""HDF5 files of others: groups, hard links and plain datasets, each checked before it is read.

HDF5 follows links and storage into other files, expands references, and unpacks a chunk completely before it
compares sizes; none of this is allowed here.
"""

from __future__ import annotations

import io
import math
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from inception_tf.errors import UserError
from inception_tf.weights.formats.archive import check_member, member_chunks, open_archive
from inception_tf.weights.formats.stored import StoredArray, shown_name

if TYPE_CHECKING:
    import h5py

__all__ = [
    "check_arrays",
    "child",
    "children",
    "groups",
    "locate_hdf5",
    "open_hdf5",
    "stored_array",
    "text",
    "texts",
    "unpacked_limit",
]

WEIGHTS_IN_KERAS_FILE = "model.weights.h5"
MAX_DEPTH = 32  # of groups in groups; Keras needs ten
MAX_NAMES = 100_000  # names in an attribute
UNPACKED_RATIO = 4  # weights and an optimizer's slots of zeros, which pack well
MOST_PACKED = 1032  # bytes that gzip makes of one
ROOM = 32 * 2**20  # bytes of groups and names in a file of small arrays
SMALLEST_CHUNK = 2**20  # bytes; h5py chooses chunks of up to 1 MiB for arrays that may grow


@contextmanager
def open_hdf5(path: str, limit: int | None) -> Iterator[h5py.File]:
    """Opens an HDF5 file, or the one inside a `.keras` file.

    Args:
        path: The file.
        limit: The most bytes to unpack from a `.keras` file; None, where the network is not known:
            `UNPACKED_RATIO` of its size.

    Yields:
        The open file.

    Raises:
        UserError: The weights in the `.keras` file are larger than `limit`, or packed in a way that Keras never does.
    """
    import h5py

    with h5py.File(locate_hdf5(path, limit), "r") as file:
        yield file


def locate_hdf5(path: str, limit: int | None) -> str | io.BytesIO:
    """The HDF5 content of a weights file, as `h5py.File` accepts it.

    Args:
        path: str. An HDF5 or `.keras` file.
        limit: The most bytes to unpack from a `.keras` file; None, where the network is not known:
            `UNPACKED_RATIO` of its size.

    Returns:
        The path itself, or the weights inside a `.keras` archive.

    Raises:
        UserError: The weights are larger than `limit`, or packed in a way that Keras never does.
    """
    if not path.endswith(".keras"):
        return path
    with open_archive(path) as archive:
        member = archive.getinfo(WEIGHTS_IN_KERAS_FILE)
        check_member(path, member)
        if limit is None:
            limit = unpacked_limit(path)
        if member.file_size > limit:
            raise UserError(
                f"the weights in '{path}' unpack to {member.file_size:,} bytes, and at most {limit:,} are"
                " expected of this network with an optimizer; give the file of this network"
            )
        content = io.BytesIO()
        for chunk in member_chunks(archive, member):
            content.write(chunk)
    content.seek(0)
    return content


def unpacked_limit(path: str) -> int:
    """The most bytes to unpack from a file of a network that is not known.

    Args:
        path: The file.

    Returns:
        Bytes.
    """
    return UNPACKED_RATIO * os.path.getsize(path) + ROOM


def check_arrays(content: str | io.BytesIO, path: str, limit: int) -> None:
    """Checks that every group and array of an HDF5 file is one that may be read, for a reader of another package.

    Args:
        content: What `locate_hdf5` gave.
        path: The file, for errors.
        limit: The most bytes that the arrays may have together.

    Raises:
        UserError: A link or an array lies elsewhere, is packed in a way that is not read, or they are larger.
    """
    import h5py

    size = 0
    with h5py.File(content, "r") as file:
        for group in groups(file, path):
            for _, item in children(group, path):
                if not isinstance(item, h5py.Dataset):
                    continue
                stored_array(item, path)
                size += item.nbytes
                if size > limit:
                    raise UserError(
                        f"the arrays in '{path}' have more than {limit:,} bytes; give an undamaged file"
                    )
                if item.chunks is not None:
                    _check_chunks(item, f"'{shown_name(item.name)}' in '{path}'")


def child(group: h5py.Group, name: str, path: str) -> h5py.Group | h5py.Dataset:
    """What a group holds itself under a name.

    Args:
        group: The group.
        name: One name, without `/`.
        path: The file, for errors.

    Returns:
        The group or dataset.

    Raises:
        UserError: There is none, or the link leads elsewhere: a soft or an external link.
    """
    import h5py

    link = group.get(name, getlink=True) if isinstance(group, h5py.Group) else None
    if link is None:
        raise UserError(
            f"'{path}' has no '{shown_name(name)}' in '{shown_name(group.name)}'; give a complete file"
        )
    if not isinstance(link, h5py.HardLink):
        kind = "external" if isinstance(link, h5py.ExternalLink) else "soft"
        raise UserError(
            f"'{path}' has the {kind} link '{shown_name(name)}' in '{shown_name(group.name)}'; links are not followed: give a file"
            " that holds all of its arrays itself"
        )
    return group[name]


def children(group: h5py.Group, path: str) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    """What a group holds itself.

    Args:
        group: The group.
        path: The file, for errors.

    Yields:
        Name and group or dataset, sorted by name.

    Raises:
        UserError: A link leads elsewhere: a soft or an external link.
    """
    for name in group:
        yield name, child(group, name, path)


def groups(file: h5py.File, path: str) -> Iterator[h5py.Group]:
    """All groups of a file, each once.

    Args:
        file: The open file.
        path: Its path, for errors.

    Yields:
        Groups, each after the one that holds it.

    Raises:
        UserError: A link leads elsewhere, or groups lie deeper than any file of Keras has them.
    """
    import h5py

    seen, waiting = set(), [(file["/"], 0)]
    while waiting:
        group, depth = waiting.pop()
        place = h5py.h5o.get_info(group.id).addr
        if place in seen:
            continue
        seen.add(place)
        if depth > MAX_DEPTH:
            raise UserError(
                f"'{path}' has groups in groups, {depth} deep; Keras writes no such file"
            )
        yield group
        inner = [item for _, item in children(group, path) if isinstance(item, h5py.Group)]
        waiting += [(item, depth + 1) for item in reversed(inner)]


def stored_array(item: Any, path: str) -> StoredArray:
    """A dataset as an array to read later.

    Args:
        item: What lies in the place of an array.
        path: The file, for errors.

    Returns:
        The array.

    Raises:
        UserError: It is a group, not made of numbers, stored in another file, virtual, or packed by a filter that
            needs a plugin.
    """
    import h5py

    where = f"'{shown_name(item.name)}' in '{path}'"
    if not isinstance(item, h5py.Dataset):
        raise UserError(f"{where} is a group where an array is expected; give another file")
    if item.shape is None:
        raise UserError(f"{where} has no shape; give a complete file")
    if item.external:
        raise UserError(
            f"{where} is stored in another file, which is not read; give the file itself"
        )
    if item.is_virtual:
        raise UserError(
            f"{where} is a virtual dataset, whose values lie elsewhere and are not read; give the file itself"
        )
    dtype = item.dtype
    if dtype.hasobject or (dtype.kind not in "fiubc" and not _is_bfloat16(item)):
        raise UserError(f"{where} has no numbers ({dtype}); give a file of weights")
    _check_filters(item, where)
    packed = item.id.get_storage_size()
    if packed * (MOST_PACKED if item.compression else 1) < item.nbytes:
        raise UserError(
            f"{where} has {item.nbytes:,} bytes by its shape and {packed:,} in the file; give a complete file"
        )
    if _is_bfloat16(item):
        import ml_dtypes

        bfloat16 = np.dtype(ml_dtypes.bfloat16)  # two opaque bytes in HDF5
        return StoredArray(item.shape, bfloat16, partial(np.array, item, dtype=bfloat16))
    return StoredArray(item.shape, dtype, partial(_read, item, where))


def _is_bfloat16(dataset: h5py.Dataset) -> bool:
    return dataset.dtype.itemsize == 2 and text(dataset, "dtype") == "bfloat16"


def _check_filters(dataset: h5py.Dataset, where: str) -> None:
    import h5py

    plist = dataset.id.get_create_plist()
    found = tuple(plist.get_filter(number)[0] for number in range(plist.get_nfilters()))
    allowed = (h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_FLETCHER32)
    if found != tuple(one for one in allowed if one in found):
        raise UserError(
            f"{where} is packed by HDF5 filters {found}; only gzip, after shuffle, is read: save it without others"
        )


def _read(dataset: h5py.Dataset, where: str) -> np.ndarray:
    if dataset.chunks is not None:
        _check_chunks(dataset, where)
    return dataset[()]


def _check_chunks(dataset: h5py.Dataset, where: str) -> None:
    """That no chunk unpacks to more than its size, which HDF5 compares only after unpacking it."""
    import h5py

    size = math.prod(dataset.chunks) * dataset.dtype.itemsize
    if size > max(2 * dataset.nbytes, SMALLEST_CHUNK):
        raise UserError(
            f"{where} has {dataset.nbytes:,} bytes, in chunks of {size:,}; give the file as it was saved"
        )
    plist = dataset.id.get_create_plist()
    filters = [plist.get_filter(number)[0] for number in range(plist.get_nfilters())]
    if h5py.h5z.FILTER_DEFLATE not in filters:
        return
    for number in range(dataset.id.get_num_chunks()):
        info = dataset.id.get_chunk_info(number)
        if info.filter_mask or not _unpacks(dataset, info, size):
            raise UserError(
                f"{where} has a chunk that does not unpack to its {size:,} bytes; give an undamaged file"
            )


def _unpacks(dataset: h5py.Dataset, chunk: Any, size: int) -> bool:
    if chunk.size > 2 * size + SMALLEST_CHUNK:
        return False
    _, packed = dataset.id.read_direct_chunk(chunk.chunk_offset)
    unpacker = zlib.decompressobj()
    return len(unpacker.decompress(packed, size + 1)) == size and unpacker.eof


def text(item: h5py.HLObject, key: str) -> str | None:
    """A string attribute.

    Args:
        item: What has the attribute.
        key: The attribute's name.

    Returns:
        Its text; None if there is no such attribute or it is no string.
    """
    import h5py

    if key not in item.attrs:
        return None
    attribute = item.attrs.get_id(key)
    if attribute.shape != () or h5py.check_string_dtype(attribute.dtype) is None:
        return None
    value = item.attrs[key]
    return value.decode() if isinstance(value, bytes) else str(value)


def texts(item: h5py.HLObject, key: str) -> list[str] | None:
    """A list of strings in an attribute.

    Args:
        item: What has the attribute.
        key: The attribute's name.

    Returns:
        The texts; None if there is no such attribute or it is no list of strings.
    """
    import h5py

    if key not in item.attrs:
        return None
    attribute = item.attrs.get_id(key)
    shape = attribute.shape
    if shape == (0,):
        return []
    if shape is None or len(shape) != 1 or shape[0] > MAX_NAMES:
        return None
    if h5py.check_string_dtype(attribute.dtype) is None:
        return None
    return [value.decode() if isinstance(value, bytes) else str(value) for value in item.attrs[key]]
