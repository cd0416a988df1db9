# SPDX-License-Identifier: Apache-2.0
"""Checks of what a SavedModel answered: in its own terms, and next to the run that it came from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from inception_tf.data.preprocessing import Preprocessing
from inception_tf.data.skipped import OK
from inception_tf.export import sample_requests
from inception_tf.verify import probe_images
from inception_tf.verify.check import CheckFailedError, CheckSkippedError
from inception_tf.verify.probe_images import Prepared
from inception_tf.verify.python_loader import on_cpu
from inception_tf.verify.sample_run import BATCHES, FEW, Pairs, SampleRun
from inception_tf.verify.subprocess_loader import Call

__all__ = [
    "are_probabilities",
    "as_in_keras",
    "as_in_python",
    "as_prepared",
    "bad_image_fails_alone",
    "every_signature_runs",
    "names_follow_scores",
    "statuses_match",
    "warm_up_replays",
]

TOLERANCE = 1e-4  # of a probability: another runtime may sum in another order
# Of a probability, compared with the Keras model in float32: each layer keeps 11 and 8 bits of a value.
ROUNDING = {"float32": TOLERANCE, "float16": 1e-2, "bfloat16": 1e-1}
# Of a probability's logarithm, of float32: where one class has nearly all, probabilities alone would hide much.
LOG_TOLERANCE = 2e-2
LEAST = 1e-30  # probabilities below are of no interest
SUM_TOLERANCE = 1e-3  # of a row's sum, over 1,000 classes


def every_signature_runs(run: SampleRun) -> str:
    """Checks that every signature runs at each of `BATCHES`; see `CheckFunction`."""
    for call, result in run.plain:
        if result.error:
            raise CheckFailedError(f"{call.signature}: {result.error}")
    held = f", in {run.peak / 2**20:,.0f} MiB" if run.peak else ""
    return f"every signature runs at batch {' and '.join(map(str, BATCHES))}{held}"


def are_probabilities(run: SampleRun, several: bool = False) -> str:
    """Checks that the rows of `probabilities` are not negative and sum to 1, or are independent; see `CheckFunction`.

    Args:
        run: The outputs.
        several: The classes are independent, and each probability is within 0 and 1.

    Returns:
        What was found.

    Raises:
        CheckFailedError: They are none.
    """
    for call, outputs in _outputs(run.plain):
        if "probabilities" not in outputs:
            continue
        rows = outputs["probabilities"]
        # Written so that NaN fails.
        if several:
            if not np.all((rows >= 0) & (rows <= 1)):
                raise CheckFailedError(
                    f"{call.signature}: values from {rows.min()} to {rows.max()}; export a network that ends in sigmoid"
                )
            continue
        if not (np.all(rows >= 0) and np.all(np.abs(rows.sum(-1) - 1) <= SUM_TOLERANCE)):
            raise CheckFailedError(
                f"{call.signature}: rows sum to {rows.sum(-1).tolist()}, minimum {rows.min()};"
                " export a network that ends in softmax"
            )
    return (
        "of independent classes, each within 0 and 1"
        if several
        else "rows are not negative and sum to 1"
    )


def names_follow_scores(run: SampleRun, labels: Sequence[str]) -> str:
    """Checks that the best classes come first and that each name belongs to a class with this score; see `CheckFunction`."""
    names = sample_requests.bytes_array([label.encode() for label in labels])
    probabilities = np.zeros((0, 0))
    for call, outputs in _outputs(run.plain):
        if call.signature == "features":
            continue
        # `classify` has no probabilities; it follows `serving_default` on the same images.
        probabilities = outputs.get("probabilities", probabilities)
        if probabilities.shape[-1] != len(labels):
            raise CheckSkippedError(
                f"there are {len(labels)} labels for {probabilities.shape[-1]} classes"
            )
        prefix = "" if call.signature == "classify" else "top_"
        for row, classes, scores in zip(
            probabilities, outputs[f"{prefix}classes"], outputs[f"{prefix}scores"], strict=True
        ):
            best = np.sort(row)[::-1][: len(scores)]
            near = np.abs(row - scores[:, np.newaxis]) <= TOLERANCE
            named = names == classes[:, np.newaxis]
            if np.abs(best - scores).max() > TOLERANCE or not (near & named).any(-1).all():
                raise CheckFailedError(
                    f"{call.signature}: {classes.tolist()} do not fit {scores.tolist()}"
                )
    return "best first, named as they were exported"


def as_in_python(run: SampleRun, loaded: Any) -> str:
    """Checks that TensorFlow's Python loader gives the same outputs; see `CheckFunction`."""
    distances = []
    for call, outputs in _outputs(run.plain):
        inputs = {name: tf.constant(value) for name, value in call.inputs.items()}
        with on_cpu():
            for name, value in loaded.signatures[call.signature](**inputs).items():
                if value.dtype == tf.float32:
                    distances.append(_distance(value.numpy(), outputs[name]))
    return _within(distances)


def as_in_keras(
    run: SampleRun,
    prepared: Prepared,
    preprocessing: Preprocessing,
    model: keras.Model,
    precision: str,
) -> str:
    """Checks that the Keras model, in float32, gives the same outputs for pixels that this package prepares; see `CheckFunction`."""
    size = preprocessing.size
    shape = (None, size, size, 3)
    if not tf.TensorShape(shape).is_compatible_with(model.input_shape):
        raise CheckFailedError(
            f"the network takes {model.input_shape}, the export gives it {shape}"
        )

    def network(pixels: np.ndarray) -> np.ndarray:
        found = model(pixels, training=False)
        return np.asarray(found["predictions"] if isinstance(found, dict) else found, np.float32)

    return _as_prepared(run, prepared, preprocessing, network, ROUNDING[precision], few=True)


def as_prepared(
    run: SampleRun,
    prepared: Prepared,
    preprocessing: Preprocessing,
    network: Callable[[np.ndarray], dict[str, np.ndarray]],
    precision: str,
) -> str:
    """Checks that the exported network gives the same outputs for pixels that this package prepares; see `CheckFunction`."""
    # The same arithmetic on pixels that differ by one rounding at most.
    text = _as_prepared(
        run,
        prepared,
        preprocessing,
        lambda pixels: network(pixels)["probabilities"],
        ROUNDING[precision],
        few=False,
    )
    for _, outputs in _outputs(run.probes):
        if "features" in outputs:
            places = [n for n, status in enumerate(prepared.statuses[:FEW]) if status == OK]
            expected = network(prepared.pixels[places])["features"]
            ours, highest = outputs["features"][places], max(1.0, float(np.abs(expected).max()))
            _within([_distance(ours, expected) / highest], ROUNDING[precision])
    return text


def _as_prepared(
    run: SampleRun,
    prepared: Prepared,
    preprocessing: Preprocessing,
    network: Callable[[np.ndarray], np.ndarray],
    allowed: float,
    *,
    few: bool,
) -> str:
    whole, some, *others = _outputs(run.probes)
    good = [status == OK for status in prepared.statuses]
    places = np.flatnonzero(good)[: FEW if few else None]
    with on_cpu():
        expected = network(prepared.pixels[places])
    found = whole[1]["probabilities"][places]
    distances = [_distance(found, expected)]
    logs = [_log_distance(found, expected)]
    # `classify` lists the best of the same images.
    scores = some[1]["scores"][:FEW][good[:FEW]]
    best = np.sort(expected[: len(scores)])[:, ::-1][:, : scores.shape[1]]
    distances.append(_distance(scores, best))
    for call, outputs in [*others, *_outputs(run.plain)]:
        if call.signature == "image_tensor":
            pixels = probe_images.prepare_arrays(call.inputs["images"], preprocessing)
            with on_cpu():
                expected = network(pixels)
            distances.append(_distance(expected, outputs["probabilities"]))
            logs.append(_log_distance(expected, outputs["probabilities"]))
    if allowed == TOLERANCE and not max(logs) <= LOG_TOLERANCE:
        raise CheckFailedError(
            f"logarithms of probabilities differ by {max(logs):.2g}, at most {LOG_TOLERANCE:g} is allowed"
        )
    return f"{_within(distances, allowed)} on {len(places)} images of every kind"


def statuses_match(run: SampleRun, prepared: Prepared) -> str:
    """Checks that images of every kind are read or refused as this package does, with its reasons, up to the pixel limit; see `CheckFunction`."""
    whole, some, *_ = _outputs(run.probes)
    found = tuple(status.decode(errors="replace") for status in whole[1]["status"].tolist())
    for number, (ours, theirs) in enumerate(zip(found, prepared.statuses, strict=True)):
        if ours != theirs:
            raise CheckFailedError(f"image {number} of the probes is '{ours}', not '{theirs}'")
    few = (*prepared.statuses[:FEW], *prepared.statuses[-FEW:])
    for status, names in zip(few, some[1]["classes"], strict=True):
        if (status == OK) != bool(names[0]):
            raise CheckFailedError(
                f"classify: an image that is '{status}' has classes {names.tolist()}"
            )
    good = sum(status == OK for status in found)
    return f"{good} images read and {len(found) - good} refused, each with its reason"


def bad_image_fails_alone(run: SampleRun) -> str:
    """Checks that bad images get zeros and leave the rows of good images unchanged; see `CheckFunction`."""
    for (call, clean), (_, damaged) in zip(_outputs(run.clean), run.damaged, strict=True):
        if damaged.error:
            raise CheckFailedError(
                f"{call.signature}: bad images fail the whole call: {damaged.error}"
            )
        for name, rows in damaged.outputs.items():
            if not np.array_equal(rows[[0, -1]], clean[name][[0, -1]]):
                raise CheckFailedError(
                    f"{call.signature}: {name} of good images change when bad ones are in the batch"
                )
            bad = rows[1:-1]
            wrong = bad == OK.encode() if name == "status" else bad.astype(bool)  # NaN is wrong too
            if wrong.any():
                raise CheckFailedError(f"{call.signature}: {name} of bad images are {bad.tolist()}")
    return "3 bad of 5: zeros for these, the others bit for bit as without"


def warm_up_replays(run: SampleRun) -> str:
    """Checks that every request of the warm-up log runs; see `CheckFunction`."""
    for number, (call, result) in enumerate(run.warm):
        if result.error:
            raise CheckFailedError(f"record {number}, {call.signature}: {result.error}")
    return f"{len(run.warm)} records replayed"


def _outputs(pairs: Pairs) -> Iterator[tuple[Call, dict[str, np.ndarray]]]:
    for call, result in pairs:
        if result.error:
            raise CheckSkippedError(f"{call.signature} did not run: {result.error}")
        yield call, result.outputs


def _distance(ours: np.ndarray, theirs: np.ndarray) -> float:
    if ours.shape != theirs.shape:
        raise CheckFailedError(f"shapes differ, {ours.shape} and {theirs.shape}")
    return float(np.abs(ours - theirs).max())


def _log_distance(ours: np.ndarray, theirs: np.ndarray) -> float:
    logs = [np.log(np.maximum(rows, LEAST)) for rows in (ours, theirs)]
    return float(np.abs(logs[0] - logs[1]).max())


def _within(distances: Sequence[float], allowed: float = TOLERANCE) -> str:
    worst = np.max(distances)  # NaN where there is one
    if not worst <= allowed:
        raise CheckFailedError(f"differs by {worst:.2g}, at most {allowed:g} is allowed")
    return f"largest difference {worst:.2g}"
