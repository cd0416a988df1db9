# SPDX-License-Identifier: Apache-2.0
"""Training on whichever backend Keras has: `python trainer_program.py FOLDER` writes what test_trainer_backends.py compares.

Everything here needs Keras, its backend and this package alone: no TensorFlow, where that is not the backend.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import keras
import numpy as np
import ramps

from inception_tf.benchmark.case import Case
from inception_tf.benchmark.run import time_prepared
from inception_tf.benchmark.steps import (
    Prepared,
    resolved,
    train_step_by_keras,
    train_step_on_jax,
)
from inception_tf.errors import UserError
from inception_tf.host.backend import needs_tensorflow_backend
from inception_tf.host.hardware import Precision
from inception_tf.models import variant
from inception_tf.nn.batch_norm import BatchNormalization
from inception_tf.nn.keras_internals import JAX_ALONE, require
from inception_tf.training import checkpoint
from inception_tf.training.compile import check_backend, compile_for, model_class
from inception_tf.training.determinism import seed_step
from inception_tf.training.jax_devices import EvaluateOnEach, all_devices
from inception_tf.training.model_plan import ModelPlan
from inception_tf.training.optim.recalibrate import recalibrate
from inception_tf.training.optim.skip_nonfinite import NotFiniteError, StopOnNonFinite
from inception_tf.training.phases import phases_of
from inception_tf.training.recipes import read_recipe

CLASSES, SIZE, BATCH, STEPS = 4, 16, 8, 20
LEARNING_RATE = 0.5
MAX_BAD_STEPS = 3
PLAIN = ("optimizer.name=sgd", "optimizer.momentum=0", "optimizer.schedule=constant")
PLAIN += ("optimizer.warmup_epochs=0", "optimizer.ema=null", "training.warm_up_statistics=false")
PLAIN += (f"optimizer.learning_rate={LEARNING_RATE}", "training.label_smoothing=0")
# Slim's optimizer with all that this package adds to it.
RECIPE = ("optimizer.name=rmsprop", "optimizer.learning_rate=0.05", "optimizer.ema=0.9999")
RECIPE += ("optimizer.schedule=exponential", "optimizer.warmup_epochs=0.1")
RECIPE += ("optimizer.clip_norm=1", "training.warm_up_statistics=true")
RECIPE += ("training.label_smoothing=0.1", f"training.max_bad_steps={MAX_BAD_STEPS}")
ACCUMULATED = (*RECIPE, "optimizer.accumulation_steps=2")
# Fine-tuning: a phase of the classifier, at another learning rate, and one of the whole network.
PHASES = (*PLAIN, "training.head_epochs=1", "training.epochs=2", "optimizer.head_learning_rate=0.2")


def compiled(settings=PLAIN, precision="float32", activation="tanh", dropout=0.0, moved=0.0):
    """A small network of this package's layers, with weights by rule, as `train` compiles it."""
    plan = planned(settings, precision)
    keras.utils.set_random_seed(0)
    layers, dtype = keras.layers, {"dtype": precision}
    x = image = keras.Input((SIZE, SIZE, 3))
    for number, width in enumerate((8, 12)):
        name = f"conv{number}"
        x = layers.Conv2D(width, 3, 2, "same", use_bias=False, name=name, **dtype)(x)
        x = BatchNormalization(scale=False, momentum=0.9, name=f"norm{number}", **dtype)(x)
        x = layers.Activation(activation, **dtype)(x)
    x = layers.GlobalAveragePooling2D(**dtype)(x)
    x = layers.Dropout(dropout, name="dropout", **dtype)(x)
    model = model_class()(image, {"predictions": layers.Dense(CLASSES, name="Logits")(x)})
    ramps.fill(model)
    for variable in model.trainable_variables:
        shift = ramps.uniform(f"moved {variable.path}", tuple(variable.shape))
        variable.assign(array_of(variable) * (1 + moved * shift))
    compile_for(model, plan, phases_of(plan.config)[0])
    return model


def planned(settings, precision="float32"):
    config = read_recipe("default").override(list(settings))
    policy = Precision(precision, "as asked for")
    return ModelPlan(config, variant("inception_v1"), CLASSES, SIZE, 100, policy)


def batch(number, count=BATCH):
    """Images whose brightness differs from one to the next, and their classes."""
    x = ramps.uniform(f"x {number}", (count, SIZE, SIZE, 3))
    x = x + np.linspace(-1, 1, count, dtype="float32")[:, None, None, None]
    classes = (np.arange(count) * 7 + number) % CLASSES
    return x, {"predictions": np.eye(CLASSES, dtype="float32")[classes]}


def values(model):
    """All that changes, by name; but not the counters of skipped steps, and the scale of the loss."""
    counters = {"bad_steps", "skipped", "dynamic_scale", "step_counter"}
    named = [*((v.path, v) for v in model.variables)]
    named += [(f"optimizer/{n}-{v.name}", v) for n, v in enumerate(model.optimizer.variables)]
    return {name: array_of(v) for name, v in named if v.name not in counters and "seed" not in name}


def step(model, number, spoiled=None):
    seed_step(0, number)
    x, y = batch(number)
    if spoiled is not None:
        x[1, 0, 1, 2] = spoiled
    return model.train_on_batch(x, y, return_dict=True)["loss"]


def snapshot(model):
    """Everything, to be put back: compiling another model takes longer than all its steps."""
    variables = (*model.variables, *model.optimizer.variables)
    return [(v, array_of(v)) for v in variables]


def put_back(saved):
    for variable, value in saved:
        variable.assign(value)


def trained(model, steps=STEPS):
    """The losses of the steps, and the variables after them."""
    losses = [float(step(model, number)) for number in range(steps)]
    return {"losses": np.array(losses), **values(model)}


def smooth(model=None):
    """20 steps of SGD, and the gradients of the first."""
    model = model or compiled()
    before = values(model)
    first = step(model, 0)
    after = values(model)
    gradients = {
        f"gradient {v.path}": (before[v.path] - after[v.path]) / LEARNING_RATE
        for v in model.trainable_variables
    }
    losses = [first, *(step(model, number) for number in range(1, STEPS))]
    return {"losses": np.array(losses, "float64"), **gradients, **values(model)}


def recipe(moved=0.0, settings=RECIPE, steps=STEPS):
    return trained(compiled(settings, activation="relu", moved=moved), steps)


def two_phases():
    """Weights and statistics after three steps of each phase, then the statistics recalibrated over three batches."""
    model, plan = compiled(PHASES), planned(PHASES)
    found = {}
    for number, phase in enumerate(phases_of(plan.config)):
        if phase.first:
            compile_for(model, plan, phase)
        for taken in range(3):
            step(model, 3 * number + taken)
        found |= {f"phase {number}/{v.path}": array_of(v) for v in model.variables}
    recalibrate(model, [batch(number)[0] for number in range(3)], 3)
    found |= {f"recalibrated/{v.path}": array_of(v) for v in model.variables}
    return {name: array for name, array in found.items() if "seed" not in name}


def normalized():
    """Outputs and statistics of a batch in each precision, whose channels have means of up to 1,000 deviations."""
    found = {}
    for policy in POLICIES:
        for warms_up in (False, True):
            norm = BatchNormalization(scale=False, momentum=0.0, dtype=policy)
            norm.warm_up = (lambda momentum: momentum) if warms_up else None
            outputs = norm(spread().astype(rounded(policy)), training=True)
            part = f"{policy}, warm-up {warms_up}"
            found[f"{part}/outputs"] = array_of(keras.ops.cast(outputs, "float32"))
            found[f"{part}/mean"] = array_of(norm.moving_mean)
            found[f"{part}/variance"] = array_of(norm.moving_variance)
    return found


POLICIES = ("float32", "mixed_float16", "mixed_bfloat16")
MEANS = (0, 10, 100, 1000)


def spread():
    """(N, H, W, C) float32, deviations of 1 around `MEANS`."""
    noise = ramps.uniform("spread", (BATCH, SIZE, SIZE, len(MEANS))) * np.sqrt(3)
    return (noise + np.array(MEANS)).astype("float32")


def rounded(policy):
    """The NumPy type in which a layer of a policy gets its input."""
    import ml_dtypes

    names = {"float32": "float32", "mixed_float16": "float16", "mixed_bfloat16": "bfloat16"}
    return {"bfloat16": ml_dtypes.bfloat16}.get(names[policy], names[policy])


def array_of(variable):
    return np.array(keras.ops.convert_to_numpy(variable))


def skipped(model):
    """NaN and infinity in a batch: names of what changed, counts, and what differs from a run without these batches."""
    start = snapshot(model)
    for number in (0, 1):
        step(model, number)
    before = values(model)
    for number, spoiled in ((2, np.nan), (3, np.inf)):
        step(model, number, spoiled)
    touched = [n for n, value in values(model).items() if not np.array_equal(value, before[n])]
    counts = [int(model.optimizer.skipped.numpy()), int(model.optimizer.bad_steps.numpy())]
    scale = float(model.optimizer.dynamic_scale.numpy())
    step(model, 4)
    found = values(model)
    put_back(start)
    for number in (0, 1):
        step(model, number)
    # A scale that has fallen may change the last bit of a gradient in float16.
    model.optimizer.dynamic_scale.assign(scale)
    step(model, 4)
    theirs = values(model)
    put_back(start)
    return {
        "touched": touched,
        "counts": counts,
        "scale": scale,
        "other": [n for n, value in found.items() if not np.array_equal(value, theirs[n])],
        "moved": any(not np.array_equal(value, before[n]) for n, value in found.items()),
        "finite": all(bool(np.all(np.isfinite(value))) for value in found.values()),
    }


class Batches(keras.utils.PyDataset):
    """12 batches, of which those in `bad` hold NaN."""

    def __init__(self, bad=()):
        super().__init__()
        self.bad = bad

    def __len__(self):
        return 12

    def __getitem__(self, number):
        x, y = batch(number % 3)
        return (x * np.nan if number in self.bad else x), y


def fitted(model):
    """`fit` on a PyDataset, then with bad batches in a row, then on arrays with validation."""
    start = snapshot(model)
    history = model.fit(Batches(), epochs=3, shuffle=False, verbose=0).history["loss"]
    put_back(start)
    stop, ended = StopOnNonFinite(MAX_BAD_STEPS, done=100), None
    try:
        model.fit(Batches(bad=(2, 4, 5, 6)), callbacks=[stop], shuffle=False, verbose=0)
    except NotFiniteError as error:
        ended = [error.step, str(error)]
    steps = int(model.optimizer.iterations.numpy())
    put_back(start)
    x, y = batch(0)
    more = model.fit(x, y, batch_size=BATCH, validation_data=(x, y), verbose=0).history
    return {
        "history": history,
        "keys": sorted(more),
        "ended": ended,
        "steps": steps,
    }


def fed():
    """What torch's loader does with batches on the processor, and whether it is one ahead."""
    import torch

    from inception_tf.training.torch_batches import BatchesOnDevice, on_device

    taken = []

    def batches():
        for number in range(3):
            taken.append(number)
            yield batch(number)

    class Repeated:
        def __iter__(self):
            return batches()

    loader = BatchesOnDevice(Repeated(), torch.device("cpu"))
    ahead, equal = [], []
    for number, (x, y) in enumerate(loader):
        ahead.append(len(taken))
        images, targets = batch(number)
        equal.append(bool((x.numpy() == images).all()))
        equal.append(bool((y["predictions"].numpy() == targets["predictions"]).all()))
    # As `train` calls it: one stream for several epochs.
    stream = BatchesOnDevice([batch(number % 3) for number in range(6)], torch.device("cpu"))
    history = compiled().fit(stream, epochs=2, steps_per_epoch=3, verbose=0).history["loss"]
    plain = compiled().fit(
        np.concatenate([batch(number)[0] for number in range(3)]),
        {"predictions": np.concatenate([batch(number)[1]["predictions"] for number in range(3)])},
        batch_size=BATCH,
        epochs=2,
        shuffle=False,
        verbose=0,
    )
    return {
        "ahead": ahead,
        "equal": equal,
        "apart": float(np.abs(np.subtract(history, plain.history["loss"])).max()),
        "unchanged": on_device(taken) is taken or torch.cuda.is_available(),
    }


def resumed(folder):
    """Names of what differs between 7 steps, and a checkpoint after 3 steps with 4 steps of another model."""
    one, two = (compiled(ACCUMULATED, dropout=0.3) for _ in range(2))
    for number in range(3):
        step(one, number)
    saved = checkpoint.save(folder, one, checkpoint.Progress(step=3))
    for number in range(3, 7):
        step(one, number)
    found = checkpoint.restore(saved, two)
    for number in range(found.step, 7):
        step(two, number)
    theirs = values(one)
    return [n for n, value in values(two).items() if not np.array_equal(value, theirs[n])]


def parallel(alone):
    """The same 20 steps on all of JAX's devices together: their number, and how far variables and scores are apart.

    The images of the evaluation, 9 in batches of 8, cannot be divided among 4 devices.
    """
    devices = all_devices()
    with devices.scope():
        together, scores = after_fit(compiled(), [EvaluateOnEach(devices)])
    theirs, their_scores = after_fit(alone, [])
    distances = {n: float(np.abs(value - theirs[n]).max()) for n, value in together.items()}
    apart = {n: abs(score - their_scores[n]) for n, score in scores.items()}
    return {"devices": devices.num_model_replicas, "distances": distances, "scores": apart}


def timed(model, start):
    """Three steps as `benchmark train-step` takes them: the furthest variable from those of `train_on_batch`.

    Two more are timed, after which it times a forward pass by the same weights.
    """
    found = []
    for make in (train_step_by_keras, train_step_on_jax):
        put_back(start)
        take, so_far = make(model, partial(batch, 0))
        losses = [float(take()["loss"]) for _ in range(3)]
        found.append(values(so_far()))
    case = resolved(Case("inception_v1", "train-step", backend="keras", steps=2).checked())
    prepared = Prepared(take, 0, "Keras", forward=partial(values, model), model=so_far)
    timing = time_prepared(case, prepared, 0.0, lambda _: None)
    return {
        "forward_seconds": timing.forward_seconds,
        "losses": losses,
        "distance": max(float(np.abs(found[0][n] - found[1][n]).max()) for n in found[0]),
    }


def after_fit(model, callbacks):
    data = [batch(number) for number in range(STEPS)]
    x = np.concatenate([images for images, _ in data])
    y = {"predictions": np.concatenate([labels["predictions"] for _, labels in data])}
    tested = batch(STEPS, BATCH + 1)
    options = {"validation_data": tested, "validation_batch_size": BATCH, "callbacks": callbacks}
    found = model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0, **options)
    return values(model), {name: value[-1] for name, value in found.history.items()}


def refused():
    """The sentences about what this backend cannot do."""
    sentences = []
    wanted = ("data.service=grpc://host:5000", "training.steps_per_execution=2")
    calls = [partial(check_backend, read_recipe("default").override([key])) for key in wanted]
    for call in (*calls, partial(needs_tensorflow_backend, "export")):
        try:
            call()
        except UserError as error:
            sentences.append(str(error))
    return sentences


def main(folder: Path) -> None:
    plain, slim = compiled(), compiled(RECIPE, activation="relu")
    starts = snapshot(plain), snapshot(slim)
    arrays = {"smooth": smooth(plain), "recipe": trained(slim), "phases": two_phases()}
    arrays["normalized"] = normalized()
    if keras.backend.backend() == "torch":  # JAX compiles it in seconds
        arrays["accumulated"] = recipe(settings=ACCUMULATED, steps=6)
    for start in starts:
        put_back(start)
    facts = {
        "backend": keras.backend.backend(),
        "skipped": {
            "float32": skipped(slim),
            "mixed_float16": skipped(compiled(RECIPE, "mixed_float16")),
        },
        "fitted": fitted(slim),
        "refused": refused(),
        "resumed": resumed(folder / "checkpoints"),
    }
    if keras.backend.backend() == "jax":
        require(*JAX_ALONE)
        facts["parallel"] = parallel(plain)
        facts["timed"] = timed(plain, starts[0])
    if keras.backend.backend() == "torch":
        facts["fed"] = fed()
    named = {f"{part}|{n}": value for part, found in arrays.items() for n, value in found.items()}
    np.savez(folder / "arrays.npz", **named)
    (folder / "facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
