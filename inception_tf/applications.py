# SPDX-License-Identifier: Apache-2.0
"""What `keras.applications` adds to a network: its signature and its `weights=`.  One thin façade for all networks."""

from __future__ import annotations

import inspect

from inception_tf.errors import unknown
from inception_tf.models import find
from inception_tf.spec import Network

__all__ = ["InceptionV1", "InceptionV3", "create_model", "preprocess_input"]

ARGUMENTS = """

    include_top: with pooling, dropout and the classifier; else the last grid (N, h, w, C).
    weights: None for fresh ones, or the path of a `.weights.h5` or `.keras` file or of a slim checkpoint.
    input_tensor: a Keras tensor to build on, in place of a new `keras.Input`.
    input_shape: (height, width, channels); height and width may be None.  Default: the published
        size with 3 channels, or (None, None, 3) without the top.
    pooling: without the top, None, "avg" or "max" over the last grid → (N, C) float32.
    classes: number of classes.
    classifier_activation: of the classifier; None gives logits.
    name: the model's name.
    aux_logits: add the network's auxiliary classifiers; the model then returns a dict.
    dropout: share of features dropped before the logits; None: the published {dropout}.
    batch_norm_momentum: share of the old moving statistics kept at each step (slim: 0.9997).
    batch_norm_epsilon: added to the variance.
    weight_decay: slim's L2: the loss gains weight_decay * sum(kernel**2) / 2 for every kernel.
    activation: after every convolution, a Keras name.
    width_multiplier: factor on every convolution's filters, at least 16 are left.
    dtype: a dtype policy or its name for the body; the head is float32 in every policy.

    Input: (N, {size}, {size}, 3) floats from -1 to 1 (`inception_tf.preprocess_input`); any size from
    {minimum} pixels and any number of channels.  Output: (N, classes) float32 probabilities.
    Raises `inception_tf.UserError`, a ValueError, for an argument outside its range.
    Source: {source}.
    """


def _builder(network: Network, title: str):
    def build(
        include_top=True,
        weights=None,
        input_tensor=None,
        input_shape=None,
        pooling=None,
        classes=1000,
        classifier_activation="softmax",
        name=network.name,
        *,
        aux_logits=False,
        dropout=None,
        batch_norm_momentum=0.99,
        batch_norm_epsilon=1e-3,
        weight_decay=0.0,
        activation="relu",
        width_multiplier=1.0,
        dtype=None,
    ):
        arguments = locals()
        arguments.pop("network")
        # Keras is imported on the first call, so that names and tables are at hand without it.
        from inception_tf.models.build import build as build_model
        from inception_tf.weights import load_weights

        weights = arguments.pop("weights")
        model = build_model(network, **arguments)
        if weights is not None:
            load_weights(model, weights)
        return model

    build.__name__ = build.__qualname__ = title
    build.__doc__ = f"{title} as a functional `keras.Model`." + ARGUMENTS.format(
        dropout=network.dropout, size=network.size, minimum=network.minimum, source=network.source
    )
    return build


InceptionV1 = _builder(find("inception_v1"), "InceptionV1")
InceptionV3 = _builder(find("inception_v3"), "InceptionV3")

BUILDERS = {"inception_v1": InceptionV1, "inception_v3": InceptionV3}


def create_model(name: str, **arguments):
    """The network `name` as a functional `keras.Model`; arguments are those of its builder.

    `create_model("inception_v3", classes=10, aux_logits=True)` equals
    `InceptionV3(classes=10, aux_logits=True)`.  Raises `UserError` for an unknown name or argument.
    """
    find(name)
    builder = BUILDERS[name]
    known = inspect.signature(builder).parameters
    for argument in arguments:
        if argument not in known:
            raise unknown(f"argument of {name}", argument, known)
    return builder(**arguments)


def preprocess_input(x, model: str):
    """Pixels as the network `model` takes them; all of slim's networks take -1 to 1.

    x: numbers from 0 to 255, any shape.  A NumPy array (or a list) gives a new float32 array, a
    tensor a float32 tensor.  Raises `UserError` for an unknown network.
    """
    find(model)
    import keras
    import numpy as np

    if keras.ops.is_tensor(x) or keras.utils.is_keras_tensor(x):
        return keras.ops.cast(x, "float32") / 127.5 - 1
    return np.asarray(x, np.float32) / np.float32(127.5) - np.float32(1)
