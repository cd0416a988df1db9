# SPDX-License-Identifier: Apache-2.0
"""Files are written completely or not at all, and what a killed process left is removed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from inception_tf.host.atomic_io import atomic_path, atomic_write_text, remove_unfinished

KILLED = """
import os, sys
from pathlib import Path
from inception_tf.host.atomic_io import atomic_path
with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), 9)
"""


def _write_half(path):
    path.write_text("half")
    raise RuntimeError


def test_an_error_leaves_the_old_content_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    atomic_write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        _write_half(temporary)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    path = tmp_path / "model.keras"
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", KILLED, path]).returncode == -9
    left = os.listdir(tmp_path)
    assert len(left) == 2
    (tmp_path / f".unfinished-{2**22 + 1}-model.keras").touch()  # version 0.1.0 named them so
    (tmp_path / f".unfinished-{2**22 + 1}@another-host@model.keras").touch()
    (tmp_path / ".unfinished-notes").touch()  # another program's
    with atomic_path(path) as temporary:
        temporary.write_text("whole")
        remove_unfinished(tmp_path)
        kept = {
            temporary.name,
            ".unfinished-notes",
            f".unfinished-{2**22 + 1}@another-host@model.keras",
        }
        assert set(os.listdir(tmp_path)) == kept
    assert path.read_text() == "whole"
