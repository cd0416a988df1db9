# SPDX-License-Identifier: Apache-2.0
"""The TFRecord format: records with their places, past damage, in plain or compressed files.

A record is its length in 8 bytes, a checksum of these, the content and a checksum of it (TensorFlow,
`tensorflow/core/lib/io/record_writer.h`).  Checksums of contents are verified when images are read.
"""

from __future__ import annotations

import hashlib
import logging
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from inception_tf.errors import UserError
from inception_tf.host.atomic_io import atomic_path
from inception_tf.host.files import cache_folder, open_regular, retry_lost, stat_regular

__all__ = ["Damage", "Record", "has_valid_checksum", "read_records", "unpacked"]

HEADER, FOOTER = 12, 4  # bytes around a record: its length and a checksum, a checksum
SEARCHED = 1 << 26  # bytes after damage in which the next record is looked for
CHUNK = 1 << 20
POLYNOMIAL = 0x82F63B78  # CRC-32C, reflected
MASK_DELTA = 0xA282EAD8  # of the stored checksums, TensorFlow's tsl/lib/hash/crc32c.h
UNFINISHED = "the compressed file ends early, so that records may be missing"

log = logging.getLogger("inception_tf")


def _crc_table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(POLYNOMIAL), table >> 1)
    return table.astype(np.uint32)


TABLE = _crc_table()
ENTRIES = TABLE.tolist()  # four times as fast, one by one


@dataclass(frozen=True)
class Record:
    """A record and its place."""

    offset: int  # bytes from the start of the file to its length
    length: int  # bytes of the content
    content: bytes | None  # None where contents are skipped


@dataclass(frozen=True)
class Damage:
    """A part of a file in which no record can be found."""

    reason: str


def read_records(file: str, *, contents: bool = True) -> Iterator[Record | Damage]:
    """Read a plain TFRecord file; after a damaged length the next record is searched.

    Args:
        file: The path.
        contents: False: lengths alone are read.

    Yields:
        Records and, between or after them, the places that are damaged.

    Raises:
        UserError: The file cannot be read, is no TFRecord file, or changes meanwhile.
    """
    try:
        before = retry_lost(lambda: stat_regular(file))
        with retry_lost(lambda: open_regular(file)) as stream:
            yield from _records(stream, before.st_size, file, contents)
        after = os.stat(file)
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise UserError(f"{file} changed while it was read; try again when nothing writes to it")


def _records(stream: BinaryIO, size: int, file: str, contents: bool) -> Iterator[Record | Damage]:
    offset = 0
    while offset < size:
        header = stream.read(HEADER)
        if not _is_header(header):
            found = _next_record(stream, offset + 1, size)
            if offset == 0 and found is None:
                raise UserError(
                    f"{file} is not a TFRecord file; give tfrecord: a pattern that matches TFRecord files alone"
                )
            end = size if found is None else found
            yield Damage(f"damaged: bytes {offset:,} to {end:,} are no record")
            stream.seek(end)
            offset = end
            continue
        length = int.from_bytes(header[:8], "little")
        end = offset + HEADER + length + FOOTER
        if end > size:
            yield Damage(f"damaged: the file ends {end - size:,} bytes before the record does")
            return
        content = stream.read(length) if contents else None
        if content is not None and len(content) < length:
            raise UserError(
                f"{file} changed while it was read; try again when nothing writes to it"
            )
        yield Record(offset, length, content)
        stream.seek(end)
        offset = end


def _is_header(header: bytes) -> bool:
    return len(header) == HEADER and _masked(_crc(header[:8])) == int.from_bytes(
        header[8:], "little"
    )


def _crc(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = ENTRIES[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _masked(crc: int) -> int:
    return (((crc >> 15) | (crc << 17)) + MASK_DELTA) & 0xFFFFFFFF


def has_valid_checksum(file: str, offset: int) -> bool:
    """Whether the content of a record is what was written.

    Takes 0.1 s per megabyte: for the few records whose content is implausible.

    Args:
        file: The path.
        offset: int. The place of the record.

    Returns:
        False where the stored checksum, or the record itself, is damaged.
    """
    with open_regular(file) as stream:
        stream.seek(offset)
        header = stream.read(HEADER)
        if not _is_header(header):
            return False
        content = stream.read(int.from_bytes(header[:8], "little"))
        return _masked(_crc(content)) == int.from_bytes(stream.read(FOOTER), "little")


def _next_record(stream: BinaryIO, start: int, size: int) -> int | None:
    """The place of the first valid header from `start` on whose record fits into the file."""
    last = min(start + SEARCHED, size - HEADER - FOOTER)
    while start <= last:
        stream.seek(start)
        data = np.frombuffer(stream.read(CHUNK + HEADER - 1), np.uint8)
        count = len(data) - HEADER + 1
        if count <= 0:
            return None
        crc = np.full(count, 0xFFFFFFFF, np.uint32)
        for byte in range(8):
            crc = TABLE[(crc ^ data[byte : byte + count]) & 0xFF] ^ (crc >> 8)
        crc = ~crc
        masked = ((crc >> 15) | (crc << 17)) + np.uint32(MASK_DELTA)
        stored = np.zeros(count, np.uint32)
        for byte in range(4):
            stored |= data[8 + byte : 8 + byte + count].astype(np.uint32) << (8 * byte)
        for place in np.flatnonzero(masked == stored):
            (length,) = struct.unpack("<Q", data[place : place + 8].tobytes())
            if start + int(place) + HEADER + length + FOOTER <= size:
                return start + int(place)
        start += count
    return None


def unpacked(file: str, found: os.stat_result) -> tuple[str, str | None]:
    """The plain TFRecord file with the records of a file that may be compressed.

    Records of a GZIP or ZLIB file cannot be read one by one: it is unpacked once into the cache folder.

    Args:
        file: The path.
        found: Its size and times.

    Returns:
        The path of the plain file, `file` itself if it is one; and why records may be missing, None if none are.

    Raises:
        UserError: It cannot be read, the cache folder cannot be written, or it is compressed and holds no records.
    """
    with retry_lost(lambda: open_regular(file)) as stream:
        start = stream.read(HEADER)
        if _is_header(start) or not _is_compressed(start):
            return file, None
        path = hashlib.sha256(os.fsencode(os.path.abspath(file))).hexdigest()[:16]
        state = f"{found.st_size:x}-{found.st_mtime_ns:x}"
        folder = cache_folder() / "unpacked"
        whole, broken = (folder / f"{path}-{state}{end}" for end in (".tfrecord", ".broken"))
        for plain, reason in ((whole, None), (broken, UNFINISHED)):
            if plain.is_file():
                return str(plain), reason
        stream.seek(0)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for earlier in folder.glob(f"{path}-*"):  # of the file before it changed
                earlier.unlink(missing_ok=True)
            with atomic_path(broken) as temporary:
                is_whole = _unpack(stream, temporary, file)
            if is_whole:
                broken.rename(whole)
        except OSError as error:
            raise UserError(
                f"cannot unpack {file} into {folder}: {error.strerror}; set KERAS_HOME to a folder with space,"
                " or unpack it yourself"
            ) from error
    plain, reason = (whole, None) if is_whole else (broken, UNFINISHED)
    log.warning("unpacked %s, which is compressed, to %s: %s MB", file, plain, _megabytes(plain))
    return str(plain), reason


def _is_compressed(start: bytes) -> bool:
    """Whether a file starts as GZIP (RFC 1952) or ZLIB (RFC 1950) streams do."""
    is_zlib = (
        len(start) >= 2 and start[0] & 0x0F == 8 and int.from_bytes(start[:2], "big") % 31 == 0
    )
    return start[:2] == b"\x1f\x8b" or is_zlib


def _unpack(stream: BinaryIO, target: Path, file: str) -> bool:
    """Whether the compressed stream is whole; what could be read of it is in `target`."""
    unpacker, start = zlib.decompressobj(wbits=47), b""  # 47: GZIP or ZLIB, whichever it is
    with open(target, "wb") as plain:
        data = stream.read(CHUNK)
        while data:
            before = unpacker.copy()
            try:
                part = unpacker.decompress(data, CHUNK)
            except zlib.error:
                plain.write(_until_error(before, data))
                return False
            plain.write(part)
            start = start or part[:HEADER]
            if len(start) == HEADER and not _is_header(start):
                raise UserError(f"{file} is compressed, and what is in it is not a TFRecord file")
            data = unpacker.unconsumed_tail
            if unpacker.eof:  # a file may have several GZIP streams
                data = unpacker.unused_data.lstrip(b"\0")
                if data or (data := stream.read(CHUNK)):
                    unpacker = zlib.decompressobj(wbits=47)
            data = data or stream.read(CHUNK)
        plain.write(unpacker.flush())
        if not start:
            raise UserError(f"{file} is compressed, and nothing in it can be unpacked")
    return unpacker.eof


def _until_error(unpacker: Any, data: bytes) -> bytes:
    """What can be unpacked before the byte at which the stream is damaged."""
    parts = []
    with suppress(zlib.error):
        for place in range(len(data)):
            parts.append(unpacker.decompress(data[place : place + 1]))
    return b"".join(parts)


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:,.1f}"
