# SPDX-License-Identifier: Apache-2.0
"""The network compiled for `model.fit`: losses from logits, metrics, and the recipe's optimizer with its wrappers."""

from __future__ import annotations

from functools import partial

import keras

from inception_tf.applications import create_model
from inception_tf.config import Config
from inception_tf.errors import UserError
from inception_tf.nn.network import LOGITS, endpoints
from inception_tf.nn.placement import initialized_on_host
from inception_tf.training.average_precision import MeanAveragePrecision
from inception_tf.training.losses import make_loss
from inception_tf.training.model_plan import ModelPlan
from inception_tf.training.monitored import MAP
from inception_tf.training.optim.ema import MovingAverage, moving_statistics, warm_up_statistics
from inception_tf.training.optim.optimizers import make_optimizer
from inception_tf.training.optim.skip_nonfinite import FiniteSteps
from inception_tf.training.phases import (
    Phase,
    freeze_layers,
    layer_rates,
    phase_optimizer,
    phases_of,
)
from inception_tf.training.pretrained import load_pretrained
from inception_tf.training.trained_model import TrainedModel

__all__ = [
    "BACKENDS",
    "check_backend",
    "compile_for",
    "compiled_model",
    "metrics_of",
    "model_class",
]

BACKENDS = ("tensorflow", "jax", "torch")  # of Keras, that compute gradients


def compiled_model(plan: ModelPlan, *, pretrained: bool = True) -> keras.Model:
    """Builds and compiles the network that `model.fit` trains; its outputs are logits.

    With auxiliary classifiers the outputs are a dict, and each auxiliary loss has its published weight.  For
    a recipe with two phases the model is compiled for the first; `compile_for` switches to the second.

    The same on TensorFlow, JAX and torch; on the latter two neither the model nor its `fit`, on arrays or a
    `keras.utils.PyDataset`, needs TensorFlow.

    Args:
        plan: the resolved configuration.
        pretrained: load the weights that the recipe starts from; False where a checkpoint follows.

    Returns:
        The compiled model: (N, size, size, 3) float32 in [-1, 1] → a dict of (N, classes) float32 logits.

    Raises:
        UserError: the recipe needs what another backend of Keras has.

    Example:

        network = variant("inception_v1")
        config = read_recipe("digits").override(["model.name=inception_v1"])
        plan = ModelPlan(config, network, 10, 48, steps=45, precision=Precision("mixed_float16", "wanted"))
        model = compiled_model(plan)
        model.fit(images, dict.fromkeys(model.output, keras.ops.one_hot(classes, 10)), batch_size=32)
    """
    check_backend(plan.config)
    config = plan.config.model
    network = create_model(
        config.name,
        aux_logits=bool(config.aux_logits or plan.auxiliaries()),
        dtype=plan.precision.policy,
        **plan.model_arguments(),
    )
    if config.weights and pretrained:
        load_pretrained(
            network, config.name, config.weights, config.structure(), new_head=config.new_head
        )
    ends = endpoints(network)
    # Losses from logits, not from probabilities: exact where a softmax would round to zero.
    outputs = {"predictions": ends[LOGITS]}
    outputs |= {auxiliary.output: ends[auxiliary.name] for auxiliary in plan.auxiliaries()}
    model = model_class()(network.input, outputs, name=network.name)
    compile_for(model, plan, phases_of(plan.config)[0])
    return model


def compile_for(model: keras.Model, plan: ModelPlan, phase: Phase) -> None:
    """Compiles a model for one phase of its training, with a new optimizer.

    Args:
        model: from `compiled_model`, or of `model_class`.
        plan: the resolved configuration.
        phase: which layers are trained, and for how many epochs.
    """
    training = plan.config.training
    freeze_layers(model, plan.config, plan.network, phase)
    multi_label = plan.config.data.multi_label
    weights = {"predictions": 1.0}
    for auxiliary in plan.auxiliaries():
        weight = training.aux_weight
        weights[auxiliary.output] = auxiliary.loss_weight if weight is None else weight
    model.compile(
        optimizer=_optimizer(plan, phase, model),
        loss={
            name: make_loss(training, plan.class_weights, multi_label=multi_label)
            for name in weights
        },
        loss_weights=weights,
        metrics={"predictions": metrics_of(plan)},
        steps_per_execution=training.steps_per_execution,
        # JAX has no other way to be fast; TensorFlow's graph is faster without.
        jit_compile=keras.backend.backend() == "jax",
    )
    _build_optimizer(model)
    if keras.backend.backend() == "tensorflow":
        from inception_tf.training.convolutions import speed_up_convolutions

        speed_up_convolutions(model)
    if training.warm_up_statistics:
        warm_up_statistics(model)


@initialized_on_host
def _build_optimizer(model: keras.Model) -> keras.Optimizer:
    model.optimizer.build(model.trainable_variables)
    return model.optimizer


def check_backend(config: Config) -> None:
    """Checks that Keras' backend has what a recipe needs.

    Args:
        config: of the run.

    Raises:
        UserError: it does not, or no network can be trained on it.
    """
    backend, training = keras.backend.backend(), config.training
    if backend not in BACKENDS:
        raise UserError(
            f"KERAS_BACKEND is {backend}, which computes no gradients; networks are trained on {', '.join(BACKENDS)}"
        )
    if config.data.service is not None and backend != "tensorflow":
        raise UserError(
            f"data.service needs Keras on TensorFlow, and KERAS_BACKEND is {backend}; use --set data.service=null"
        )
    if backend == "torch" and training.steps_per_execution > 1:
        raise UserError(
            f"training.steps_per_execution {training.steps_per_execution} needs Keras on TensorFlow or JAX, and"
            " KERAS_BACKEND is torch; use --set training.steps_per_execution=1"
        )


def metrics_of(plan: ModelPlan, *, from_logits: bool = True) -> list[keras.metrics.Metric]:
    """The metrics of a run, whose first decides which epoch is the best.

    Args:
        plan: the resolved configuration.
        from_logits: scores are logits; else probabilities.

    Returns:
        Top-1 and top-5 accuracy; of multi-label data, mean average precision.
    """
    if plan.config.data.multi_label:
        return [MeanAveragePrecision(plan.classes, from_logits=from_logits, name=MAP)]
    return [
        keras.metrics.CategoricalAccuracy(name="top1"),
        # torch takes no k above the number of classes, for which the result is the same.
        keras.metrics.TopKCategoricalAccuracy(k=min(5, plan.classes), name="top5"),
    ]


def model_class() -> type[TrainedModel]:
    """The model that is trained on the backend that Keras has.

    Returns:
        A class with Keras' functional constructor, `(inputs, outputs)`; its outputs are a dict of logits.
    """
    # Each imports its backend.
    backend = keras.backend.backend()
    if backend == "tensorflow":
        from inception_tf.training.distributed_model import DistributedModel

        return DistributedModel
    if backend == "jax":
        from inception_tf.training.jax_model import JaxModel

        return JaxModel
    return TrainedModel


def _optimizer(plan: ModelPlan, phase: Phase, model: keras.Model) -> keras.Optimizer:
    """The recipe's optimizer, wrapped in its moving averages, and in turn in what skips non-finite steps."""
    config = phase_optimizer(plan.config, phase)
    optimizer = make_optimizer(
        config,
        steps_per_epoch=plan.steps,
        epochs=phase.epochs,
        rate_factors=layer_rates(plan.network, config.layer_decay),
    )
    statistics = partial(moving_statistics, model)
    if config.ema is not None:
        optimizer = MovingAverage(optimizer, config.ema, statistics)
    return FiniteSteps(
        optimizer,
        scaled=plan.precision.policy == "mixed_float16",
        statistics=statistics,
        max_bad_steps=plan.config.training.max_bad_steps,
    )
