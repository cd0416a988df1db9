# SPDX-License-Identifier: Apache-2.0
"""Keras' private names: all that are used are listed, and one that is gone is an error when it is imported."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import keras
import pytest

from inception_tf.nn.keras_internals import PRIVATE, SUPPORTED, require

# Overridden or called on an object of Keras: super()._x, or of a layer's nodes.
OF_KERAS = re.compile(r"super\(\)\.(_[a-z]\w+)|\.(_(?:in|out)bound_nodes|_get_variable_index)\b")


def test_every_private_name_is_there():
    require(*(one.name for one in PRIVATE))


@pytest.mark.parametrize("one", PRIVATE, ids=lambda one: one.name)
def test_a_name_that_is_gone_is_one_sentence(one, monkeypatch):
    owner = keras
    for part in one.owner.split("."):
        owner = getattr(owner, part)
    if one.on_instances:
        stripped = type("Stripped", (), {})
    else:
        stripped = type("Stripped", (), {name: None for name in dir(owner) if name != one.name})
    parent, _, leaf = one.owner.rpartition(".")
    monkeypatch.setattr(getattr(keras, parent) if parent else keras, leaf, stripped)
    sentence = f"Keras {keras.__version__} has no {one.owner}.{one.name}, on which {one.use} relies"
    with pytest.raises(RuntimeError, match=re.escape(sentence)):
        require(one.name)


def test_clipping_does_not_stop_where_keras_calls_it_otherwise():
    """The method that is overridden is renamed: importing the optimizers fails."""
    program = (
        "import keras\n"
        "for kind in keras.optimizers.Adam.__mro__:\n"
        "    if '_clip_gradients' in vars(kind): del kind._clip_gradients\n"
        "import inception_tf.training.optim.optimizers\n"
    )
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert child.returncode == 1
    assert "has no optimizers.Adam._clip_gradients" in child.stderr


def test_every_private_name_in_the_code_is_listed(root):
    found = set()
    for path in (root / "inception_tf").rglob("*.py"):
        found |= {name for pair in OF_KERAS.findall(path.read_text()) for name in pair if name}
    assert found <= {one.name for one in PRIVATE}


def test_every_module_asks_for_the_names_that_it_uses(root):
    for path in (root / "inception_tf").rglob("*.py"):
        text = path.read_text()
        used = {name for pair in OF_KERAS.findall(text) for name in pair if name}
        asked = {
            argument.value
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "require"
            for argument in node.args
            if isinstance(argument, ast.Constant)
        }
        assert used <= asked, path


def test_the_sentence_names_the_version_that_setup_cfg_requires(root):
    assert f"    {SUPPORTED}\n" in (root / "setup.cfg").read_text()
