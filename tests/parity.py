# SPDX-License-Identifier: Apache-2.0
"""One training step of a network here and of the network of another project that its weights came from.

`python tests/parity.py --torch-python PYTHON` compares all of them, and writes the table of docs/parity.md;
with `--only` the rows of some, and keeps the others.  The Python has torch, torchvision and timm; tf_slim and tf_keras are
in the environment that runs this.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import keras
import numpy as np
import parity_slim
import parity_torch
import ramps
import tensorflow as tf
from parity_torch import AFTER, CLASSES, EVAL, GRADIENT, LOGITS, Job

from inception_tf.models import SCALE, find_network, variant
from inception_tf.nn.network import build_model
from inception_tf.weights.convert import read_foreign_weights
from inception_tf.weights.names.keras_applications import keras_arrays, keras_names
from inception_tf.weights.names.torch import flatten, torch_names
from inception_tf.weights.transfer import assign

Arrays = dict[str, np.ndarray]
PAGE = Path(__file__).parents[1] / "docs" / "parity.md"
KINDS = (EVAL, LOGITS, GRADIENT, AFTER)
NOTHING = 1e-3


def state_of(job: Job) -> Arrays:
    """The weights by the rule of `parity_torch`, in torch's names and layout, without torch."""
    network = variant(job.network, batch_norm_scale=True, **job.switches)
    names = torch_names(network)
    state = {}
    for variable in built(network, job, "float32").weights:
        name = names[variable.path]
        shape = in_torchs_layout(name, np.broadcast_to(np.float32(0), tuple(variable.shape))).shape
        state[name] = parity_torch.weight(name, shape)
    return state


def in_torchs_layout(name: str, array: np.ndarray) -> np.ndarray:
    array = flatten(name, array)
    return array.transpose({4: (3, 2, 0, 1), 2: (1, 0)}.get(array.ndim, tuple(range(array.ndim))))


def built(network, job: Job, dtype: str) -> keras.Model:
    """The network for logits, without dropout, with torch's momentum."""
    model = build_model(
        network,
        classes=CLASSES,
        classifier_activation=None,
        aux_logits=bool(job.auxiliaries),
        input_shape=(job.size, job.size, 3),
        dropout=0.0,
        batch_norm_momentum=1 - parity_torch.MOMENTUM,
        dtype=dtype,
    )
    for layer in model.layers:  # also of the auxiliary classifiers
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    return model


def step(path: Path, job: Job, dtype: str, *, folded: bool = False) -> Arrays:
    """What `parity_torch.step` finds, from a converted file, in torch's names and layout.

    Args:
        path: a state dict.
        job: what it is of.
        dtype: float32, which runs TensorFlow's fused operation, or float64, Keras' own computation.
        folded: build the network without gammas.

    Moving variances are converted to torch's convention (`unbiased`).
    """
    found = read_foreign_weights(job.network, job.source, path)
    assert found.switches == job.switches | {SCALE: True}
    network = variant(job.network, **job.switches) if folded else found.network
    model = built(network, job, dtype)
    found.assign(model)
    results = trained(model, job)
    kinds = (EVAL, LOGITS)
    named = {key: key if key.startswith(kinds) else renamed(key, found.names) for key in results}
    return {
        name: array if key.startswith(kinds) else in_torchs_layout(name.split("/", 1)[1], array)
        for (key, array), name in zip(results.items(), named.values(), strict=True)
    }


def renamed(key: str, names: Mapping[str, str]) -> str:
    kind, path = key.split("/", 1)
    return f"{kind}/{names[path]}"


def trained(model: keras.Model, job: Job, *, biased: bool = False) -> Arrays:
    """One step of a model, under the paths of its variables; `biased`: moving variances as they are."""
    before = {v.path: v.numpy() for v in model.weights if "/moving_" in v.path}
    images, labels = (
        tf.constant(parity_torch.images(job), model.layers[1].compute_dtype),
        parity_torch.labels(job),
    )
    factors = (1.0, *job.auxiliaries)

    @tf.function
    def run(training):
        with tf.GradientTape() as tape:
            ends = in_order(model(images, training=training))
            if not training:
                return ends, None
            losses = [
                tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, end))
                for end in ends
            ]
            loss = sum(factor * loss for factor, loss in zip(factors, losses, strict=True))
        return ends, tape.gradient(loss, [v.value for v in model.trainable_variables])

    results = {f"{EVAL}0": run(False)[0][0].numpy()}
    ends, gradients = run(True)
    results |= {f"{LOGITS}{number}": end.numpy() for number, end in enumerate(ends)}
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        results[f"{GRADIENT}{variable.path}"] = gradient.numpy()
    for variable in [v for v in model.weights if "/moving_" in v.path]:
        after, layer = variable.numpy(), model.get_layer(variable.path.split("/")[0])
        if variable.path.endswith("moving_variance") and not biased:
            values = job.batch * np.prod(layer.output.shape[1:-1])
            after = unbiased(before[variable.path], after, values)
        results[f"{AFTER}{variable.path}"] = after
    return results


def in_order(outputs) -> list:
    """A model's outputs, the predictions first, then the auxiliary ones."""
    if not isinstance(outputs, dict):
        return [outputs]
    return [outputs[n] for n in sorted(outputs, key=lambda name: (name != "predictions", name))]


def unbiased(before: np.ndarray, after: np.ndarray, values: float) -> np.ndarray:
    """A moving variance as torch would have it, which averages the variance over n - 1 and not over n values."""
    old = (1 - parity_torch.MOMENTUM) * before
    return old + (after - old) * values / (values - 1)


def errors(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The largest difference of each array by the array's largest value.

    Arrays below `NOTHING` of the usual are compared by that: a bias before a batch normalization has the gradient 0, and
    what is computed for it is rounding.
    """
    assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
    largest = {name: float(np.abs(array).max()) for name, array in expected.items()}
    usual = {
        kind: np.median([value for name, value in largest.items() if name.startswith(kind)])
        for kind in KINDS
    }
    return {
        name: float(np.abs(found[name] - array).max())
        / max(largest[name], NOTHING * usual[name[: name.index("/") + 1]])
        for name, array in expected.items()
    }


# The table

KERAS_JOBS = {
    "InceptionV3": Job("keras", "inception_v3", {}, 107, 4, (), None),
    "InceptionResNetV2": Job("keras", "inception_resnet_v2", {}, 107, 4, (), None),
}


def keras_step(builder: str, job: Job, dtype: str) -> tuple[Arrays, Arrays]:
    """A step of a network of keras.applications and of ours with its weights."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    theirs = getattr(keras.applications, builder)(
        weights=None,
        classes=CLASSES,
        input_shape=(job.size,) * 2 + (3,),
        classifier_activation=None,
    )
    keras.config.set_dtype_policy(policy)
    for variable in theirs.weights:
        variable.assign(ramps.weight(variable.path, tuple(variable.shape)))
    for layer in theirs.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 1 - parity_torch.MOMENTUM
    arrays = keras_arrays(theirs)
    ours = built(find_network(job.network), job, dtype)
    names = keras_names(find_network(job.network), arrays)
    assign(ours, arrays, names)
    expected = trained(theirs, job, biased=True)
    found = trained(ours, job, biased=True)
    kinds = (EVAL, LOGITS)
    return {k if k.startswith(kinds) else renamed(k, names): a for k, a in found.items()}, expected


def slim_step(folder: Path, name: str, dtype: str) -> tuple[Arrays, Arrays]:
    job = parity_slim.JOBS[name]
    expected = dict(np.load(folder / f"{name}.npz"))
    found = read_foreign_weights(job.network, "slim", folder / f"{name}.ckpt")
    model = built(found.network, job, dtype)
    found.assign(model)
    results = trained(model, job)
    kinds = (EVAL, LOGITS)
    results = {k if k.startswith(kinds) else renamed(k, found.names): a for k, a in results.items()}
    # slim's classifiers are 1x1 convolutions, in V1 to V3.
    return {k: a.reshape(expected[k].shape) for k, a in results.items()}, expected


Row = tuple[
    str, str, str, dict[str, float]
]  # network, source, computed in, worst error of each kind
HERE = Path(__file__).parent
ENVIRONMENT = os.environ | {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "2"}


def torch_rows(python: str, folder: Path, name: str) -> Iterator[Row]:
    job = parity_torch.JOBS[name]
    for dtype in ("float32", "float64"):
        target = folder / dtype
        target.mkdir(exist_ok=True)
        words = [python, str(HERE / "parity_torch.py"), str(target), dtype, name]
        subprocess.run(words, check=True, env=ENVIRONMENT)
    exact = dict(np.load(folder / "float64" / f"{name}.npz"))
    path = folder / "float64" / f"{name}.safetensors"
    yield job.network, job.source, "float64", worst(step(path, job, "float64"), exact)
    yield job.network, job.source, "float32", worst(step(path, job, "float32"), exact)
    theirs = dict(np.load(folder / "float32" / f"{name}.npz"))
    yield job.network, job.source, f"{job.source}'s own float32", worst(theirs, exact)


def keras_rows(python: str, folder: Path, name: str) -> Iterator[Row]:
    job = KERAS_JOBS[name]
    for dtype in ("float64", "float32"):
        yield job.network, "keras.applications", dtype, worst(*keras_step(name, job, dtype))


def slim_rows(python: str, folder: Path, name: str) -> Iterator[Row]:
    words = [sys.executable, "-W", "ignore", str(HERE / "parity_slim.py"), str(folder), name]
    subprocess.run(words, check=True, env=ENVIRONMENT)
    source = "tf_slim's layers" if name in parity_slim.LATER else "tf_slim"
    yield name, source, "float32", worst(*slim_step(folder, name, "float32"))


# Name for --only → the function of its rows and the name of its job.
ROWS = {
    **{f"torch:{name}": (torch_rows, name) for name in parity_torch.JOBS},
    **{f"keras:{name}": (keras_rows, name) for name in KERAS_JOBS},
    **{f"slim:{name}": (slim_rows, name) for name in parity_slim.JOBS},
}


def worst(found: Arrays, expected: Arrays) -> dict[str, float]:
    one_by_one = errors(found, expected)
    return {kind: max(e for key, e in one_by_one.items() if key.startswith(kind)) for kind in KINDS}


def main(python: str, only: list[str]) -> None:
    head = "| network | source | computed in | evaluation: logits | training: logits | gradients | statistics |"
    rows = kept_rows("table", 3) if only else {}
    for chosen in only or ROWS:
        make, name = ROWS[chosen]
        with tempfile.TemporaryDirectory() as folder:
            for network, source, dtype, kinds in make(python, Path(folder), name):
                cells = " | ".join(f"{kinds[kind]:.0e}" for kind in KINDS)
                key = (f"`{network}`", source, dtype)
                rows[key] = f"| {' | '.join(key)} | {cells} |"
                print(rows[key], flush=True)
        keras.backend.clear_session()
        write_rows("table", head, rows)


def kept_rows(name: str, titles: int) -> dict[tuple[str, ...], str]:
    """The rows of a table in docs/parity.md by their first cells, as many as `titles`."""
    text = PAGE.read_text(encoding="utf-8")
    table = text.partition(f"<!-- {name} -->\n")[2].partition(f"<!-- end of {name} -->")[0]
    lines = table.splitlines()[2:]
    return {tuple(cell.strip() for cell in line.split("|")[1 : titles + 1]): line for line in lines}


def write_rows(name: str, head: str, rows: Mapping[tuple[str, ...], str]) -> None:
    """Put rows into the table of that name in docs/parity.md."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    lines = [head, re.sub(r"[^|]+", " --- ", head), *rows.values()]
    text = "".join(f"{line}\n" for line in lines)
    PAGE.write_text(f"{before}{begin}{text}{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--torch-python", default=sys.executable, help="has torch, torchvision and timm"
    )
    parser.add_argument("--only", nargs="+", choices=ROWS, default=[])
    options = parser.parse_args()
    main(options.torch_python, options.only)
