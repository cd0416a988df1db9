# SPDX-License-Identifier: Apache-2.0
"""Timings as rows: for a table, for a CSV file, and for comparing two files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from inception_tf.errors import UserError
from inception_tf.host.files import read_text

__all__ = [
    "COLUMNS",
    "compare_timings",
    "read_timings",
    "suspect_lines",
    "timing_rows",
    "timings_to_csv",
]

COLUMNS = (
    *("model", "what", "precision", "batch", "size", "threads", "median s", "p90 s"),
    *("images/s", "GFLOP/s", "of peak", "MiB", "suspect"),
)
# Two timings with equal values of these are the same measurement, on two machines or two days.
SAME = ("what", "model", "precision", "batch_size", "size", "threads", "backend", "input")
NESTED = ("durations", "environment")  # not in the CSV file


def timing_rows(timings: Sequence[dict]) -> list[tuple[str, ...]]:
    """Formats timings for a table.

    Args:
        timings: from `Timing.as_dict()`.

    Returns:
        A row of `COLUMNS` for each.
    """
    return [
        (
            *(t["model"], t["what"], t["precision"]),
            *(str(t[key]) for key in ("batch_size", "size", "threads")),
            *(f"{t['median']:.4f}", f"{t['p90']:.4f}", f"{t['images_per_second']:.1f}"),
            f"{t['flops_per_second'] / 1e9:.0f}",
            f"{t['share_of_peak']:.0%}" if t["share_of_peak"] else "",
            f"{t['peak_memory'] / 2**20:,.0f}",
            "suspect" if t["suspect"] else "",
        )
        for t in timings
    ]


def suspect_lines(timings: Sequence[dict]) -> list[str]:
    """Explains which timings are impossible.

    Args:
        timings: from `Timing.as_dict()`.

    Returns:
        A line for each suspect timing, with the reasons; empty where there is none.
    """
    return [
        f"suspect: {t['model']}, {t['what'].lower()}, {t['precision']}, batch {t['batch_size']}:"
        f" {'; '.join(t['suspect'])}"
        for t in timings
        if t["suspect"]
    ]


def timings_to_csv(timings: Sequence[dict]) -> str:
    """Formats timings as CSV.

    Args:
        timings: from `Timing.as_dict()`, at least one.

    Returns:
        A header and a line for each; all figures of the JSON file but lists and dicts.
    """
    names = [name for name in timings[0] if name not in NESTED]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(t | {"suspect": "; ".join(t["suspect"])} for t in timings)
    return text.getvalue()


def read_timings(path: str | Path) -> list[dict]:
    """Reads a file that `--json` wrote.

    Args:
        path: the file.

    Returns:
        The timings, as from `Timing.as_dict()`.

    Raises:
        UserError: the file cannot be read, or is of another kind.
    """
    text = read_text(path)
    try:
        found = json.loads(text)
        # Read here, so that another kind of file is rejected before it is compared.
        [(timing["median"], *(timing[key] for key in SAME)) for timing in found]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(_another_kind(path)) from error
    return found


def _another_kind(path: str | Path) -> str:
    return f"{path} is not what `inception-tf benchmark forward --json FILE` writes"


def compare_timings(ours: Sequence[dict], theirs: Sequence[dict]) -> list[tuple[str, ...]]:
    """Compares the measurements that two files A and B have in common.

    Args:
        ours: the timings of A.
        theirs: the timings of B.

    Returns:
        Rows of model, kind, precision, batch, size, both medians, B's over A's (2.00: A takes half of B's
        time), and which of the two is suspect.
    """
    found = {tuple(t[key] for key in SAME): t for t in theirs}
    pairs = [(t, found.get(tuple(t[key] for key in SAME))) for t in ours]
    return [
        (
            *(a["model"], a["what"], a["precision"], str(a["batch_size"]), str(a["size"])),
            *(f"{a['median']:.4f}", f"{b['median']:.4f}", f"{b['median'] / a['median']:.2f}"),
            # Files of earlier versions have no such key.
            " and ".join(n for n, t in (("A", a), ("B", b)) if t.get("suspect")),
        )
        for a, b in pairs
        if b is not None
    ]
