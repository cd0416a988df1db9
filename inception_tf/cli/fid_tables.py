# SPDX-License-Identifier: Apache-2.0
"""What `inception-tf fid` prints: the metrics, what was read, the table of tools and that of published values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from inception_tf.cli.render import table
from inception_tf.data.sources.source_warnings import counted
from inception_tf.errors import printable
from inception_tf.generative.kinds import RULES

if TYPE_CHECKING:
    from inception_tf.generative.results import Comparison, SetReport
    from inception_tf.generative.self_check import Outcome

__all__ = ["anchor_table", "comparison_lines", "tool_table"]


def comparison_lines(found: Comparison) -> Iterator[str]:
    """The metrics of one comparison, then all that they depend on.

    Args:
        found: The comparison.

    Yields:
        Lines.
    """
    yield from _metric_lines(found)
    yield ""
    yield f"as {found.convention.name} {found.convention.version}: {found.convention.resize.words}; {found.convention.scale}"
    if found.weights is not None:
        digest = f", sum {found.weights_digest[:16]}" if found.weights_digest else ""
        yield f"weights {printable(found.weights)}{digest}; {found.backend}, {found.precision}"
    for letter, side in zip("AB", (found.first, found.second), strict=True):
        if side is not None:
            yield from _side_lines(letter, side)
    if found.precision_error is not None:
        error = found.precision_error
        of = f"{error.images} images" + (" of each set" if error.sets == 2 else "")
        yield (
            f"{found.precision} changes FID of {of} from {error.fid_float32:.6g} to"
            f" {error.fid:.6g}: by {error.absolute:.2g}, {error.relative:.0%} of the FID below"
        )


def _metric_lines(found: Comparison) -> Iterator[str]:
    features = f"({found.tap} features)"
    if found.fid is not None:
        error = f" ± {found.fid_error:.3g}" if found.fid_error is not None else ""
        yield f"FID {features}: {_signless(found.fid):.6f}{error}"
    if found.fid_infinity is not None:
        line = found.fid_infinity
        yield (
            f"FID for infinitely many images: {line.distance:.6f} ± {line.standard_error:.3g}"
            f" (line through {len(line.images)} sizes from {line.images[0]:,} to {line.images[-1]:,})"
        )
    if found.inception_score is not None:
        score = found.inception_score
        yield (
            f"inception score of A: {score.mean:.6f}, deviation {score.deviation:.6f} over {score.splits} splits,"
            f" standard error {score.standard_error:.3g}"
        )
    if found.kid is not None:
        kid = found.kid
        yield (
            f"KID {features}: {kid.mean:.8f}, deviation {kid.deviation:.8f} over {kid.subsets} subsets of"
            f" {kid.subset_size:,}"
        )
    if found.prc is not None:
        prc = found.prc
        yield (
            f"precision {prc.precision:.6f} ± {prc.precision_error:.3g}, recall {prc.recall:.6f} ±"
            f" {prc.recall_error:.3g}, F {prc.f_score:.6f} {features}"
        )
        yield (
            f"density {prc.density:.6f} ± {prc.density_error:.3g}, coverage {prc.coverage:.6f} ±"
            f" {prc.coverage_error:.3g}"
        )


def _signless(value: float) -> float:
    """A value that rounds to zero, without the sign that rounding may leave."""
    return 0.0 if abs(value) < 5e-7 else value


def _side_lines(letter: str, side: SetReport) -> Iterator[str]:
    images = "an unknown number of" if side.images is None else f"{side.images:,}"
    speed = side.images_per_second
    how = ", features from the cache" if side.kept else f", {speed:.1f} images/s" if speed else ""
    yield f"{letter} {printable(side.name)}: {images} images{how}"
    if side.skipped:
        yield f"  skipped as unreadable: {counted(len(side.skipped), 'image')}"
    for reason, count in Counter(side.unread.values()).most_common():
        yield f"  not read: {counted(count, 'file')}, {reason}"
    for kind, count in side.kinds.items():
        yield f"  {counted(count, 'image')} {RULES[kind]}"
    yield from (f"  {note}" for note in side.notes)


def tool_table(found: Sequence[Comparison], different: Mapping[str, Sequence[str]]) -> str:
    """The same sets in the way of each tool, and what differs from the first of them.

    Args:
        found: One comparison per tool.
        different: Tool → differences from torch-fidelity.

    Returns:
        Lines.
    """
    columns = {
        "FID": [f"{_signless(one.fid):.6f}" if one.fid is not None else "" for one in found],
        "IS": [f"{one.inception_score.mean:.6f}" if one.inception_score else "" for one in found],
        "KID": [f"{one.kid.mean:.8f}" if one.kid else "" for one in found],
        "precision": [f"{one.prc.precision:.6f}" if one.prc else "" for one in found],
        "recall": [f"{one.prc.recall:.6f}" if one.prc else "" for one in found],
    }
    shown = {name: values for name, values in columns.items() if any(values)}
    rows = [
        (
            one.convention.name,
            *(values[row] for values in shown.values()),
            one.convention.resize.words,
            one.convention.scale,
        )
        for row, one in enumerate(found)
    ]
    parts = [table(("tool", *shown, "resize", "scale"), rows)]
    for tool, lines in different.items():
        if any(one.convention.name == tool for one in found):
            parts.append(
                f"{tool} differs from torch-fidelity in\n"
                + "\n".join(f"  {line}" for line in lines)
            )
    first = found[0]
    sides = [
        line
        for letter, side in zip("AB", (first.first, first.second), strict=True)
        if side is not None
        for line in _side_lines(letter, side)
    ]
    return "\n\n".join([*parts, "\n".join(sides)])


def anchor_table(outcomes: Sequence[Outcome]) -> str:
    """Published values beside those that came out.

    Args:
        outcomes: One per value.

    Returns:
        Lines.
    """
    rows = [
        (
            one.anchor.words,
            f"{one.anchor.value:.7g}",
            f"{one.found:.7g}",
            "comes out" if one.agrees else "does not come out",
            one.anchor.source,
        )
        for one in outcomes
    ]
    return table(("value", "published", "found", "", "source"), rows)
