# SPDX-License-Identifier: Apache-2.0
"""The network compiled for `model.fit`: losses from logits, metrics, and the recipe's optimizer with its wrappers."""

from __future__ import annotations

from functools import partial

import keras

from inception_tf.applications import create_model
from inception_tf.errors import UserError
from inception_tf.nn.network import LOGITS, endpoints
from inception_tf.training.losses import make_loss
from inception_tf.training.model_plan import ModelPlan
from inception_tf.training.optim.ema import MovingAverage, moving_statistics, warm_up_statistics
from inception_tf.training.optim.optimizers import LossScaleOptimizer, make_optimizer
from inception_tf.training.phases import (
    Phase,
    freeze_layers,
    layer_rates,
    phase_optimizer,
    phases_of,
)
from inception_tf.training.pretrained import load_pretrained

__all__ = ["compile_for", "compiled_model"]


def compiled_model(plan: ModelPlan, *, pretrained: bool = True) -> keras.Model:
    """Builds and compiles the network that `model.fit` trains; its outputs are logits.

    With auxiliary classifiers the outputs are a dict, and each auxiliary loss has its published weight.  For
    a recipe with two phases the model is compiled for the first; `compile_for` switches to the second.

    On jax and torch the optimizer is Keras' own, wrapped in its loss scaling for mixed_float16.

    Args:
        plan: the resolved configuration.
        pretrained: load the weights that the recipe starts from; False where a checkpoint follows.

    Returns:
        The compiled model: (N, size, size, 3) float32 in [-1, 1] → a dict of (N, classes) float32 logits.

    Raises:
        UserError: the recipe needs features of the TensorFlow backend, moving averages or
            `warm_up_statistics`, on another backend.
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
    """Compiles a model for one phase of its training, with a new optimizer.

    Args:
        model: from `compiled_model`.
        plan: the resolved configuration.
        phase: which layers are trained, and for how many epochs.
    """
    training = plan.config.training
    freeze_layers(model, plan.config, plan.network, phase)
    weights = {"predictions": 1.0}
    for auxiliary in plan.auxiliaries():
        weight = training.aux_weight
        weights[auxiliary.output] = auxiliary.loss_weight if weight is None else weight
    model.compile(
        optimizer=_optimizer(plan, phase, model),
        loss={name: make_loss(training, plan.class_weights) for name in weights},
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
    for key, wanted in (
        ("optimizer.ema", plan.config.optimizer.ema is not None),
        ("training.warm_up_statistics", plan.config.training.warm_up_statistics),
    ):
        if wanted:
            raise UserError(
                f"{key} needs Keras on TensorFlow, and KERAS_BACKEND is {keras.backend.backend()};"
                " use a recipe without it, or unset KERAS_BACKEND"
            )


def _model_class() -> type[keras.Model]:
    if keras.backend.backend() != "tensorflow":
        return keras.Model
    from inception_tf.training.distribute import DistributedModel

    return DistributedModel


def _optimizer(plan: ModelPlan, phase: Phase, model: keras.Model) -> keras.Optimizer:
    """The recipe's optimizer, wrapped in its moving averages, and in turn in what skips non-finite steps."""
    config = phase_optimizer(plan.config, phase)
    optimizer = make_optimizer(
        config,
        steps_per_epoch=plan.steps,
        epochs=phase.epochs,
        rate_factors=layer_rates(plan.network, config.layer_decay),
    )
    scaled = plan.precision.policy == "mixed_float16"
    if keras.backend.backend() != "tensorflow":
        return LossScaleOptimizer(optimizer) if scaled else optimizer
    from inception_tf.training.optim.skip_nonfinite import FiniteSteps

    statistics = partial(moving_statistics, model)
    if config.ema is not None:
        optimizer = MovingAverage(optimizer, config.ema, statistics)
    return FiniteSteps(optimizer, scaled=scaled, statistics=statistics)
