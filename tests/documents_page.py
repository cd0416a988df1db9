# SPDX-License-Identifier: Apache-2.0
"""docs/documents.md from docs/documents.yaml: python tests/documents_page.py."""

from __future__ import annotations

import os.path
from pathlib import Path

import yaml

DOCS = Path(__file__).parents[1] / "docs"
SOURCE, PAGE = DOCS / "documents.yaml", DOCS / "documents.md"
HEAD = """\
# The documents, statement by statement

The project follows three texts: articles on batch normalization, with a listing and the paper's figures; "GoogLeNet in TensorFlow", with its two tables and a report of the forward pass; and the paper on batch normalization (Ioffe and Szegedy 2015).
Each of their {count} statements is in this table, with the command, the Python name, the test or the page where it lives.

| state | statements | meaning |
| --- | --- | --- |
{states}

Small experiments that show single statements: [experiments](experiments/README.md).  Misprints of the documents are named in the rows, and by `inception-tf summary`.
"""
MEANINGS = {
    "yes": "there, and checked against a source from outside",
    "part": "there in part, or measured on a smaller scale; the row says what is missing",
    "no": "not there; the row says why",
    "text": "an argument or history: nothing to implement",
}
FOOT = """
This page is generated from `documents.yaml`, and a test checks that every command, name, test and page in it exists.
"""


def statements() -> list[dict]:
    """The rows of the source, numbered, each with its document."""
    source = yaml.safe_load(SOURCE.read_text(encoding="utf-8"))
    rows = [(document, row) for document, rows in source.items() for row in rows]
    return [{"number": n, "document": document, **row} for n, (document, row) in enumerate(rows, 1)]


def page(rows: list[dict]) -> str:
    """The text of the page."""
    states = "\n".join(
        f"| {state} | {sum(row['state'] == state for row in rows)} | {meaning} |"
        for state, meaning in MEANINGS.items()
    )
    text = HEAD.format(count=len(rows), states=states)
    for document in dict.fromkeys(row["document"] for row in rows):
        text += f"\n## {document[0].upper()}{document[1:]}\n\n"
        text += "| # | statement | where | state |\n| --- | --- | --- | --- |\n"
        for row in rows:
            if row["document"] == document:
                text += f"| {row['number']} | {row['says']} | {_where(row)} | {_state(row)} |\n"
    return text + FOOT


def _where(row: dict) -> str:
    places = [f"`{command}`" for command in row.get("commands", ())]
    places += [f"`{name}`" for name in row.get("names", ())]
    places += [
        f"[{Path(name).stem if name.startswith('docs/') else name}]({os.path.relpath(name, 'docs')})"
        for name in row.get("pages", ())
    ]
    places += [f"`{test.removeprefix('tests/')}`" for test in row.get("tests", ())]
    return "; ".join(places) or "-"


def _state(row: dict) -> str:
    note = f". {row['note']}" if row.get("note") else ""
    return f"**{row['state']}**{note}"


if __name__ == "__main__":
    PAGE.write_text(page(statements()), encoding="utf-8")
