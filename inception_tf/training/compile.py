# SPDX-License-Identifier: Apache-2.0
"""The network as `model.fit` trains it: losses from logits, metrics, and the recipe's optimizer in its wrappings."""

from __future__ import annotations

from functools import partial

import keras

from inception_tf.applications import create_model
from inception_tf.errors import UserError
from inception_tf.nn.network import LOGITS, endpoints
from inception_tf.training.model_plan import ModelPlan
from inception_tf.training.optim.ema import MovingAverage, moving_statistics, warm_up_statistics
from inception_tf.training.optim.optimizers import LossScaleOptimizer, make_optimizer
from inception_tf.training.phases import Phase, freeze_layers, phase_optimizer, phases_of
from inception_tf.training.pretrained import load_pretrained

__all__ = ["compile_for", "compiled_model"]


def compiled_model(plan: ModelPlan, *, pretrained: bool = True) -> keras.Model:
    """The network with losses, metrics and optimizer, its outputs logits: what `model.fit` trains.

    With auxiliary classifiers the outputs are a dict, and each auxiliary loss counts by its published
    weight.  Of a recipe with two phases it is the first one's; `compile_for` goes on to the second.
    fresh: begin with the weights that the recipe names; a run that goes on has its own.

    On jax and torch the optimizer is Keras' own, in its loss scaling for mixed_float16: `UserError` for a
    recipe that asks for what TensorFlow alone has, moving averages and the warm-up of statistics.
    """
    _check_backend(plan)
    config = plan.config.model
    network = create_model(
        config.name,
        aux_logits=bool(config.aux_logits or plan.auxiliaries()),
        dtype=plan.precision.policy,
        **plan.model_arguments(),
    )
    if config.weights and pretrained:
        load_pretrained(
            network, config.name, config.weights, config.switches, new_head=config.new_head
        )
    ends = endpoints(network)
    # Losses from logits, not from probabilities: exact where a softmax would round to zero.
    outputs = {"predictions": ends[LOGITS]}
    outputs |= {auxiliary.output: ends[auxiliary.name] for auxiliary in plan.auxiliaries()}
    model = _model_class()(network.input, outputs, name=network.name)
    compile_for(model, plan, phases_of(plan.config)[0])
    return model


def compile_for(model: keras.Model, plan: ModelPlan, phase: Phase) -> None:
    """Compiles `model` for a phase of its training, with a fresh optimizer."""
    training = plan.config.training
    freeze_layers(model, plan.config, plan.network, phase)
    weights = {"predictions": 1.0}
    for auxiliary in plan.auxiliaries():
        chosen = training.aux_weight
        weights[auxiliary.output] = auxiliary.loss_weight if chosen is None else chosen
    model.compile(
        optimizer=_optimizer(plan, phase, model),
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
    if keras.backend.backend() == "tensorflow":
        from inception_tf.training.convolutions import speed_up_convolutions

        speed_up_convolutions(model)
    if training.warm_up_statistics:
        warm_up_statistics(model)


def _check_backend(plan: ModelPlan) -> None:
    if keras.backend.backend() == "tensorflow":
        return
    for key, asked in (
        ("optimizer.ema", plan.config.optimizer.ema is not None),
        ("training.warm_up_statistics", plan.config.training.warm_up_statistics),
    ):
        if asked:
            raise UserError(
                f"{key} needs Keras on TensorFlow, and KERAS_BACKEND is {keras.backend.backend()};"
                f" take a recipe without it, or unset KERAS_BACKEND"
            )


def _model_class() -> type[keras.Model]:
    if keras.backend.backend() != "tensorflow":
        return keras.Model
    from inception_tf.training.distribute import DistributedModel

    return DistributedModel


def _optimizer(plan: ModelPlan, phase: Phase, model: keras.Model) -> keras.Optimizer:
    """The recipe's optimizer, its moving averages around it, around both what leaves bad steps out."""
    config = phase_optimizer(plan.config, phase)
    optimizer = make_optimizer(config, steps_per_epoch=plan.steps, epochs=phase.epochs)
    scaled = plan.precision.policy == "mixed_float16"
    if keras.backend.backend() != "tensorflow":
        return LossScaleOptimizer(optimizer) if scaled else optimizer
    from inception_tf.training.optim.skip_nonfinite import FiniteSteps

    statistics = partial(moving_statistics, model)
    if config.ema is not None:
        optimizer = MovingAverage(optimizer, config.ema, statistics)
    return FiniteSteps(optimizer, scaled=scaled, statistics=statistics)
