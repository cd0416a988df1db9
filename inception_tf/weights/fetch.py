# SPDX-License-Identifier: Apache-2.0
"""Download of one file over HTTPS: complete and checked, or not there; what may pass is tried again."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from inception_tf import __version__
from inception_tf.errors import UserError
from inception_tf.host.atomic_io import atomic_path, atomic_write_text
from inception_tf.host.files import check_content, open_regular
from inception_tf.host.progress import progress_bar

__all__ = ["FirstDownload", "check_sums", "download", "file_sums", "keep_record"]

ATTEMPTS = 3
RETRY_DELAY_S = 1.0  # seconds before the second attempt; doubled for each further one
TIMEOUT_S = 30.0  # seconds without a byte
CHUNK = 2**18  # bytes
# Answers of a server that is overloaded or restarts; others, such as 404, would be the same again.
PASSING = (408, 425, 429, 500, 502, 503, 504)
RECORD = ".json"  # appended to a file's name: what its first download was
# Headers of Hugging Face's servers: the revision of a file, and the SHA-256 of its content.
COMMIT, LINKED_SUM = "X-Repo-Commit", "X-Linked-Etag"
MAIN = "/resolve/main/"


@dataclass(frozen=True)
class FirstDownload:
    """What the first download of a file was; later ones must be the same."""

    address: str
    sha256: str
    size: int
    commit: str | None = None  # the revision that the address stood for
    checked_by: str = ""  # whose checksum it has been compared with; empty: trusted on first use


class _PassingError(Exception):
    """A failure that may pass."""


def file_sums(path: Path, kinds: tuple[str, ...]) -> dict[str, str]:
    """The checksums of a file, read once.

    Args:
        path: The file.
        kinds: Names of hash functions, such as `sha256`.

    Returns:
        Kind → hexadecimal digest.
    """
    sums = {kind: hashlib.new(kind) for kind in kinds}
    with open_regular(str(path)) as file:
        while chunk := file.read(CHUNK):
            for one in sums.values():
                one.update(chunk)
    return {kind: one.hexdigest() for kind, one in sums.items()}


def check_sums(what: str, found: Mapping[str, str], wanted: Mapping[str, str], then: str) -> None:
    """Compare checksums.

    Args:
        what: The file, the subject of the sentence.
        found: Kind → digest.
        wanted: Kind → digest, or its beginning.
        then: The end of the sentence: what became of the file, and what to do.

    Raises:
        UserError: One differs.
    """
    for kind, start in wanted.items():
        if not found[kind].startswith(start):
            raise UserError(
                f"{what} has the {kind} checksum {found[kind]} and should have {start}: it is damaged or was"
                f" changed; {then}"
            )


def download(address: str, path: Path, wanted: Mapping[str, str]) -> FirstDownload:
    """Download a file, unless it is damaged or another one than before.

    Where no checksum is published, the first download is trusted; once `keep_record` has kept its SHA-256 beside
    the file (`FILE.json`), a later one has to be the same.  An address of Hugging Face's `main` is kept with the
    revision that it stood for.

    Args:
        address: The address.
        path: The file to write, in a folder that exists.
        wanted: Kind of checksum → digest, or its beginning; as published.

    Returns:
        What was downloaded.

    Raises:
        UserError: The download failed, the disk is full, or the file is not the one that is wanted.
    """
    record = path.with_name(path.name + RECORD)
    before = _read_record(record)
    if before and before.commit:
        address = address.replace(MAIN, f"/resolve/{before.commit}/")
    by_hand = f"or put that file by hand at {path}"
    for left in reversed(range(ATTEMPTS)):
        try:
            with atomic_path(path) as unfinished:
                headers = _receive(address, unfinished)
                published = dict(wanted)
                if linked := _linked_sum(headers):
                    published["sha256"] = published.get("sha256", linked)
                sums = file_sums(unfinished, tuple({*published, "sha256"}))
                then = f"nothing was kept: try again, {by_hand}"
                check_sums(f"what {address} sent", sums, published, then)
                if before and before.sha256 != sums["sha256"]:
                    raise UserError(
                        f"{address} sent another file than at the first download, which had the SHA-256"
                        f" {before.sha256} ({record}); nothing was kept: if the new one is right, remove that record"
                    )
                size = unfinished.stat().st_size
        except _PassingError as error:
            if left:
                time.sleep(RETRY_DELAY_S * 2 ** (ATTEMPTS - 1 - left))
                continue
            raise _failed(address, str(error), by_hand) from error
        checked_by = "its publisher" if published else ""
        return before or FirstDownload(
            address, sums["sha256"], size, headers.get(COMMIT), checked_by
        )
    raise AssertionError("unreachable")


def keep_record(path: Path, made: FirstDownload) -> None:
    """Keep what a first download was, once it has proved to be usable.

    Args:
        path: The downloaded file; the record is written beside it.
        made: What `download` returned.
    """
    record = path.with_name(path.name + RECORD)
    atomic_write_text(record, json.dumps(asdict(made), indent=2) + "\n")


def _failed(address: str, reason: str, by_hand: str) -> UserError:
    return UserError(f"cannot download {address}: {reason}; try again, {by_hand}")


def _read_record(path: Path) -> FirstDownload | None:
    if not path.exists():
        return None
    try:
        check_content(path)
        return FirstDownload(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is no record of a download ({error}); remove it") from error


def _linked_sum(headers: Mapping[str, str]) -> str | None:
    found = (headers.get(LINKED_SUM) or "").strip('"').lower()
    return found if len(found) == 64 and not found.strip("0123456789abcdef") else None


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not from HTTPS to plain HTTP; keeps the headers of the first answer."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise UserError(
                f"{req.full_url} leads to {newurl}, which is not encrypted; it is not followed"
            )
        self.headers = {**dict(headers), **self.headers}
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _receive(address: str, path: Path) -> dict[str, str]:
    """Writes what an address sends; returns the headers, those of the first answer before others'."""
    redirects = _Redirects()
    opener = urllib.request.build_opener(redirects)
    agent = {"User-Agent": f"inception_tf/{__version__}", "Accept-Encoding": "identity"}
    request = urllib.request.Request(address, headers=agent)
    where = f"or put that file by hand at {path.parent}"
    try:
        with opener.open(request, timeout=TIMEOUT_S) as answer:
            length = answer.headers.get("Content-Length")
            size = int(length) if length and length.isdecimal() else None
            if size and size > shutil.disk_usage(path.parent).free:
                raise UserError(
                    f"the disk is full: {address} has {size:,} bytes, more than are free in {path.parent};"
                    " free some space"
                )
            _copy(answer, path, size)
            return {**dict(answer.headers), **redirects.headers}
    except urllib.error.HTTPError as error:
        error.close()
        reason = f"the server answers {error.code} {error.reason}"
        if error.code in PASSING:
            raise _PassingError(reason) from error
        raise _failed(address, reason, where) from error
    except urllib.error.URLError as error:
        raise _as_failure(address, error.reason, where) from error
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise _PassingError(str(error) or type(error).__name__) from error


def _copy(answer: Any, path: Path, size: int | None) -> None:
    received = 0
    name = path.name.split("-", 2)[-1]
    with (
        open(path, "wb") as file,
        progress_bar(size, name, unit_scale=True, unit="B", leave=False) as bar,
    ):
        while chunk := answer.read(CHUNK):
            try:
                file.write(chunk)
            except OSError as error:
                raise UserError(
                    f"cannot write {path.parent}: {error.strerror} after {received:,} bytes; free some space"
                ) from error
            received += len(chunk)
            bar.update(len(chunk))
    if size is not None and received < size:
        raise _PassingError(f"the answer ended after {received:,} of {size:,} bytes")


def _as_failure(address: str, reason: Any, where: str) -> Exception:
    passing = isinstance(reason, ConnectionError | TimeoutError) or (
        isinstance(reason, socket.gaierror) and reason.errno == socket.EAI_AGAIN
    )
    is_system = isinstance(reason, OSError) and not isinstance(reason, socket.gaierror)
    text = os.strerror(reason.errno) if is_system and reason.errno else str(reason)
    return _PassingError(text) if passing else _failed(address, text, where)
