# SPDX-License-Identifier: Apache-2.0
"""A model of models as one graph of layers, with what was added to kernels merged into them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from inception_tf.errors import UserError
from inception_tf.nn.builder import LRN
from inception_tf.nn.keras_internals import layers_of, require

__all__ = ["flatten", "layer_arrays", "plain_config"]

require("_inbound_nodes", "_nodes_by_depth", "_outbound_nodes", "_run_through_graph")


def flatten(model: keras.Model) -> keras.Model:
    """A functional model without nested models that computes the same, for inference.

    Args:
        model: a functional or a sequential model, in which such models may be nested at any depth.

    Returns:
        `model` itself where it is flat already, else a copy: layers of nested models keep their names,
        with the nested model's in front of one that is taken.  A layer that is called more than once is
        one layer in the copy too.  LoRA's factors are merged into the kernels.

    Raises:
        UserError: the model, or one inside it, is a subclass with a `call` of its own; it is not built;
            it is quantized; or a wrapper such as `TimeDistributed` holds batch normalizations.
    """
    _check(model)
    for layer in layers_of(model):
        if getattr(layer, "quantization_mode", None):
            raise UserError(
                f"layer '{layer.name}' is quantized to {layer.quantization_mode}; optimize the model before quantize()"
            )
    model = _functional(model)
    for layer in model.layers:
        if not isinstance(layer, keras.Model):
            _check_wrapper(layer)
    nodes = {id(node) for nodes in model._nodes_by_depth.values() for node in nodes}
    flat = not any(
        _is_nested(layer)
        or getattr(layer, "lora_enabled", False)
        # Another model calls it too: what follows it there is none of this model's.
        or any(id(node) not in nodes for node in (*layer._inbound_nodes, *layer._outbound_nodes))
        for layer in model.layers
    )
    return model if flat else _inline(model)


def layer_arrays(layer: keras.layers.Layer) -> list[np.ndarray]:
    """The weights of a layer as one made by `plain_config` has them, LoRA's factors merged into the kernel.

    Args:
        layer: built, not quantized.

    Returns:
        Arrays in the order of `layer.get_weights()`.
    """
    if not getattr(layer, "lora_enabled", False):
        return layer.get_weights()
    kept = [v for v in layer.weights if not v.name.startswith("lora_")]
    # `layer.kernel` is the sum, `layer._kernel` what LoRA is added to.
    return [keras.ops.convert_to_numpy(getattr(layer, v.name)) for v in kept]


def plain_config(layer: keras.layers.Layer) -> dict:
    """The configuration of a layer without LoRA.

    Args:
        layer: any.

    Returns:
        What `type(layer).from_config` takes.
    """
    config = layer.get_config()
    return {key: value for key, value in config.items() if not key.startswith("lora_")}


def _check(model: keras.Model) -> None:
    if not isinstance(model, keras.Sequential) and not hasattr(model, "operations"):
        raise UserError(
            f"'{model.name}' is a subclass of keras.Model with a call of its own; give a functional or a sequential"
            " model, such as the base inside it"
        )
    if not model.built:
        raise UserError(f"'{model.name}' is not built; call it on an image first")


def _check_wrapper(layer: keras.layers.Layer) -> None:
    inner = layers_of(layer)
    if any(isinstance(one, keras.layers.BatchNormalization) for one in inner):
        raise UserError(
            f"layer '{layer.name}' ({type(layer).__name__}) holds {len(inner)} layers that cannot be reached;"
            " optimize the model inside it before it is wrapped"
        )


def _functional(model: keras.Model) -> keras.Model:
    if isinstance(model, keras.Sequential):
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    return model


def _is_nested(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, keras.Model) and not layer.name.endswith(LRN)


def _inline(model: keras.Model) -> keras.Model:
    copies: dict[int, keras.layers.Layer] = {}
    originals: list[keras.layers.Layer] = []
    taken: set[str] = set()

    def copier(prefix: str) -> Any:
        def copy(layer: Any) -> Any:
            if _is_nested(layer):
                return layer  # `call` inlines it
            if id(layer) not in copies:
                config = plain_config(layer)
                if "name" in config:
                    while config["name"] in taken:
                        config["name"] = f"{prefix}{config['name']}"
                    taken.add(config["name"])
                copies[id(layer)] = type(layer).from_config(config)
                originals.append(layer)
            return copies[id(layer)]

        return copy

    def call(layer: Any, *arguments: Any, **options: Any) -> Any:
        if not _is_nested(layer):
            return layer(*arguments, **options)
        _check(layer)
        for one in layer.layers:
            if not isinstance(one, keras.Model):
                _check_wrapper(one)
        return _functional(layer)._run_through_graph(
            arguments[0], operation_fn=copier(f"{layer.name}_"), call_fn=call
        )

    result = keras.models.clone_model(
        model, call_function=call, clone_function=copier(f"{model.name}_")
    )
    for layer in originals:
        if isinstance(layer, keras.layers.Layer) and layer.weights:
            copies[id(layer)].set_weights(layer_arrays(layer))
    return result
