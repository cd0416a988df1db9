# SPDX-License-Identifier: Apache-2.0
"""A SavedModel's files and settings, compared with what its metadata say, and these with the run."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inception_tf.classifiers import Classifier
from inception_tf.data.labels import read_labels
from inception_tf.export.metadata import (
    METADATA_FILE,
    SUM,
    Contents,
    ExportMetadata,
    read_metadata,
    read_values,
    sum_of_values,
    sums_of_files,
)
from inception_tf.export.signatures import contract_of
from inception_tf.export.warmup import WARMUP_FILE
from inception_tf.savedmodel.fingerprint import (
    FINGERPRINT_FILE,
    compute_fingerprint,
    read_fingerprint,
)
from inception_tf.savedmodel.versions import GRAPH_FILE
from inception_tf.verify.check import CheckFailedError, CheckSkippedError
from inception_tf.verify.static_checks import LABELS_FILE

__all__ = [
    "check_files",
    "check_fingerprint",
    "check_labels",
    "check_metadata_sum",
    "check_settings",
    "check_run_labels",
    "written_contents",
]

# All that an export consists of.
FILES = re.compile(
    "|".join(
        map(re.escape, (GRAPH_FILE, FINGERPRINT_FILE, LABELS_FILE, METADATA_FILE, WARMUP_FILE))
    )
    + r"|variables/variables\.(index|data-\d{5}-of-\d{5})"
)
LISTED = 5  # names in a message


def written_contents(metadata: ExportMetadata | None) -> Contents:
    """What an export says that it wrote.

    Args:
        metadata: Of the export.

    Returns:
        Its `contents`.

    Raises:
        CheckSkippedError: It does not say so.
    """
    if metadata is None or metadata.contents is None:
        raise CheckSkippedError("the export does not say what it wrote; export it again")
    return metadata.contents


def check_metadata_sum(folder: Path) -> str:
    """Checks that the metadata exist and are as they were written; see `CheckFunction`."""
    values = read_values(folder)
    read_metadata(folder)  # every field is known
    if values is None:
        raise CheckFailedError(f"there is no {METADATA_FILE}; export it again")
    if values.get("contents") is None:
        raise CheckSkippedError("of a version that wrote no checksums; export it again")
    if values.get(SUM) != sum_of_values(values):
        raise CheckFailedError(f"{METADATA_FILE} was changed: it is not what its {SUM} says")
    return "as they were written"


def check_files(folder: Path, metadata: ExportMetadata | None) -> str:
    """Checks that the folder has the files of an export, unchanged, and nothing else; see `CheckFunction`."""
    contents = written_contents(metadata)
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise CheckFailedError(f"{name} is a link to {os.readlink(path)}; copy the file itself")
        if not path.is_dir() and not FILES.fullmatch(name):
            raise CheckFailedError(f"{name} is no file of an export; remove it")
    found = sums_of_files(folder)
    for kind, names in (
        ("missing", contents.files.keys() - found.keys()),
        ("added since", found.keys() - contents.files.keys()),
        (
            "changed",
            {n for n in found.keys() & contents.files.keys() if found[n] != contents.files[n]},
        ),
    ):
        if names:
            raise CheckFailedError(f"{kind}: {', '.join(sorted(names)[:LISTED])}")
    return f"{len(found)} files as they were written"


def check_fingerprint(folder: Path, metadata: ExportMetadata | None) -> str:
    """Checks TensorFlow's hashes: those stated, those computed of the files, and those in the metadata; see `CheckFunction`."""
    written = written_contents(metadata).fingerprint
    try:
        stated, computed = read_fingerprint(folder), compute_fingerprint(folder)
    except ValueError as error:
        raise CheckFailedError(str(error)) from error
    for where, found in ((FINGERPRINT_FILE, stated), ("the graph", computed)):
        others = [name for name in written if found[name] != written[name]]
        if others:
            raise CheckFailedError(f"{where} has another {', '.join(others)} than was written")
    return f"graph {written['graph_def_program_hash']}"


def check_labels(folder: Path, metadata: ExportMetadata | None) -> str:
    """Checks that the label file has the names that were exported, in their order; see `CheckFunction`."""
    written = written_contents(metadata).labels
    return _compare_labels(read_labels(folder / LABELS_FILE), written, "was exported")


def check_run_labels(folder: Path, labels: Sequence[str] | None) -> str:
    """Checks that the label file has the names of the run, in their order; see `CheckFunction`."""
    if labels is None:
        raise CheckSkippedError(
            "there is no run or label file to compare with; name it with --run or --labels"
        )
    return _compare_labels(read_labels(folder / LABELS_FILE), labels, "is the run's")


def _compare_labels(found: Sequence[str], wanted: Sequence[str], what: str) -> str:
    for number, (ours, theirs) in enumerate(zip(found, wanted, strict=False)):
        if ours != theirs:
            raise CheckFailedError(f"class {number} is '{ours}', and '{theirs}' {what}")
    if len(found) != len(wanted):
        raise CheckFailedError(f"{len(found)} labels, and {len(wanted)}: what {what}")
    return f"{len(found)} names in the same order"


def check_settings(
    metadata: ExportMetadata | None,
    classifier: Classifier | None,
    graph: Any,
    records: int | None,
) -> str:
    """Checks the metadata's settings against the run, the graph and the number of warm-up records; see `CheckFunction`."""
    contents = written_contents(metadata)
    assert metadata is not None  # written_contents has looked
    if records is not None and records != contents.warm_up:
        raise CheckFailedError(f"{records} warm-up records, and {contents.warm_up} were exported")
    if contents.signatures != tuple(contract_of(metadata.features is not None)):
        raise CheckFailedError(f"the signatures {', '.join(contents.signatures)} were exported")
    for name in contents.signatures:
        for output in ("top_scores", "scores"):
            found = graph.signature_def[name].outputs if name in graph.signature_def else {}
            dims = found[output].tensor_shape.dim if output in found else ()
            if dims and dims[-1].size != contents.top:
                raise CheckFailedError(
                    f"'{name}' lists {dims[-1].size} classes, and {contents.top} were exported"
                )
    if classifier is not None and classifier.preprocessing != metadata.preprocessing:
        raise CheckFailedError(
            f"images are prepared as {metadata.preprocessing}, and {classifier.name} needs {classifier.preprocessing}"
        )
    return str(metadata.preprocessing)
