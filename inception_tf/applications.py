# SPDX-License-Identifier: Apache-2.0
"""What `keras.applications` adds to a network: its signature and its `weights=`.  One thin façade for all networks."""

from __future__ import annotations

import inspect

from inception_tf.errors import UserError, needs_backend, unknown
from inception_tf.models import describe, find, switches, variant

__all__ = [
    "AlexNet",
    "BNInception",
    "GoogLeNet",
    "Inception",
    "InceptionResNetV1",
    "InceptionResNetV2",
    "InceptionV1",
    "InceptionV2",
    "InceptionV3",
    "InceptionV4",
    "VGG16",
    "create_model",
    "decode_predictions",
    "preprocess_input",
]

ARGUMENTS = """

    include_top: with pooling, dropout and the classifier; else the last grid (N, h, w, C).
    weights: None for fresh ones, the path of a file that `load_weights` takes, or a release's name:
        "imagenet", "slim_2016", "keras", "torchvision", "timm_tf"; they are fetched once.
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
    initializer_gain: factor on the standard deviation of every convolution's initial weights.
    width_multiplier: factor on every convolution's filters, at least 16 are left.
    dtype: a dtype policy or its name for the body; the head is float32 in every policy.

    Input: (N, {size}, {size}, 3) floats from -1 to 1 (`inception_tf.preprocess_input`); any size from
    {minimum} pixels and any number of channels.  Output: (N, classes) float32 probabilities.
    Raises `inception_tf.UserError`, a ValueError, for an argument outside its range.
    Source: {source}.
    """


def _builder(name: str, title: str):
    network, own = find(name), switches(name)

    def build(
        include_top=True,
        weights=None,
        input_tensor=None,
        input_shape=None,
        pooling=None,
        classes=1000,
        classifier_activation="softmax",
        name=name,
        *,
        aux_logits=False,
        dropout=None,
        batch_norm_momentum=0.99,
        batch_norm_epsilon=1e-3,
        weight_decay=0.0,
        activation="relu",
        initializer_gain=1.0,
        width_multiplier=1.0,
        dtype=None,
        **chosen,
    ):
        arguments = {key: value for key, value in locals().items() if key in common}
        for switch in chosen:
            if switch not in own:
                raise unknown(f"argument of {network.name}", switch, [*common, *own])
        # Keras is imported on the first call, so that names and tables are at hand without it.
        with needs_backend():
            from inception_tf.models.build import build as build_model
            from inception_tf.weights import load_weights
            from inception_tf.weights.fetch import fetch
            from inception_tf.weights.releases import find_release, names_for

        weights = arguments.pop("weights")
        needed = {}
        if weights in names_for(network.name):
            release = find_release(network.name, weights)
            weights, needed = fetch(release), release.switches
        model = build_model(variant(network.name, **{**needed, **chosen}), **arguments)
        if weights is not None:
            load_weights(model, weights)
        return model

    # The signature that a user sees ends with the network's own switches.
    signature = inspect.signature(build)
    common = {key: p for key, p in signature.parameters.items() if key != "chosen"}
    added = [
        inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=value)
        for key, value in own.items()
    ]
    build.__signature__ = signature.replace(parameters=[*common.values(), *added])
    build.__name__ = build.__qualname__ = title
    build.__doc__ = (
        f"{title} as a functional `keras.Model`.\n\n    {describe(name)}"
        + ARGUMENTS.format(
            dropout=network.dropout,
            size=network.size,
            minimum=network.minimum,
            source=network.source,
        )
    )
    return build


BUILDERS = {
    name: _builder(name, title)
    for name, title in {
        "googlenet": "GoogLeNet",
        "inception_v1": "InceptionV1",
        "inception": "Inception",
        "bn_inception": "BNInception",
        "inception_v2": "InceptionV2",
        "inception_v3": "InceptionV3",
        "inception_v4": "InceptionV4",
        "inception_resnet_v1": "InceptionResNetV1",
        "inception_resnet_v2": "InceptionResNetV2",
        "alexnet": "AlexNet",
        "vgg16": "VGG16",
    }.items()
}

GoogLeNet = BUILDERS["googlenet"]
InceptionV1 = BUILDERS["inception_v1"]
Inception = BUILDERS["inception"]
BNInception = BUILDERS["bn_inception"]
InceptionV2 = BUILDERS["inception_v2"]
InceptionV3 = BUILDERS["inception_v3"]
InceptionV4 = BUILDERS["inception_v4"]
InceptionResNetV1 = BUILDERS["inception_resnet_v1"]
InceptionResNetV2 = BUILDERS["inception_resnet_v2"]
AlexNet = BUILDERS["alexnet"]
VGG16 = BUILDERS["vgg16"]


def create_model(name: str, **arguments):
    """The network `name` as a functional `keras.Model`; arguments are those of its builder.

    `create_model("inception_v3", classes=10, aux_logits=True)` equals
    `InceptionV3(classes=10, aux_logits=True)`.  Raises `UserError` for an unknown name or argument.
    """
    find(name)
    return BUILDERS[name](**arguments)


def preprocess_input(x, model: str, release: str | None = None):
    """Pixels as the network `model` takes them: -1 to 1, or as the weights `release` were trained.

    x: numbers from 0 to 255, (..., 3), or any shape for -1 to 1.  A NumPy array (or a list) gives a
    new float32 array, a tensor a float32 tensor.  Raises `UserError` for an unknown network or release.
    """
    find(model)
    import numpy as np

    with needs_backend():
        import keras

    from inception_tf.data.preprocessing import SCALES
    from inception_tf.weights.releases import find_release

    scale = SCALES[find_release(model, release).preprocessing.scale if release else "unit"]
    mean, deviation = np.float32(scale.mean), np.float32(scale.deviation)
    if keras.ops.is_tensor(x) or keras.utils.is_keras_tensor(x):
        x = keras.ops.cast(x, "float32")
    else:
        x = np.asarray(x, np.float32)
    return ((x[..., ::-1] if scale.bgr else x) - mean) / deviation


def decode_predictions(probabilities, top: int = 5) -> list[list[tuple[str, str, float]]]:
    """ImageNet's names for class probabilities: for each row its `top` best as (synset, name, probability).

    probabilities: (N, 1000) floats, or (N, 1001) with a background class first, which is left out.
    The list of names is fetched once by Keras.  Raises `UserError` for another number of classes.
    """
    import numpy as np
    from keras.applications import imagenet_utils

    probabilities = np.asarray(probabilities)
    if probabilities.ndim != 2 or probabilities.shape[1] not in (1000, 1001):
        raise UserError(
            f"decode_predictions takes (N, 1000) or (N, 1001) probabilities, got {probabilities.shape}"
        )
    return imagenet_utils.decode_predictions(probabilities[:, -1000:], top=top)
