# SPDX-License-Identifier: Apache-2.0
"""1,457 files of other projects' tests, damaged, truncated, lying, animated; see their manifest."""

from __future__ import annotations

import collections
import csv
from pathlib import Path

KIND = ("source", "pil_format", "pil_mode", "exif_orientation", "pil_load", "tf_decode_image")


def odd_images(folder: Path, of_a_kind: int | None = None) -> list[dict[str, str]]:
    """Rows of the manifest: all, or the first so many of each project, format and outcome."""
    with open(folder / "manifest_small.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    if of_a_kind is None:
        return rows
    seen, chosen = collections.Counter(), []
    for row in rows:
        kind = tuple(row[column][:12] for column in KIND)
        seen[kind] += 1
        if seen[kind] <= of_a_kind:
            chosen.append(row)
    return chosen
