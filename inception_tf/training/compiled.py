# SPDX-License-Identifier: Apache-2.0
"""The network as `model.fit` trains it: losses from logits, metrics, and the recipe's optimizer in its wrappings."""

from __future__ import annotations

from functools import partial

import keras

from inception_tf.applications import create_model
from inception_tf.models.build import LOGITS, endpoints
from inception_tf.training.averages import MovingAverage, moving_statistics, warm_up_statistics
from inception_tf.training.convolutions import speed_up_convolutions
from inception_tf.training.distribute import DistributedModel
from inception_tf.training.finite import FiniteSteps
from inception_tf.training.optimizers import make_optimizer
from inception_tf.training.plan import Plan
from inception_tf.training.pretrained import begin_with
from inception_tf.training.stages import Stage, optimizer_of, set_trained, stages_of

__all__ = ["compile_for", "compiled_model"]


def compiled_model(plan: Plan, *, fresh: bool = True) -> keras.Model:
    """The network with losses, metrics and optimizer, its outputs logits: what `model.fit` trains.

    With auxiliary classifiers the outputs are a dict, and each auxiliary loss counts by its published
    weight.  Of a recipe with two stages it is the first one's; `compile_for` goes on to the second.
    fresh: begin with the weights that the recipe names; a run that goes on has its own.
    """
    config = plan.config.model
    network = create_model(
        config.name,
        aux_logits=bool(config.aux_logits or plan.auxiliaries()),
        dtype=plan.precision.policy,
        **plan.model_arguments(),
    )
    if config.weights and fresh:
        begin_with(network, config.name, config.weights, config.switches, new_head=config.new_head)
    ends = endpoints(network)
    # Losses from logits, not from probabilities: exact where a softmax would round to zero.
    outputs = {"predictions": ends[LOGITS]}
    outputs |= {auxiliary.output: ends[auxiliary.name] for auxiliary in plan.auxiliaries()}
    model = DistributedModel(network.input, outputs, name=network.name)
    compile_for(model, plan, stages_of(plan.config)[0])
    return model


def compile_for(model: keras.Model, plan: Plan, stage: Stage) -> None:
    """Compiles `model` for a stage of its training, with a fresh optimizer."""
    training = plan.config.training
    set_trained(model, plan.config, stage)
    weights = {"predictions": 1.0}
    for auxiliary in plan.auxiliaries():
        chosen = training.aux_weight
        weights[auxiliary.output] = auxiliary.loss_weight if chosen is None else chosen
    model.compile(
        optimizer=_optimizer(plan, stage, model),
        loss={
            name: keras.losses.CategoricalCrossentropy(
                from_logits=True, label_smoothing=training.label_smoothing
            )
            for name in weights
        },
        loss_weights=weights,
        metrics={
            "predictions": [
                keras.metrics.CategoricalAccuracy(name="top1"),
                keras.metrics.TopKCategoricalAccuracy(k=5, name="top5"),
            ]
        },
        steps_per_execution=training.steps_per_execution,
        jit_compile=False,
    )
    model.optimizer.build(model.trainable_variables)
    speed_up_convolutions(model)
    if training.warm_up_statistics:
        warm_up_statistics(model)


def _optimizer(plan: Plan, stage: Stage, model: keras.Model) -> keras.Optimizer:
    """The recipe's optimizer, its moving averages around it, around both what leaves bad steps out."""
    config = optimizer_of(plan.config, stage)
    optimizer = make_optimizer(config, steps_per_epoch=plan.steps, epochs=stage.epochs)
    statistics = partial(moving_statistics, model)
    if config.ema is not None:
        optimizer = MovingAverage(optimizer, config.ema, statistics)
    scaled = plan.precision.policy == "mixed_float16"
    return FiniteSteps(optimizer, scaled=scaled, statistics=statistics)
