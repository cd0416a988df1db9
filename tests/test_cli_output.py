# SPDX-License-Identifier: Apache-2.0
"""What files and servers say is shown on a terminal and not obeyed by it."""

from __future__ import annotations

import json
import logging
import re
import warnings
from pathlib import Path

import pytest
from fake_server import row, serving

from inception_tf import cli
from inception_tf.cli.output import echo
from inception_tf.cli.render import markdown, table

EVIL = "\x1b]0;owned\x07\x1b[2J\rcat\u202e\x9b31m"
SPELLED = r"\x1b]0;owned\x07\x1b[2J\rcat\u202e\x9b31m"


def is_clean(text: str) -> bool:
    return all(c.isprintable() or c in "\n\t" for c in text)


def test_only_one_module_of_the_commands_prints(root):
    for path in Path(root, "inception_tf/cli").glob("*.py"):
        calls = re.findall(
            r"click\.s?echo\((?!error\.ctx\.get_help)|(?<![\w.])print\(|sys\.std\w+\.write",
            path.read_text(),
        )
        assert path.name == "output.py" or not calls, path


def test_lines_and_tabs_stay_and_what_moves_the_cursor_is_spelled(capfd):
    echo(f"a\tb\n{EVIL}")
    echo("caf\udce9 Ärmel 犬", err=True)
    out, err = capfd.readouterr()
    assert out == f"a\tb\n{SPELLED}\n"
    assert err == "caf\\xe9 Ärmel 犬\n"


def test_a_cell_stays_in_its_line():
    for form in (table, markdown):
        text = form(("name",), [("a\nb",), (EVIL,)])
        assert r"a\nb" in text
        assert is_clean(text)


@pytest.mark.parametrize("code", [200, 500])
def test_a_servers_labels_status_and_errors_are_shown(code, tmp_path, capfd):
    name = tmp_path / "x\x1b[31m.png"
    name.write_bytes(b"x")
    bad = tmp_path / "y.png"
    bad.write_bytes(b"y")
    answers = [
        row(b"x") | {"top_classes": [EVIL, "b"]},
        row(b"y") | {"status": EVIL, "top_classes": ["", ""]},
    ]
    body = {"predictions": answers} if code == 200 else {"error": EVIL}
    with serving(lambda *_: (code, body)) as (_, address):
        words = ["predict", address, str(name), str(bad), "--top", "1"]
        assert cli.main(words) == 2
        out, err = capfd.readouterr()
        assert is_clean(out + err)
        assert (r"\x1b]0;owned\x07\x1b[2J") in (out if code == 200 else err)
        assert cli.main([*words, "--json"]) == 2
    out, err = capfd.readouterr()
    assert is_clean(out + err)
    if code == 200:
        assert json.loads(out)[0]["top"][0]["label"] == EVIL


def test_names_in_errors_tracebacks_warnings_and_logs_are_shown(
    tmp_path, capfd, caplog, monkeypatch
):
    missing = f"{tmp_path}/\x1b[2J\nx"
    assert cli.main(["--debug", "predict", missing, "y"]) == 2
    err = capfd.readouterr().err
    assert is_clean(err)
    assert err.splitlines()[-1].startswith("inception-tf: there is no ")
    assert r"\x1b[2J\nx" in err.splitlines()[-1]

    def warn(*_):
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = show
            warnings.warn(EVIL, stacklevel=1)
        logging.getLogger("inception_tf").warning("%s is bad", EVIL)
        return 0

    def show(message, category, filename, lineno, file=None, line=None):
        print(warnings.formatwarning(message, category, filename, lineno, line))

    monkeypatch.setattr(cli, "_run", warn)
    before = warnings.formatwarning
    assert cli.main([]) == 0
    assert SPELLED in capfd.readouterr().out
    assert caplog.messages == [f"{SPELLED} is bad"]
    assert warnings.formatwarning is before
    assert not logging.getLogger("inception_tf").filters
