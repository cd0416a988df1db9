# SPDX-License-Identifier: Apache-2.0
"""What folding, 16 bits, int8 and other runtimes change in the answers of a trained Inception V3.

    python tests/trained_drops.py TEST_DATA

writes the table of docs/parity.md.  TEST_DATA has `weights/inception_v3_transfer_u8.npz` and `flowers12`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import parity
import tensorflow as tf
import trained_v3

from inception_tf.export.savedmodel import export
from inception_tf.inference import runtimes
from inception_tf.inference.optimize import optimize_for_inference
from inception_tf.inference.runtimes.openvino import compile_for_cpu

BATCH = 20
# Images of a kind, of those to compare on and of those that int8 takes its ranges from.
PER_KIND, CALIBRATION = 20, 10
KINDS = tuple(f"kind {number}" for number in range(12))

Forward = Callable[[np.ndarray], np.ndarray]  # (N, 299, 299, 3) float32 → (N, 12) probabilities


class Drop(NamedTuple):
    """How the answers of one form of a network differ from those of the Keras model in float32."""

    largest: float  # difference of two probabilities of one class
    mean: float  # difference
    same: float  # fraction of the images with the same answer
    top1: float  # accuracy


def measure(found: np.ndarray, expected: np.ndarray, kinds: np.ndarray) -> Drop:
    """Of probabilities (N, 12), those of the Keras model, and the images' kinds."""
    assert found.dtype == np.float32
    difference, answers = np.abs(found - expected), found.argmax(1)
    same = answers == expected.argmax(1)
    return Drop(difference.max(), difference.mean(), same.mean(), (answers == kinds).mean())


def run(forward: Forward, images: np.ndarray) -> np.ndarray:
    parts = [images[begin : begin + BATCH] for begin in range(0, len(images), BATCH)]
    return np.concatenate([np.asarray(forward(part)) for part in parts])


def optimized(model: keras.Model, precision: str) -> Forward:
    return optimize_for_inference(model, precision).predict_on_batch


def converted(
    model: keras.Model, name: str, calibration: Sequence[np.ndarray] | None, folder: Path
) -> Forward:
    """A network in the format of another runtime, written and loaded."""
    runtime = runtimes.find_runtime(name)
    runtime.write_model(model, folder, calibration)
    return runtime.load_model(folder)


def served(model: keras.Model, folder: Path, precision: str = "float32") -> Callable:
    """A SavedModel of a network: encoded images → (N, 12) probabilities."""
    version = export(
        model, KINDS, folder / "flowers", trained_v3.PREPROCESSING, precision=precision
    )
    function = tf.saved_model.load(str(version)).signatures["serving_default"]
    return lambda encoded: function(image_bytes=tf.constant(encoded))["probabilities"].numpy()


def forms(model: keras.Model, data: Path) -> dict[tuple[str, str], Callable[[Path], np.ndarray]]:
    """What each row is of → its answers to the photographs, given a folder to write to."""
    images, _ = trained_v3.photographs(data, "test", PER_KIND)

    def calibration() -> list[np.ndarray]:
        few, _ = trained_v3.photographs(data, "train", CALIBRATION)
        return np.split(few, len(few) // 10)

    def bytes_of(folder: Path, precision: str) -> np.ndarray:
        files = trained_v3.files(data, "test", PER_KIND)
        forward = served(model, folder, precision)
        parts = [forward(files[begin : begin + BATCH]) for begin in range(0, len(files), BATCH)]
        return np.concatenate(parts)

    found = {
        ("`optimize_for_inference`", precision): lambda folder, precision=precision: run(
            optimized(model, precision), images
        )
        for precision in ("float32", "bfloat16", "float16")
    }
    for precision in ("float32", "bfloat16"):
        found["SavedModel, of JPEG files", precision] = partial(bytes_of, precision=precision)
    for name in runtimes.FORMATS:
        found[f"`{name}`", "float32"] = lambda folder, name=name: run(
            converted(model, name, None, folder), images
        )
        if runtimes.find_runtime(name).INT8:
            found[f"`{name}`", "int8"] = lambda folder, name=name: run(
                converted(model, name, calibration(), folder), images
            )
    found["`openvino`", "bfloat16"] = lambda folder: run(
        compile_for_cpu(model, None, "bfloat16"), images
    )
    return found


def main(data: Path, only: list[str]) -> None:
    arrays = trained_v3.read_arrays(data / trained_v3.FILE)
    model = trained_v3.build_flowers(arrays, data)
    images, kinds = trained_v3.photographs(data, "test", PER_KIND)
    expected = run(model.predict_on_batch, images)
    accuracy = (expected.argmax(1) == kinds).mean()
    head = "| form | precision | largest difference | mean difference | same class | top-1 |"
    rows = parity.kept_rows("trained", 2) if only else {}
    rows["Keras", "float32"] = f"| Keras | float32 | | | | {accuracy:.1%} |"
    for key, answer in forms(model, data).items():
        if only and ":".join(key).replace("`", "") not in only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            drop = measure(answer(Path(folder)), expected, kinds)
        rows[key] = (
            f"| {' | '.join(key)} | {drop.largest:.1e} | {drop.mean:.1e} | {drop.same:.1%} | {drop.top1:.1%} |"
        )
        print(rows[key], flush=True)
        parity.write_rows("trained", head, rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", nargs="+", default=[], help="rows, such as openvino:int8")
    options = parser.parse_args()
    main(options.data, options.only)
