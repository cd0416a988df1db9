# SPDX-License-Identifier: Apache-2.0
"""A folder has one writer: a second one is refused by name, and a killed one leaves no lock."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from inception_tf.errors import UserError
from inception_tf.host.locks import LOCK_FILE, lock_folder

HOLD = """
import sys
from pathlib import Path
from inception_tf.host.locks import lock_folder
with lock_folder(Path(sys.argv[1]), "trains into"):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of `tmp_path / run` until its input ends."""
    words = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(words, text=True, **pipes) as process:
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def test_a_second_process_is_told_which_one_is_there(holder, tmp_path):
    sentence = (
        f"process {holder.pid} on {socket.gethostname()} trains into {tmp_path / 'run'} already"
    )
    with (
        pytest.raises(UserError, match=re.escape(sentence)),
        lock_folder(tmp_path / "run", "trains into"),
    ):
        pass
    holder.communicate("")
    with lock_folder(tmp_path / "run", "trains into"):
        pass


def test_a_killed_process_leaves_no_lock(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with lock_folder(tmp_path / "run", "trains into"):
        assert f'"process": {os.getpid()}' in (tmp_path / "run" / LOCK_FILE).read_text()


def test_the_same_process_cannot_lock_twice_either(tmp_path):
    with (
        lock_folder(tmp_path, "trains into"),
        pytest.raises(UserError, match=f"process {os.getpid()} on"),
        lock_folder(tmp_path, "trains into"),
    ):
        pass


def test_nothing_is_left_in_the_folder_and_no_folder_that_was_not_there(tmp_path):
    with lock_folder(tmp_path / "a" / "run", "trains into"):
        pass
    assert not (tmp_path / "a" / "run").exists()
    (tmp_path / "mine").mkdir()
    with lock_folder(tmp_path / "mine", "trains into"):
        (tmp_path / "mine" / "file").touch()
    assert os.listdir(tmp_path / "mine") == ["file"]
    with pytest.raises(RuntimeError), lock_folder(tmp_path / "mine", "trains into"):
        raise RuntimeError
    assert os.listdir(tmp_path / "mine") == ["file"]


def test_of_many_that_come_and_go_one_is_inside_at_a_time(tmp_path):
    inside, most, entered = [], [], []

    def visit():
        for _ in range(200):
            try:
                with lock_folder(tmp_path / "run", "trains into"):
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()
                    entered.append(1)
            except UserError:
                pass

    threads = [threading.Thread(target=visit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert len(entered) >= 4


def test_a_folder_that_is_removed_while_it_is_made_is_made_again(tmp_path, monkeypatch):
    made = []

    def mkdir(path, *arguments, **options):
        made.append(path)
        if len(made) == 1:  # as pathlib, where the folder is there first, and gone when it looks
            raise FileExistsError(path)
        os.makedirs(path, exist_ok=True)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with lock_folder(tmp_path / "run", "trains into"):
        assert len(made) == 2


def test_a_file_in_place_of_the_folder_is_no_reason_to_try_again(tmp_path):
    (tmp_path / "run").touch()
    with pytest.raises(FileExistsError), lock_folder(tmp_path / "run", "trains into"):
        pass
    (tmp_path / "run").unlink()
    (tmp_path / "run").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError), lock_folder(tmp_path / "run", "trains into"):
        pass
