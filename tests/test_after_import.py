# SPDX-License-Identifier: Apache-2.0
"""A call after another package's import: in either order, once, and nothing is left behind."""

from __future__ import annotations

import os
import subprocess
import sys

import forked
import pytest

PACKAGE = "raise_or_not = 3\n"
PROGRAM = """
import sys
from inception_tf.host.after_import import after_import
calls, before = [], list(sys.meta_path)
{first}
after_import("example", lambda: calls.append(sys.modules["example"].raise_or_not))
import example
import importlib; importlib.import_module("example.inner")
assert calls == [3], calls
assert sys.meta_path == before
assert "exec_module" not in vars(example.__loader__)
"""


@pytest.mark.parametrize("first", ["", "import example"])
def test_the_call_comes_once_in_either_order(first, tmp_path, monkeypatch):
    (tmp_path / "example").mkdir()
    (tmp_path / "example" / "__init__.py").write_text(PACKAGE)
    (tmp_path / "example" / "inner.py").write_text("")
    subprocess.run(
        [sys.executable, "-c", PROGRAM.format(first=first)], cwd=tmp_path, check=True, timeout=60
    )


def test_a_package_that_is_missing_is_missing_as_before():
    program = (
        "import sys\n"
        "from inception_tf.host.after_import import after_import\n"
        "after_import('no_such_package', print)\n"
        "try: import no_such_package\n"
        "except ModuleNotFoundError as error: assert error.name == 'no_such_package'\n"
        "else: raise SystemExit(1)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize("order", ["inception_tf, keras", "keras, inception_tf"])
def test_a_saved_network_loads_fused_in_either_order_of_imports(order, tmp_path):
    """And one with the layer that Keras lacks, as GoogLeNet has it."""
    import keras

    from inception_tf.nn.batch_norm import BatchNormalization
    from inception_tf.nn.local_response_norm import LocalResponseNormalization

    image = keras.Input((4, 4, 3))
    output = BatchNormalization()(LocalResponseNormalization()(image))
    keras.Model(image, output).save(tmp_path / "net.keras")
    program = (
        f"import atexit, gc; gc.disable(); atexit.register(gc.freeze)\nimport {order}\n"
        "loaded = keras.saving.load_model('net.keras').layers[1:]\n"
        "modules = [type(layer).__module__.removeprefix('inception_tf.nn.') for layer in loaded]\n"
        "assert modules == ['local_response_norm', 'batch_norm'], modules\n"
        "import importlib.resources\n"
        "assert importlib.resources.files('keras').joinpath('__init__.py').is_file()\n"
    )
    if order.startswith("keras"):  # as the process that is forked has it
        child = forked.run(["-c", program], cwd=tmp_path)
    else:
        # Of the backends the one that takes no time to import.
        child = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env={**os.environ, "KERAS_BACKEND": "numpy"},
            capture_output=True,
            text=True,
        )
    assert child.returncode == 0, child.stderr
