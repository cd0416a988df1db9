# SPDX-License-Identifier: Apache-2.0
"""The documents against the program: commands exist, examples run, tables hold."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

import inception_tf
from inception_tf import spec
from inception_tf.cli import COMMANDS
from inception_tf.models import find


@pytest.fixture(scope="module")
def readme(root):
    return (root / "README.md").read_text(encoding="utf-8")


def test_the_first_screen_has_the_two_commands(readme):
    first_screen = "\n".join(readme.splitlines()[:12])
    assert "scripts/run" in first_screen
    assert "scripts/test" in first_screen


def test_every_command_stands_in_the_readme_and_every_command_there_exists(readme):
    named = set(re.findall(r"inception-tf ([a-z][a-z-]+)", readme))
    assert named == set(COMMANDS)


def test_the_python_example_is_ten_lines_and_runs_as_printed(readme):
    (example,) = re.findall(r"```python\n(.*?)```", readme, re.S)
    assert len(example.strip().splitlines()) <= 10
    result = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "val_accuracy" in result.stdout
    assert "(None, 2, 2, 1024)" in result.stdout


@pytest.mark.parametrize("name", inception_tf.list_models())
def test_the_table_of_networks_holds(readme, name):
    (row,) = re.findall(rf"^\| `{name}` \|.*$", readme, re.M)
    facts = spec.facts(find(name))
    assert f"{spec.total(facts, 'params'):,}" in row
    assert f"{spec.total(facts, 'multiply_adds') / 1e9:.2f} G" in row
    assert f"| {find(name).size} |" in row
    assert find(name).accuracy.split(" (")[0] in row


def test_the_changelog_names_the_version(root):
    assert f"## {inception_tf.__version__}" in (root / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_scripts_are_named_and_executable(root):
    for name in ("scripts/run", "scripts/test", "scripts/environment", ".ci/run"):
        assert (root / name).stat().st_mode & 0o111, name
