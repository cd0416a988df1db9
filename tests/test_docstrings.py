# SPDX-License-Identifier: Apache-2.0
"""Public docstrings are in Google's grammar, which editors and the site render; read from the source, nothing is imported."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "inception_tf"
# The docstring of a command is its help.
MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if "cli" not in path.parts]


def exported(tree: ast.Module) -> set[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def decorators(node) -> set[str]:
    return {ast.unparse(one).split("(")[0].split(".")[-1] for one in node.decorator_list}


def own_nodes(function):
    """The nodes of a function's body, without those of the functions and classes inside it."""
    waiting = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Lambda)):
            waiting += ast.iter_child_nodes(node)


def parameters(function) -> list[str]:
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    names = [one.arg for one in every if one.arg not in ("self", "cls")]
    return [name for name in names if not name.startswith("_")]


def section(docstring: str, *titles: str) -> str | None:
    """The text of `Args:` and its like, None where there is none."""
    found = re.search(rf"^({'|'.join(titles)}):\n((?:(?:    .*)?\n?)+)", docstring, re.MULTILINE)
    return found and found.group(2)


def protocols() -> set[str]:
    """`Class` and `Class.method` of every Protocol, whose docstrings are held by this test like all others."""
    found = set()
    for path in MODULES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and "Protocol" in map(ast.unparse, node.bases):
                methods = [one.name for one in node.body if isinstance(one, ast.FunctionDef)]
                found |= {node.name, *(f"{node.name}.{method}" for method in methods)}
    return found


PROTOCOLS = protocols()


def faults_of_function(function, docstring: str, returns: bool = True) -> list[str]:
    elsewhere = re.search(r"; see `([\w.]+)`\.$", docstring)
    if elsewhere and "\n" not in docstring:
        there = elsewhere.group(1)
        return [] if there in PROTOCOLS else [f"there is no Protocol `{there}`"]
    faults = []
    described = section(docstring, "Args") or ""
    faults += [
        f"no `{name}` in Args"
        for name in parameters(function)
        if not re.search(rf"^    (\w+, )*{name}(, \w+)*:", described, re.MULTILINE)
    ]
    nodes = list(own_nodes(function))
    if any(isinstance(node, (ast.Yield, ast.YieldFrom)) for node in nodes):
        # A context manager that yields nothing returns nothing.
        gives = any(
            isinstance(node, ast.YieldFrom) or getattr(node, "value", None)
            for node in nodes
            if isinstance(node, (ast.Yield, ast.YieldFrom))
        )
    else:
        gives = any(isinstance(node, ast.Return) and node.value is not None for node in nodes)
    if returns and gives and section(docstring, "Returns", "Yields") is None:
        faults.append("no Returns")
    raised = (node.exc for node in nodes if isinstance(node, ast.Raise) and node.exc is not None)
    if (
        any("UserError" in ast.unparse(one) for one in raised)
        and section(docstring, "Raises") is None
    ):
        faults.append("no Raises")
    return faults


def faults_of(node) -> list[str]:
    docstring = ast.get_docstring(node)
    if not docstring:
        return ["no docstring"]
    if isinstance(node, ast.FunctionDef):
        return faults_of_function(node, docstring)
    # A dataclass says what its fields are beside them.
    constructor = [
        one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"
    ]
    faults = [fault for one in constructor for fault in faults_of_function(one, docstring, False)]
    for method in node.body:
        if (
            isinstance(method, ast.FunctionDef)
            and not method.name.startswith("_")
            and not decorators(method) & {"property", "cached_property"}
            and (parameters(method) and not overrides(node))
        ):
            found = ast.get_docstring(method)
            faults += [
                f"{method.name}: {f}"
                for f in (faults_of_function(method, found) if found else ["no docstring"])
            ]
    return faults


# Of this package, with Keras' methods alone.
KERAS_MODELS = ("TrainedModel",)


def overrides(node) -> bool:
    """Of a class with a base outside of this package: what its methods are, the base's documentation says."""
    return any(
        ast.unparse(base).split(".")[0] in ("keras", "tf", "nn", "beam", "click", *KERAS_MODELS)
        for base in node.bases
    )


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_a_module_exports_is_documented_in_full(path):
    tree = ast.parse(path.read_text())
    public = exported(tree)
    faults = [
        f"{node.name}: {fault}"
        for node in tree.body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name in public
        for fault in faults_of(node)
    ]
    assert not faults, "\n".join(faults)


def test_every_module_says_what_it_exports():
    silent = [
        str(path.relative_to(ROOT))
        for path in MODULES
        if path.name not in ("__init__.py", "__main__.py")
        and not exported(ast.parse(path.read_text()))
    ]
    assert not silent
