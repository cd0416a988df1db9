# SPDX-License-Identifier: Apache-2.0
"""Private names of other packages: all that are used are listed, and one that is gone is one sentence."""

from __future__ import annotations

import ast
import functools
import importlib
import pkgutil
import re
import sys
import warnings
from pathlib import Path

import forked
import keras
import pytest

import inception_tf
from inception_tf import UserError
from inception_tf.data.augmentation.model_garden import GARDEN
from inception_tf.host.private_names import PrivateName, PrivateNames
from inception_tf.host.tensorflow_internals import TENSORFLOW
from inception_tf.inference.runtimes.litert import QUANTIZER
from inception_tf.inference.runtimes.openvino import NNCF
from inception_tf.nn import keras_internals
from inception_tf.nn.keras_internals import KERAS
from inception_tf.serving.batch.beam_internals import BEAM
from inception_tf.serving.local_server.kserve_internals import KSERVE

TABLES = (BEAM, GARDEN, KERAS, KSERVE, NNCF, QUANTIZER, TENSORFLOW)
ROWS = [pytest.param(table, one, id=one.name) for table in TABLES for one in table.names.values()]
LISTED = {name for table in TABLES for name in table.names}

PACKAGE = Path(inception_tf.__file__).parent
MODULES = {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}
# Documented in spite of their underscore.
DOCUMENTED = {"_abc_impl", "_asdict", "_fields", "_fields_", "_replace"}
# Modules inside of other packages, documented by these.
PUBLIC = {
    "ai_edge_litert.interpreter",
    "apache_beam.io.filesystem",
    "apache_beam.io.filesystems",
    "apache_beam.options.pipeline_options",
    "apache_beam.runners",
    "apache_beam.utils.shared",
    "fastapi.responses",
    "google.protobuf",
    "google.protobuf.message",
    "huggingface_hub.errors",
    "keras.applications",
    "kserve.errors",
    "matplotlib.axes",
    "matplotlib.backends.backend_agg",
    "matplotlib.colors",
    "matplotlib.figure",
    "matplotlib.patches",
    "matplotlib.ticker",
    "pyarrow.parquet",
    "safetensors.numpy",
    "scipy.linalg",
    "sklearn.datasets",
    "tensorflow_serving.apis",
}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__") and name not in {"_", *DOCUMENTED}


def defined(tree: ast.Module) -> set[str]:
    """Private names that a module gives to something itself."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store):
            names.add(node.id if isinstance(node, ast.Name) else node.attr)
    return names


def private_uses(tree: ast.Module) -> set[str]:
    """Private attributes of what a module has not defined, and of what it overrides by `super()`."""
    own = defined(tree)
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and is_private(node.attr)
        and ast.unparse(node) != "os._exit"  # documented, underscore and all
        and (node.attr not in own or ast.unparse(node.value) == "super()")
    }


def inside_of(tree: ast.Module) -> set[str]:
    """Attributes that lead to where frameworks keep their own code: `keras.src`, `tf.python`."""
    found = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return {name for name in found if re.fullmatch(r"keras\.src|(tf|tensorflow)\.python", name)}


def imported(tree: ast.Module) -> set[str]:
    """Dotted modules that it imports from, but for this package's and Python's own."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {
                f"{node.module}.{a.name}" if is_private(a.name) else node.module for a in node.names
            }
    return {
        name
        for name in found
        if name.split(".")[0] not in {"inception_tf", *sys.stdlib_module_names}
    }


@functools.cache
def asked(tree: ast.Module) -> set[str]:
    """Names that a module takes from the tables, or checks there."""
    return {
        argument.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and re.fullmatch(r"require|[A-Z]+\.(require|get)", ast.unparse(node.func))
        for argument in node.args
        if isinstance(argument, ast.Constant)
    }


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.package)
def test_every_private_name_is_there(table):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Beam's and Google's, when they are imported
        # What only another backend of Keras has, `test_trainer_backends.py` asks there.
        table.require(*(name for name in table.names if name not in keras_internals.JAX_ALONE))


def test_no_variable_is_made_to_look_for_keras_names(monkeypatch):
    """It would initialize TensorFlow's devices, which the program that imports this package may want to set first."""
    monkeypatch.setattr(keras.Variable, "__init__", lambda *_, **__: pytest.fail("a variable"))
    keras_internals.require(*keras_internals.KERAS.names)


def remove(owner, name: str, monkeypatch) -> None:
    """Takes a name off a module, or off a class and the classes that it comes from."""
    for kind in getattr(owner, "__mro__", (owner,)):
        if name in vars(kind):
            monkeypatch.delattr(kind, name)


@pytest.mark.parametrize(("table", "one"), ROWS)
def test_a_name_that_is_gone_is_one_sentence(table, one, monkeypatch):
    owner = pkgutil.resolve_name(one.owner)
    if one.on_instances:
        parent, _, leaf = one.owner.rpartition(".")
        monkeypatch.setattr(pkgutil.resolve_name(parent), leaf, type("Stripped", (), {}))
    elif one.set_by:
        monkeypatch.setattr(owner, one.set_by, lambda self: None)
    else:
        remove(owner, one.name, monkeypatch)
    sentence = (
        f"has no {one.owner}.{one.name}, on which {one.use} relies; pip install '{table.supported}'"
    )
    with pytest.raises(UserError, match=re.escape(sentence)):
        table.require(one.name)


def test_a_module_that_is_gone_is_one_sentence():
    table = PrivateNames("keras>=3.15,<3.16", [PrivateName("keras.moved", "thing", "a test")])
    sentence = f"keras {keras.__version__} has no keras.moved.thing, on which a test relies"
    with pytest.raises(UserError, match=re.escape(sentence)):
        table.get("thing")


def test_a_package_that_is_not_installed_is_another_error():
    table = PrivateNames("nowhere>=1,<2", [PrivateName("nowhere.inside", "thing", "a test")])
    with pytest.raises(ModuleNotFoundError):
        table.get("thing")


def test_names_that_another_backend_lacks_are_not_looked_for_there(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    remove(keras.Model, "_maybe_symbolic_build", monkeypatch)
    keras_internals.require("_maybe_symbolic_build")


def test_clipping_does_not_stop_where_keras_calls_it_otherwise():
    """The method that is overridden is renamed: importing the optimizers fails."""
    program = (
        "import keras\n"
        "for kind in keras.optimizers.Adam.__mro__:\n"
        "    if '_clip_gradients' in vars(kind): del kind._clip_gradients\n"
        "import inception_tf.training.optim.optimizers\n"
    )
    child = forked.run(["-c", program])
    assert child.returncode == 1
    assert "has no keras.optimizers.Adam._clip_gradients" in child.stderr


def test_the_tables_import_none_of_the_optional_packages():
    program = (
        "import sys\n"
        "import inception_tf.serving.batch.beam_internals, inception_tf.serving.demo\n"
        "import inception_tf.serving.local_server.kserve_internals\n"
        "import inception_tf.inference.runtimes.litert, inception_tf.inference.runtimes.openvino\n"
        "import inception_tf.data.augmentation.model_garden\n"
        "optional = {'apache_beam', 'kserve', 'ai_edge_quantizer', 'nncf', 'official'}\n"
        "assert not optional & set(sys.modules), optional & set(sys.modules)"
    )
    child = forked.run(["-c", program])
    assert child.returncode == 0, child.stderr


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_private_attribute_is_listed_and_checked_where_it_is_used(path):
    used = private_uses(MODULES[path])
    assert used <= LISTED
    assert used <= asked(MODULES[path])


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_is_imported_from_inside_of_another_package(path):
    inside = {
        name
        for name in imported(MODULES[path])
        if name not in PUBLIC and (name.count(".") or is_private(name))
    }
    assert not inside
    assert not inside_of(MODULES[path])


def test_a_private_method_that_is_overridden_is_listed():
    overridden = set()
    for path in MODULES:
        if path.name == "__main__.py":
            continue
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                module = importlib.import_module(name.removesuffix(".__init__"))
            except ModuleNotFoundError as error:
                if error.name != "torch":  # an optional backend, imported by one module of its own
                    raise
                continue
        for kind in vars(module).values():
            if not isinstance(kind, type) or kind.__module__ != module.__name__:
                continue
            foreign = [
                base
                for base in kind.__mro__
                if base.__module__.split(".")[0] not in {"inception_tf", *sys.stdlib_module_names}
            ]
            overridden |= {
                attribute
                for attribute in vars(kind)
                if is_private(attribute) and any(attribute in vars(base) for base in foreign)
            }
    assert overridden <= LISTED


def test_every_name_in_a_table_is_used():
    used = set().union(*(asked(tree) for tree in MODULES.values()))
    assert used >= LISTED


def test_every_table_is_tested_here(root):
    made = {
        node.args[0].value
        for tree in MODULES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "PrivateNames"
    }
    assert made == {table.supported for table in TABLES}


@pytest.mark.parametrize(
    ("program", "found"),
    [
        ("import tensorflow as tf\ntf._api", {"_api"}),
        ("class A(B):\n    def _x(self):\n        return super()._x()", {"_x"}),
        ("class A(B):\n    def _x(self):\n        return self._x()", set()),
        ("class A(B):\n    def f(self):\n        return self._hidden", {"_hidden"}),
    ],
)
def test_a_private_attribute_is_noticed(program, found):
    assert private_uses(ast.parse(program)) == found


def test_an_import_from_inside_is_noticed():
    program = "from tensorflow.python.eager import context\nfrom keras import _tf_keras"
    assert imported(ast.parse(program)) == {"tensorflow.python.eager", "keras._tf_keras"}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.package)
def test_the_versions_are_those_that_setup_cfg_requires(table, root):
    assert f"    {table.supported}\n" in (root / "setup.cfg").read_text()


def test_contributing_lists_every_private_name(root):
    text = (root / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = [
        f"| {table.package} | `{one.owner}.{one.name}` | {', '.join(f'`{u}`' for u in users(one))} | {one.use} |"
        for table in TABLES
        for one in table.names.values()
    ]
    listed = re.findall(r"^\| [a-z-]+ \| `\w+\..*$", text, re.MULTILINE)
    assert listed == rows, "the table in CONTRIBUTING.md should be:\n" + "\n".join(rows)


def users(one: PrivateName) -> list[str]:
    """The modules that take a name from its table, or check it there."""
    return [
        str(path.relative_to(PACKAGE)) for path, tree in MODULES.items() if one.name in asked(tree)
    ]
