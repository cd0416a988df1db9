# SPDX-License-Identifier: Apache-2.0
"""Timings as rows: for a table, for a CSV file, and for two files side by side."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from inception_tf.errors import UserError

__all__ = [
    "COLUMNS",
    "compare_timings",
    "read_timings",
    "timing_rows",
    "suspect_lines",
    "timings_to_csv",
]

COLUMNS = (
    *("model", "what", "precision", "batch", "size", "threads", "median s", "p90 s"),
    *("images/s", "GFLOP/s", "of peak", "MiB", "suspect"),
)
# What makes two timings the same measurement on two machines or two days.
SAME = ("what", "model", "precision", "batch_size", "size", "threads", "backend", "input")
NESTED = ("durations", "environment")  # left out of a CSV file


def timing_rows(timings: Sequence[dict]) -> list[tuple[str, ...]]:
    """One row of `COLUMNS` for each of `Timing.as_dict()`."""
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
    """A line for each timing that cannot be, with why; empty where all can."""
    return [
        f"suspect: {t['model']}, {t['what'].lower()}, {t['precision']}, batch {t['batch_size']}:"
        f" {'; '.join(t['suspect'])}"
        for t in timings
        if t["suspect"]
    ]


def timings_to_csv(timings: Sequence[dict]) -> str:
    """A line for each timing, all single figures of the JSON file in columns of their own names."""
    names = [name for name in timings[0] if name not in NESTED]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(t | {"suspect": "; ".join(t["suspect"])} for t in timings)
    return text.getvalue()


def read_timings(path: str | Path) -> list[dict]:
    """The timings of a `--json` file; `UserError` where it cannot be read or is not one."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(_another_kind(path)) from error
    try:
        found = json.loads(text)
        # Asked for here, so that another kind of file is refused before it is compared.
        [(timing["median"], *(timing[key] for key in SAME)) for timing in found]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(_another_kind(path)) from error
    return found


def _another_kind(path: str | Path) -> str:
    return f"{path} is not what `inception-tf benchmark forward --json FILE` writes"


def compare_timings(ours: Sequence[dict], theirs: Sequence[dict]) -> list[tuple[str, ...]]:
    """Rows for what two files A and B have both measured.

    Returns:
        Model, kind, precision, batch, size, both medians, B's over A's (2.00: A takes half of B's time),
        and which of the two is suspect.
    """
    found = {tuple(t[key] for key in SAME): t for t in theirs}
    pairs = [(t, found.get(tuple(t[key] for key in SAME))) for t in ours]
    return [
        (
            *(a["model"], a["what"], a["precision"], str(a["batch_size"]), str(a["size"])),
            *(f"{a['median']:.4f}", f"{b['median']:.4f}", f"{b['median'] / a['median']:.2f}"),
            # Files of versions before this check have no such key.
            " and ".join(n for n, t in (("A", a), ("B", b)) if t.get("suspect")),
        )
        for a, b in pairs
        if b is not None
    ]
