# SPDX-License-Identifier: Apache-2.0
"""Version folders that appear whole, and what a killed export leaves."""

from __future__ import annotations

import os
import subprocess
import sys

from inception_tf.savedmodel.versions import atomic_version, publish_version

KILLED = """
import os, sys
from pathlib import Path
from inception_tf.savedmodel.versions import atomic_version
with atomic_version(Path(sys.argv[1])) as building:
    (building / "model").mkdir()
    (building / "model" / "saved_model.pb").write_bytes(bytes(1000))
    os.kill(os.getpid(), 9)
"""


def test_what_a_killed_export_left_is_removed_by_the_next_and_a_living_ones_is_not(tmp_path):
    to = tmp_path / "net"
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", KILLED, to]).returncode == -9
        (left,) = to.iterdir()  # the second one removed what the first left
        assert left.name.startswith(".export-")
    foreign = to / f".export-{2**22 + 1}@another-host@x"
    foreign.mkdir()
    (to / ".export-notes").mkdir()  # of no process
    with atomic_version(to) as first, atomic_version(to) as second:
        assert set(to.iterdir()) == {first, second, foreign, to / ".export-notes"}
        built = second / "model"
        built.mkdir()
        assert publish_version(built, to, None) == to / "1"
    assert set(os.listdir(to)) == {"1", foreign.name, ".export-notes"}
