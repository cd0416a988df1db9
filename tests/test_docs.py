# SPDX-License-Identifier: Apache-2.0
"""The documents against the program: commands exist, examples run, tables hold."""

from __future__ import annotations

import re

import forked
import pytest

import inception_tf
from inception_tf.arch import counting
from inception_tf.cli import COMMANDS
from inception_tf.models import find_network
from inception_tf.training.recipes import list_recipes, network_of


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


def printed_by(readme, number):
    """What the Python example of that number prints."""
    example = re.findall(r"```python\n(.*?)```", readme, re.S)[number]
    result = forked.run(["-c", example])
    assert result.returncode == 0, result.stderr
    return example, result.stdout


@pytest.mark.slow
def test_the_first_python_example_is_ten_lines_and_runs_as_printed(readme):
    example, printed = printed_by(readme, 0)
    assert len(example.strip().splitlines()) <= 10
    assert "val_accuracy" in printed
    assert "(None, 2, 2, 1024)" in printed


def test_the_pieces_of_train_can_be_taken_as_printed(readme):
    example, printed = printed_by(readme, 1)
    assert printed.strip() == example.splitlines()[-1].split("# ")[1]


def test_every_recipe_stands_in_the_readme_with_its_network(readme):
    table = readme.split("| recipe | what | network |")[1].split("\n\n")[0]
    told = {}
    for row in table.splitlines()[2:]:
        names, _, network = row.strip("| ").split(" | ")
        told |= dict.fromkeys(re.findall(r"`([^`]+)`", names), network.strip("`"))
    assert told == {name: network_of(name) or "any" for name in list_recipes()}


@pytest.mark.parametrize("name", inception_tf.list_models())
def test_the_table_of_networks_holds(readme, name):
    row, *_ = re.findall(rf"^\| `{name}` \|.*$", readme, re.M)
    costs = counting.layer_costs(find_network(name))
    assert f"{counting.total(costs, 'params'):,}" in row
    assert f"{counting.total(costs, 'multiply_adds') / 1e9:.2f} G" in row
    assert f"| {find_network(name).size} |" in row
    assert find_network(name).accuracy.split(" (")[0] in row


def test_the_changelog_names_the_version(root):
    assert f"## {inception_tf.__version__}" in (root / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_scripts_are_named_and_executable(root):
    for name in ("scripts/run", "scripts/test", "scripts/environment", ".ci/run"):
        assert (root / name).stat().st_mode & 0o111, name
