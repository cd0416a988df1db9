# SPDX-License-Identifier: Apache-2.0
"""Files that are no regular files, are missing, or come back after a moment."""

from __future__ import annotations

import errno
import os
import threading

import pytest

from inception_tf.errors import UserError
from inception_tf.host.files import open_regular, retry_lost, stat_regular


def _pipe(path):
    os.mkfifo(path)


def _link_to_itself(path):
    path.symlink_to(path)


@pytest.mark.parametrize("read", [open_regular, stat_regular])
@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: None, "is missing"),
        (_pipe, "is a named pipe, and only regular files are read"),
        (lambda path: path.mkdir(), "is a folder, and only"),
        (lambda path: path.symlink_to("/dev/zero"), "is a device, and only"),
        (lambda path: path.symlink_to("nowhere"), "is a link to a missing file"),
        (_link_to_itself, "is a link that leads back to itself"),
    ],
)
def test_what_is_no_regular_file_is_one_sentence(tmp_path, read, make, sentence):
    make(tmp_path / "x")
    with pytest.raises(UserError, match=f"x {sentence}"):
        read(str(tmp_path / "x"))


def test_a_regular_file_is_read_through_a_link(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "x").symlink_to("file")
    with open_regular(str(tmp_path / "x")) as stream:
        assert stream.read() == b"content"
    assert stat_regular(str(tmp_path / "x")).st_size == 7


def test_a_file_that_comes_back_is_read(tmp_path):
    path = tmp_path / "x"
    (tmp_path / "away").write_bytes(b"content")
    timer = threading.Timer(0.1, (tmp_path / "away").rename, [path])
    timer.start()
    assert retry_lost(lambda: stat_regular(str(path)), (0.05,) * 100).st_size == 7
    timer.join()


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.ETIMEDOUT])
def test_a_share_that_is_away_is_asked_again_and_then_named(number):
    calls = []

    def read():
        calls.append(1)
        raise OSError(number, os.strerror(number))

    with pytest.raises(OSError, match=os.strerror(number)):
        retry_lost(read, (0.0, 0.0))
    assert len(calls) == 3


def test_what_no_waiting_helps_is_raised_at_once(tmp_path):
    os.mkfifo(tmp_path / "x")
    with pytest.raises(UserError, match="named pipe"):
        retry_lost(lambda: open_regular(str(tmp_path / "x")), (60.0,))
    with pytest.raises(PermissionError):
        retry_lost(lambda: (_ for _ in ()).throw(PermissionError(errno.EACCES, "no")), (60.0,))
