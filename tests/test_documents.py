# SPDX-License-Identifier: Apache-2.0
"""The table of the documents' statements against the commands, names, tests and pages that it lists."""

from __future__ import annotations

import importlib
import re
import shlex

import click
import documents_page
import pytest

from inception_tf import cli
from inception_tf.models import list_models
from inception_tf.training.recipes import list_recipes

ROWS = documents_page.statements()
KEYS = {"number", "document", "says", "commands", "names", "pages", "tests", "state", "note"}


def test_the_page_is_that_of_its_source():
    found = documents_page.PAGE.read_text(encoding="utf-8")
    assert found == documents_page.page(ROWS), "run python tests/documents_page.py"


def test_all_statements_of_the_documents_are_there():
    assert len(ROWS) == 53
    assert len({row["says"] for row in ROWS}) == 53


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row["number"]))
def test_what_a_statement_names_exists(row, root):
    assert set(row) <= KEYS
    assert row["state"] in documents_page.MEANINGS
    places = [
        place for kind in ("commands", "names", "pages", "tests") for place in row.get(kind, ())
    ]
    assert bool(places) == (row["state"] in ("yes", "part"))
    if row["state"] in ("part", "no"):
        assert row["note"].endswith(".")
    for command in row.get("commands", ()):
        check_command(command)
    for name in row.get("names", ()):
        module, _, attribute = name.rpartition(".")
        assert getattr(importlib.import_module(module), attribute), name
    for page in row.get("pages", ()):
        assert (root / page).is_file(), page
    for test in row.get("tests", ()):
        check_test(test, root)


def check_command(text):
    """The command, its words and its options exist."""
    program, name, *words = shlex.split(text)
    assert program == "inception-tf"
    command = cli.program.get_command(click.Context(cli.program), name)
    assert command, text
    if isinstance(command, click.Group):
        command = command.get_command(click.Context(command), words.pop(0))
        assert command, text
    options = {opt: param for param in command.params for opt in param.opts}
    while words:
        word = words.pop(0)
        if word.startswith("--"):
            options[word].type.convert(words.pop(0), options[word], None)
        else:
            assert word in {*list_models(), *list_recipes()}, text


def check_test(text, root):
    path, _, function = text.partition("::")
    source = (root / path).read_text(encoding="utf-8")
    assert re.search(rf"^def {function}\(", source, re.M), text


@pytest.mark.parametrize(
    "command",
    [
        "inception-tf experiment nothing",
        "inception-tf summarize",
        "inception-tf summary inception_v9",
        "inception-tf evaluate --crops 12",
        "inception-tf evaluate --crop 144",
    ],
)
def test_a_command_that_does_not_exist_is_noticed(command):
    with pytest.raises((AssertionError, KeyError, click.ClickException)):
        check_command(command)


def test_a_test_that_does_not_exist_is_noticed(root):
    with pytest.raises(AssertionError):
        check_test("tests/test_documents.py::test_nothing", root)
    with pytest.raises(OSError, match="test_nothing"):
        check_test("tests/test_nothing.py::test_nothing", root)
