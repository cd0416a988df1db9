# SPDX-License-Identifier: Apache-2.0
"""What a benchmark printed, kept beside its command, and the tables of the pages beside what was kept."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pages
import pytest

RESULTS = pages.ROOT / "docs" / "results"
RECORDED = [path for path in sorted(RESULTS.glob("*.json")) if '"output"' in path.read_text()]


def recorded(*words, file):
    command = [sys.executable, pages.ROOT / "benchmarks/recorded.py", file, *words]
    return subprocess.run(command, capture_output=True, text=True)


def test_what_a_script_prints_is_kept_with_its_command_and_the_versions(tmp_path):
    child = recorded("growth.py", "--help", file=tmp_path / "growth.json")
    assert child.returncode == 0, child.stderr
    found = json.loads((tmp_path / "growth.json").read_text("utf-8"))
    assert found["command"] == "python benchmarks/growth.py --help"
    assert {"date", "seconds", "environment", "machine"} < set(found)
    assert found["output"] == child.stdout.splitlines()
    assert found["output"][0].startswith("Usage: growth.py")


def test_a_command_is_kept_without_paths_of_the_machine(monkeypatch):
    monkeypatch.syspath_prepend(str(pages.ROOT / "benchmarks"))
    from recorded import shown

    words = [
        "/env/bin/python3",
        "folder:/data/flowers",
        "http://host/v1/x",
        "http://host:80/v1",
        "a",
    ]
    assert shown("fid.py", words) == (
        "python benchmarks/fid.py PYTHON folder:flowers http://host/v1/x http://host:80/v1 a"
    )


def test_a_script_that_fails_leaves_the_file_of_before(tmp_path):
    (tmp_path / "growth.json").write_text("before")
    assert recorded("growth.py", "--nonsense", file=tmp_path / "growth.json").returncode == 2
    assert recorded("nonsense.py", file=tmp_path / "growth.json").returncode == 2
    assert (tmp_path / "growth.json").read_text() == "before"


def table_of(output):
    """The rows of a recorded table: those of Markdown, or else from the head of `benchmark`'s table on, or all lines."""
    head = next((place for place, line in enumerate(output) if line.startswith("model  ")), 0)
    return [line for line in output if line.startswith("|")] or output[head:]


def joined(text):
    """A page's text with commands that go over several lines in one."""
    return re.sub(r" \\\n +", " ", text)


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_every_row_of_a_recorded_table_is_on_the_page_that_names_it(path):
    found = json.loads(path.read_text("utf-8"))
    texts = [page.text for page in pages.all_pages() if f"results/{path.name}" in page.text]
    assert texts, f"no page names {path.name}"
    rows = table_of(found["output"])
    assert rows
    for text in texts:
        assert found["command"] in joined(text)
        assert set(rows) <= {line.strip() for line in text.splitlines()}


# Measured before results were kept.
NOT_KEPT = re.compile(
    r"peers\.py|training\.py|step\.py|convolutions\.py|roofline\.py|growth\.py|start-up|forward-backward|--model alexnet"
)
COMMAND = re.compile(r"    ((?:[A-Z_]+=\S+ )*(?:python benchmarks/|inception-tf benchmark ).*)")


def test_the_table_below_a_benchmarks_command_is_a_recorded_one():
    kept = {json.loads(path.read_text("utf-8"))["command"]: path.name for path in RECORDED}
    checked = 0
    for page in pages.all_pages():
        command = None
        for line in joined(page.text).splitlines():
            if call := COMMAND.fullmatch(line):
                command = call[1]
            elif line.startswith("#"):
                command = None
            elif command and line.startswith("| "):
                # Of the card, whose results test_docs.py compares, and of examples without figures.
                if "accelerator.py" not in command and not NOT_KEPT.search(command):
                    assert f"results/{kept.get(command)}" in page.text, (page.name, command)
                    checked += 1
                command = None
    assert checked > 3
