# SPDX-License-Identifier: Apache-2.0
"""Timings as rows: for a table, for a CSV file, and for two files side by side."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from inception_tf.errors import UserError

__all__ = ["COLUMNS", "comparison", "read", "rows", "to_csv"]

COLUMNS = (
    *("model", "what", "precision", "batch", "size", "threads", "median s", "p90 s"),
    *("images/s", "GFLOP/s", "of peak", "MiB"),
)
# What makes two timings the same measurement on two machines or two days.
SAME = ("what", "model", "precision", "batch_size", "size", "threads", "backend", "input")
NESTED = ("durations", "environment")  # left out of a CSV file


def rows(timings: Sequence[dict]) -> list[tuple[str, ...]]:
    """One row of `COLUMNS` for each of `Timing.as_dict()`."""
    return [
        (
            *(t["model"], t["what"], t["precision"]),
            *(str(t[key]) for key in ("batch_size", "size", "threads")),
            *(f"{t['median']:.4f}", f"{t['p90']:.4f}", f"{t['images_per_second']:.1f}"),
            f"{t['flops_per_second'] / 1e9:.0f}",
            f"{t['share_of_peak']:.0%}" if t["share_of_peak"] else "",
            f"{t['peak_memory'] / 2**20:,.0f}",
        )
        for t in timings
    ]


def to_csv(timings: Sequence[dict]) -> str:
    """A line for each timing, all single figures of the JSON file in columns of their own names."""
    names = [name for name in timings[0] if name not in NESTED]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(timings)
    return text.getvalue()


def read(path: str | Path) -> list[dict]:
    """The timings of a `--json` file; `UserError` where it is not one."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        # Asked for here, so that another kind of file is refused before it is compared.
        [(timing["median"], *(timing[key] for key in SAME)) for timing in found]
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not what `inception-tf benchmark forward --json` writes ({error!r})"
        ) from error
    return found


def comparison(ours: Sequence[dict], theirs: Sequence[dict]) -> list[tuple[str, ...]]:
    """Model, precision, batch, size, both medians and their ratio, for what both files have measured."""
    found = {tuple(t[key] for key in SAME): t for t in theirs}
    pairs = [(t, found.get(tuple(t[key] for key in SAME))) for t in ours]
    return [
        (
            *(a["model"], a["what"], a["precision"], str(a["batch_size"]), str(a["size"])),
            *(f"{a['median']:.4f}", f"{b['median']:.4f}", f"{b['median'] / a['median']:.2f}"),
        )
        for a, b in pairs
        if b is not None
    ]
