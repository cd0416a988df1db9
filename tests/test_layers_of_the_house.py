# SPDX-License-Identifier: Apache-2.0
"""The layers of the house: imports point down only, and importing or asking for help stays light."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest

import inception_tf

# From the bottom; a room imports from those above it in this list alone, and from its own.  CONTRIBUTING.md draws it.
LAYERS = (
    ("errors",),
    ("arch", "host", "ranges"),
    ("config", "models", "savedmodel"),
    ("data", "nn"),
    ("blocks", "inference", "weights"),
    ("applications",),
    ("keras_classifiers", "run_folder"),
    ("classifiers", "training"),
    ("benchmark", "evaluation"),
    ("experiments", "export", "generative"),
    ("verify",),
    ("serving",),
    ("cli",),
)
FLOORS = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}


def _imports(path):
    """Rooms of the package that a file imports from, wherever in the file the import stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "inception_tf" and len(parts) > 1 and parts[1] in FLOORS:
                yield parts[1]


def test_every_room_has_a_layer(root):
    rooms = {
        path.stem
        for path in (root / "inception_tf").iterdir()
        if (path.is_dir() or path.suffix == ".py") and not path.stem.startswith("__")
    }
    assert rooms == set(FLOORS)


def test_imports_point_down(root):
    package = root / "inception_tf"
    for path in package.rglob("*.py"):
        room = path.relative_to(package).parts[0].removesuffix(".py")
        if room.startswith("__"):
            continue
        for other in _imports(path):
            below = FLOORS[other] < FLOORS[room]
            assert below or other == room, f"{path} in layer {FLOORS[room]} imports {other}"


def test_a_layer_above_is_noticed(tmp_path):
    (tmp_path / "x.py").write_text("def f():\n    from inception_tf.cli import main\n")
    assert set(_imports(tmp_path / "x.py")) == {"cli"}


@pytest.mark.parametrize(
    "statement",
    [
        "import inception_tf",
        "import inception_tf; inception_tf.list_models(); inception_tf.InceptionV3",
        "from inception_tf import cli; assert cli.main(['--help']) == 0",
        "from inception_tf import cli; assert cli.main(['models']) == 0",
        "from inception_tf import cli; assert cli.main(['summary', 'inception_v3']) == 0",
    ],
)
def test_nothing_light_imports_a_framework(statement):
    check = "; import sys; assert not {'tensorflow', 'keras', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", statement + check], check=True, capture_output=True)


def test_contributing_draws_the_layers(root):
    text = (root / "CONTRIBUTING.md").read_text(encoding="utf-8")
    drawn = re.findall(r"^    +(\d+)  +((?:[a-z_]+/? +)+)  ", text, re.M)
    assert [(int(n), sorted(r.strip("/") for r in rooms.split())) for n, rooms in drawn] == [
        (number, sorted(rooms)) for number, rooms in enumerate(LAYERS)
    ]


def test_no_module_has_the_name_of_a_public_function(root):
    functions = {name for name in inception_tf.__all__ if not name[0].isupper()}
    modules = {path.stem for path in (root / "inception_tf").rglob("*.py")}
    assert not functions & modules
