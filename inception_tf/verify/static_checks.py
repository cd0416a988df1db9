# SPDX-License-Identifier: Apache-2.0
"""The files in a SavedModel's folder, compared with the contract without running it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from inception_tf.data.labels import read_labels
from inception_tf.export.signatures import TensorSpecs, contract_of
from inception_tf.savedmodel.versions import GRAPH_FILE
from inception_tf.verify.runtime_checks import CheckFailedError, CheckSkippedError

__all__ = [
    "LABELS_FILE",
    "check_inference_only",
    "check_labels_file",
    "check_no_forced_xla",
    "check_signatures",
    "check_variables",
]

LABELS_FILE = "assets/labels.txt"
VARIABLES = "variables/variables"
MIB = 2**20
CHECKPOINT = "__inference__traced_"  # functions that save and restore variables
# Prefixes of operations that only training needs.
TRAINING_OPS = ("Assign", "Random", "ResourceApply", "ResourceSparseApply", "StatelessRandom")


def check_signatures(graph: tf.compat.v1.MetaGraphDef, features: int | None = None) -> str:
    """Checks that names, dtypes, shapes and the batch's dimension are those of the contract; see `CheckFunction`.

    Args:
        graph: Of the SavedModel.
        features: The width of the feature vector that the metadata state; None: it has none.

    Returns:
        The signatures and the sizes in them.

    Raises:
        CheckFailedError: One is missing, or has another input or output.
    """
    sizes = {"D": features} if features else {}
    contract = contract_of(features is not None)
    for name, sides in contract.items():
        if name not in graph.signature_def:
            known = ", ".join(sorted(graph.signature_def))
            raise CheckFailedError(f"no signature '{name}'; there are: {known}")
        signature = graph.signature_def[name]
        for wanted, found in zip(sides, (signature.inputs, signature.outputs), strict=True):
            _compare_tensors(name, wanted, found, sizes)
    return f"{', '.join(contract)}; {', '.join(f'{k} = {n}' for k, n in sorted(sizes.items()))}"


def _compare_tensors(
    signature: str,
    wanted: TensorSpecs,
    found: Mapping[str, Any],
    sizes: dict[str, int],
) -> None:
    """Compares the inputs or the outputs of a signature; `sizes` keeps "K" and "k", equal in all signatures."""
    if set(wanted) != set(found):
        raise CheckFailedError(f"'{signature}' has {sorted(found)}, not {sorted(wanted)}")
    for name, (dtype, shape) in wanted.items():
        given = tf.TensorShape(found[name].tensor_shape)
        dims = tuple(given) if given.rank == len(shape) else ()
        for symbol, dim in zip(shape, dims, strict=False):
            if isinstance(symbol, str) and dim is not None:
                sizes.setdefault(symbol, dim)
        expected = tuple(sizes.get(n, n) if isinstance(n, str) else n for n in shape)
        found_dtype = tf.as_dtype(found[name].dtype)
        if (found_dtype, dims) != (dtype, expected):
            raise CheckFailedError(
                f"'{signature}' {name} is {found_dtype.name} {given}, not {dtype.name} {expected}"
            )


def check_labels_file(folder: Path, graph: tf.compat.v1.MetaGraphDef) -> str:
    """Checks that the label file is an asset of the graph, exists, and has a line for each class; see `CheckFunction`."""
    if Path(LABELS_FILE).name not in [asset.filename for asset in graph.asset_file_def]:
        raise CheckFailedError("the graph has no asset labels.txt")
    if not (folder / LABELS_FILE).is_file():
        raise CheckFailedError(f"there is no {LABELS_FILE}")
    signature = graph.signature_def.get("image_tensor")
    if signature is None or "probabilities" not in signature.outputs:
        raise CheckSkippedError("no signature says how many classes there are")
    dims = signature.outputs["probabilities"].tensor_shape.dim
    classes = dims[-1].size if dims else "an unknown number of"
    lines = len(read_labels(folder / LABELS_FILE))
    if lines != classes:
        raise CheckFailedError(f"{lines} labels for {classes} classes")
    return f"{lines} labels"


def check_no_forced_xla(graph: tf.compat.v1.MetaGraphDef) -> str:
    """Checks that no function needs XLA; see `CheckFunction`."""
    # By default the server runs without XLA, and then cannot run such a function.
    for function in graph.graph_def.library.function:
        if function.attr["_XlaMustCompile"].b:
            raise CheckFailedError(
                f"function {function.signature.name} runs only with XLA; export without jit_compile"
            )
    return "no function needs XLA"


def check_variables(folder: Path) -> str:
    """Checks that every variable can be read and has the right checksum; see `CheckFunction`."""
    try:
        reader = tf.train.load_checkpoint(str(folder / VARIABLES))
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    except (tf.errors.OpError, IndexError, RuntimeError, ValueError) as error:
        raise CheckFailedError(f"{VARIABLES} cannot be read: {error}") from error
    variables = sum(path.stat().st_size for path in folder.glob(f"{VARIABLES}.*"))
    graph = (folder / GRAPH_FILE).stat().st_size
    return f"graph {graph / MIB:.1f} MiB, variables {variables / MIB:.1f} MiB, all read"


def check_inference_only(graph: tf.compat.v1.MetaGraphDef) -> str:
    """Checks for random numbers, as dropout draws, and for variables that a request would change; see `CheckFunction`."""
    for function in graph.graph_def.library.function:
        if CHECKPOINT in function.signature.name:
            continue
        for node in function.node_def:
            by_batch = node.op.startswith("FusedBatchNorm") and node.attr["is_training"].b
            if by_batch or node.op.startswith(TRAINING_OPS):
                raise CheckFailedError(
                    f"the graph trains: {node.name} is a {node.op}; export the network for inference"
                )
    return "no dropout, no optimizer, no statistics of the batch"
