# SPDX-License-Identifier: Apache-2.0
"""Tries an installed package: `scripts/try_package.py ENVIRONMENT`, in a folder outside of the project."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path


def main(environment: str) -> None:
    import inception_tf

    here = Path(inception_tf.__file__)
    if not here.is_relative_to(Path(environment).resolve()):
        raise SystemExit(f"tried {here}, which is not in {environment}")
    distribution = importlib.metadata.distribution("inception_tf")
    told = distribution.metadata
    expected = {"Version": inception_tf.__version__, "Description-Content-Type": "text/markdown"}
    wrong = {key: told[key] for key, value in expected.items() if told[key] != value}
    if wrong or "gpu" not in told.get_all("Provides-Extra", []):
        raise SystemExit(f"metadata: {wrong or told.get_all('Provides-Extra')}")
    package = files("inception_tf")
    for name in ("py.typed", "training/recipes/default.yaml", "training/recipes/finetune.yaml"):
        if not package.joinpath(name).is_file():
            raise SystemExit(f"the wheel lacks {name}")
    run = {"check": True, "capture_output": True, "text": True}
    rows = json.loads(subprocess.run(["inception-tf", "models", "--json"], **run).stdout)
    if {row["name"] for row in rows} != set(inception_tf.list_models()):
        raise SystemExit(f"inception-tf models lists {rows}")
    subprocess.run(["inception-tf", "recipes", "finetune"], **run)

    import numpy as np

    model = inception_tf.InceptionV1(classes=10, input_shape=(32, 32, 3), width_multiplier=0.25)
    probabilities = np.asarray(model(np.zeros((2, 32, 32, 3), np.float32)))
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    print(f"inception_tf {inception_tf.__version__}: the wheel installs, lists and runs")


if __name__ == "__main__":
    main(*sys.argv[1:])
