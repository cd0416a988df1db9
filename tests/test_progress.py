# SPDX-License-Identifier: Apache-2.0
"""Progress bars: on stderr, moving on a terminal and a line now and then in a log file."""

from __future__ import annotations

import sys

from inception_tf.host.progress import LOG_S, TERMINAL_S, progress_bar


def test_a_log_file_gets_a_line_now_and_then_on_stderr_alone(capsys):
    with progress_bar(10, "reading") as bar:
        assert bar.mininterval == LOG_S
        bar.update(10)
    out, err = capsys.readouterr()
    assert out == ""
    assert "reading: 100%" in err.splitlines()[-1]
    assert "10/10" in err


def test_a_terminal_gets_a_moving_bar(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress_bar(None, "reading") as bar:
        assert bar.mininterval == TERMINAL_S
