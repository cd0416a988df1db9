# SPDX-License-Identifier: Apache-2.0
"""A variant's network with its training and evaluation as single calls of JAX: hundreds of steps each."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np

from accelerator_parts.pixels import evaluation_images, training_images


@dataclasses.dataclass
class Network:
    """What variants of the same layers, losses and augmentation share."""

    model: Any  # Keras'
    config: Any
    classes: int
    losses: dict[str, tuple[Any, float]]  # output → loss and its weight
    chunk: Any = None  # compiled: (state, base, data, order, rates) → state and losses
    evaluate: Any = None  # compiled: (state, images, labels) → accuracy and cross-entropy


def same_network(config: Any) -> str:
    """A key that is equal for variants which differ in learning rate and schedule alone."""
    values = config.as_dict()
    values.pop("optimizer")
    momentum = config.optimizer.momentum
    return json.dumps([values, momentum], sort_keys=True, default=str)


def build(config: Any, classes: int) -> Network:
    """The network as `inception-tf train` compiles it."""
    from inception_tf.host.hardware import Precision
    from inception_tf.models import find_network
    from inception_tf.training.compile import compiled_model
    from inception_tf.training.losses import make_loss
    from inception_tf.training.model_plan import ModelPlan

    found = find_network(config.model.name)
    plan = ModelPlan(config, found, classes, config.model.size, 1, Precision("float32", "asked"))
    model = compiled_model(plan)
    names = ["predictions", *(auxiliary.output for auxiliary in plan.auxiliaries())]
    weights = [1.0, *(auxiliary.loss_weight for auxiliary in plan.auxiliaries())]
    loss = make_loss(config.training, None)
    return Network(
        model, config, classes, {n: (loss, w) for n, w in zip(names, weights, strict=True)}
    )


def first_state(network: Network, deviation: float | None, seed: int) -> dict:
    """The state before the first step: weights, statistics, momenta, and the count of bad steps in a row.

    Args:
        network: Newly built, so that its variables have their initial values.
        deviation: Standard deviation of a Gaussian for every kernel; None: the network's own initial kernels.
        seed: Of that Gaussian.
    """
    import jax.numpy as jnp

    random = np.random.default_rng(seed)
    weights = []
    for variable in network.model.trainable_variables:
        value = np.asarray(variable.value)
        if deviation and value.ndim > 1:
            value = random.normal(0, deviation, value.shape).astype(value.dtype)
        weights.append(jnp.array(value))
    return {
        "weights": weights,
        "others": [jnp.array(v.value) for v in network.model.non_trainable_variables],
        "momenta": [jnp.zeros_like(w) for w in weights],
        "bad": jnp.zeros((), "int32"),
        "ended": jnp.zeros((), bool),
    }


def train_step(network: Network, state: dict, images: Any, targets: Any, rate: Any) -> tuple:
    """One step of momentum SGD, as Keras' SGD takes it; one with a gradient that is not finite is skipped.

    Args:
        network: The network.
        state: From `first_state` or the step before.
        images: (B, S, S, 3) float32 in [-1, 1].
        targets: (B, K) float32 one-hot.
        rate: () float32, the learning rate.

    Returns:
        The next state, and the loss.
    """
    import jax
    import jax.numpy as jnp

    training = network.config.training

    def loss_of(weights):
        outputs, others, added = network.model.stateless_call(
            weights, state["others"], images, training=True, return_losses=True
        )
        parts = (w * loss(targets, outputs[n]) for n, (loss, w) in network.losses.items())
        return sum(parts) + sum(added), others

    (loss, others), gradients = jax.value_and_grad(loss_of, has_aux=True)(state["weights"])
    finite = jnp.isfinite(sum(jnp.sum(g) for g in gradients))
    # A run that diverged stays as it was at its last good step.
    good = finite & ~state["ended"]
    momentum = network.config.optimizer.momentum
    momenta = [momentum * m - rate * g for m, g in zip(state["momenta"], gradients, strict=True)]
    weights = [w + m for w, m in zip(state["weights"], momenta, strict=True)]
    bad = jnp.where(finite, 0, state["bad"] + 1)
    after = {"weights": weights, "others": others, "momenta": momenta}
    kept = jax.tree.map(
        lambda new, old: jnp.where(good, new, old), after, {k: state[k] for k in after}
    )
    ended = state["ended"] | (bad >= training.max_bad_steps)
    return kept | {"bad": bad, "ended": ended}, loss


def train_chunk(
    network: Network, state: dict, key: Any, images: Any, labels: Any, order: Any, rates: Any
):
    """Some hundred steps in one call.

    Args:
        network: The network.
        state: Before the first of them.
        key: A JAX key; each step's is folded in by its number in `state`.
        images: (N, H, H, 3) uint8.
        labels: (N,) int32.
        order: (steps, B) int32, the images of each step.
        rates: (steps,) float32 learning rates.

    Returns:
        The state after them, the losses (steps,), and whether the run had diverged (steps,).
    """
    import jax

    size = network.config.model.size

    def step(state, given):
        number, chosen, rate = given
        draws = jax.random.uniform(jax.random.fold_in(key, number), (len(chosen), 10))
        batch = training_images(images[chosen], draws, size, network.config.data)
        targets = jax.nn.one_hot(labels[chosen], network.classes)
        state, loss = train_step(network, state, batch, targets, rate)
        return state, (loss, state["ended"])

    numbers = jax.numpy.arange(len(rates))
    state, (losses, ended) = jax.lax.scan(step, state, (numbers, order, rates))
    return state, losses, ended


def evaluate(network: Network, state: dict, images: Any, labels: Any) -> tuple:
    """Accuracy in [0, 1] and cross-entropy in nats, by the moving statistics.

    Args:
        network: The network.
        state: Of the training.
        images: (batches, B, H, H, 3) uint8.
        labels: (batches, B) int32.
    """
    import jax
    import jax.numpy as jnp

    config = network.config

    def batch(given):
        pixels = evaluation_images(given[0], config.model.size, config.data.crop)
        outputs, _ = network.model.stateless_call(
            state["weights"], state["others"], pixels, training=False
        )
        log_odds = jax.nn.log_softmax(outputs["predictions"])
        right = log_odds.argmax(-1) == given[1]
        return right.mean(), -jnp.take_along_axis(log_odds, given[1][:, None], 1).mean()

    accuracy, loss = jax.lax.map(batch, (images, labels))
    return accuracy.mean(), loss.mean()
