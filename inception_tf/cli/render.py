# SPDX-License-Identifier: Apache-2.0
"""Rows as text: the one table that all commands print."""

from __future__ import annotations

from collections.abc import Sequence

from inception_tf.errors import printable

__all__ = ["markdown", "table"]


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Formats columns under their names; numbers aligned right, words left; a name's line breaks as escapes."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    right = [all(_is_number(row[i]) for row in cells) for i in range(len(header))]

    def line(row):
        aligned = (
            c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)
        )
        return "  ".join(aligned).rstrip()

    return "\n".join(map(line, [header, *cells]))


def markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Formats a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        "| " + " | ".join(printable(str(cell)) for cell in line) + " |" for line in lines
    )


def _is_number(text: str) -> bool:
    return not text.strip("0123456789,.%- +")
