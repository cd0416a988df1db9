# SPDX-License-Identifier: Apache-2.0
"""The files in a SavedModel's folder, compared with the contract without running it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from inception_tf.data.labels import read_labels
from inception_tf.export.signatures import TensorSpecs, contract_of
from inception_tf.savedmodel.signature_def import SERVE_TAG, read_tags
from inception_tf.savedmodel.versions import GRAPH_FILE
from inception_tf.verify.check import CheckFailedError, CheckSkippedError

__all__ = [
    "LABELS_FILE",
    "check_class_table",
    "check_inference_only",
    "check_no_files",
    "check_labels_file",
    "check_no_forced_xla",
    "check_one_graph",
    "check_signatures",
    "check_variables",
]

LABELS_FILE = "assets/labels.txt"
VARIABLES = "variables/variables"
MIB = 2**20
CHECKPOINT = "__inference__traced_"  # functions that save and restore variables
# Prefixes of operations that only training needs.
TRAINING_OPS = ("Assign", "Random", "ResourceApply", "ResourceSparseApply", "StatelessRandom")
INIT_OP = "__saved_model_init_op"  # the signature that fills the table when the model is loaded
# Operations that a request could read or write files with, reach other machines, or call Python.
FILE_OPS = re.compile(
    r"(Read|Write|Matching)File|(Eager)?Py|Save|Restore|MergeV2|Load|.*(Reader|Writer|Summary|Blob)"
    r"|(TFRecord|TextLine|FixedLengthRecord|Sql|Csv|Cache|Snapshot|Generator|.*DataService).*Dataset"
    r"|Print|Debug|_?Send|_?Recv|Rpc|InitializeTableFrom|.*ImportEvent"
)
TABLE_OPS = re.compile(r".*(HashTable|LookupTable|InitializeTable).*")
# The first and the second column of the label file, as TextFileInitializer numbers what it reads: number and line.
LINE_NUMBER, WHOLE_LINE = -1, -2


def check_one_graph(folder: Path, graph: tf.compat.v1.MetaGraphDef) -> str:
    """Checks that there is one graph, tagged for serving; see `CheckFunction`."""
    tags = read_tags(folder)
    if tags != ((SERVE_TAG,),):
        found = ", ".join("+".join(one) or "none" for one in tags)
        raise CheckFailedError(
            f"{len(tags)} graphs, tagged {found}; one, tagged serve, is exported"
        )
    return f"TensorFlow {graph.meta_info_def.tensorflow_version}"


def check_signatures(graph: tf.compat.v1.MetaGraphDef, features: int | None = None) -> str:
    """Checks that there are the contract's signatures and no other, with names, dtypes, shapes and the batch's dimension; see `CheckFunction`.

    Args:
        graph: Of the SavedModel.
        features: The width of the feature vector that the metadata state; None: it has none.

    Returns:
        The signatures and the sizes in them.

    Raises:
        CheckFailedError: One is missing or was not exported, or has another input or output.
    """
    sizes = {"D": features} if features else {}
    contract = contract_of(features is not None)
    known = sorted(set(graph.signature_def) - {INIT_OP})
    for name, sides in contract.items():
        if name not in graph.signature_def:
            raise CheckFailedError(f"no signature '{name}'; there are: {', '.join(known)}")
        signature = graph.signature_def[name]
        for wanted, found in zip(sides, (signature.inputs, signature.outputs), strict=True):
            _compare_tensors(name, wanted, found, sizes)
        if getattr(signature, "defaults", None):
            raise CheckFailedError(f"'{name}' has default inputs: {', '.join(signature.defaults)}")
    others = [name for name in known if name not in contract]
    if others:
        raise CheckFailedError(f"a signature that was not exported: {', '.join(others)}")
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
    """Checks that the label file is the graph's only asset, exists, and has a line for each class; see `CheckFunction`."""
    assets = [asset.filename for asset in graph.asset_file_def]
    if assets != [Path(LABELS_FILE).name]:
        raise CheckFailedError(f"the graph's assets are {assets}, not labels.txt alone")
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


def check_no_files(graph: tf.compat.v1.MetaGraphDef) -> str:
    """Checks that no request can read or write files, reach the network or call Python; see `CheckFunction`."""
    functions = {one.signature.name: one for one in graph.graph_def.library.function}
    for name, signature in graph.signature_def.items():
        for node in _reachable(graph, functions, signature.outputs.values()):
            # The table is read from the label file when the model is loaded.
            is_table = name == INIT_OP and node.op.startswith("InitializeTableFrom")
            if FILE_OPS.match(node.op) and not is_table:
                raise CheckFailedError(f"'{name}' runs {node.name}, a {node.op}")
    return "no signature reads or writes files, or calls Python"


def _reachable(graph: Any, functions: Mapping[str, Any], outputs: Any) -> Iterator[Any]:
    """The nodes that some tensors depend on, in the graph and in the functions that it calls."""
    nodes = {node.name: node for node in graph.graph_def.node}
    seen: set[str] = set()
    waiting = [_node_of(tensor.name) for tensor in outputs]
    called: list[str] = []
    while waiting:
        name = waiting.pop()
        if name in seen or name not in nodes:
            continue
        seen.add(name)
        yield nodes[name]
        waiting += map(_node_of, nodes[name].input)
        called += _calls(nodes[name])
    known: set[str] = set()
    while called:
        name = called.pop()
        if name in known or name not in functions:
            continue
        known.add(name)
        for node in functions[name].node_def:
            yield node
            called += _calls(node)


def _node_of(tensor: str) -> str:
    return tensor.lstrip("^").partition(":")[0]


def _calls(node: Any) -> list[str]:
    values = node.attr.values()
    return [
        *(value.func.name for value in values if value.HasField("func")),
        *(one.name for value in values for one in value.list.func),
    ]


def check_class_table(graph: tf.compat.v1.MetaGraphDef) -> str:
    """Checks that there is one table, from the number of a line of the label file to the line; see `CheckFunction`."""
    functions = (
        one for one in graph.graph_def.library.function if CHECKPOINT not in one.signature.name
    )
    nodes = [*graph.graph_def.node, *(node for one in functions for node in one.node_def)]
    tables = [node for node in nodes if TABLE_OPS.fullmatch(node.op)]
    made = [node for node in tables if "HashTable" in node.op]
    filled = [node for node in tables if node.op.startswith("InitializeTable")]
    if len({node.attr["shared_name"].s for node in made}) != 1 or not filled:
        raise CheckFailedError(f"{len(made)} tables, filled {len(filled)} times; one is exported")
    for node in filled:
        read = (node.attr["key_index"].i, node.attr["value_index"].i, node.attr["offset"].i)
        if "TextFile" not in node.op or read != (LINE_NUMBER, WHOLE_LINE, 0):
            raise CheckFailedError(
                f"{node.name} fills the table by {node.op}, columns {read[0]} and {read[1]} from line {read[2]};"
                " the numbers of lines and the lines are exported"
            )
    return "one table, the lines of labels.txt by their numbers"
