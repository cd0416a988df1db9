# SPDX-License-Identifier: Apache-2.0
"""The floors of the house: imports point down only, and importing or asking for help stays light."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

FLOORS = {
    "errors": 0,
    "ranges": 0,
    "files": 0,
    "quiet": 0,
    "host": 0,
    "spec": 0,
    "config": 0,
    "fused": 0.25,
    "layers": 0.5,
    "blocks": 1,
    "models": 2,
    "data": 2,
    "summary": 2.5,
    "weights": 3,
    "frozen": 3,
    "optimize": 3,
    "runtimes": 3.25,
    "applications": 3.5,
    "training": 4,
    "evaluation": 4.5,
    "serving": 5,
    "benchmark": 5,
    "experiments": 6,
    "cli": 7,
}
STRANGERS = {
    ("models", "data"),
    ("data", "models"),
    ("serving", "benchmark"),
    ("benchmark", "serving"),
}


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


def test_every_module_has_a_floor(root):
    rooms = {
        path.stem for path in (root / "inception_tf").iterdir() if not path.stem.startswith("__")
    }
    assert rooms == set(FLOORS)


def test_imports_point_down(root):
    package = root / "inception_tf"
    for path in package.rglob("*.py"):
        room = path.relative_to(package).parts[0].removesuffix(".py")
        if room.startswith("__"):
            continue
        for other in _imports(path):
            assert (room, other) not in STRANGERS, f"{path} imports {other}"
            assert FLOORS[other] <= FLOORS[room], f"{path} on floor {FLOORS[room]} imports {other}"


def test_a_floor_above_is_noticed(tmp_path):
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
