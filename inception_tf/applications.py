# SPDX-License-Identifier: Apache-2.0
"""What a module of `keras.applications` has, for all networks: builders, `preprocess_input`, `decode_predictions`.

Long and repetitive because every builder writes out all of its arguments, as an editor shows them.
"""

from __future__ import annotations

import inspect
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from inception_tf.errors import UserError, needs_backend, unknown
from inception_tf.models import find_network, variant

if TYPE_CHECKING:
    import keras
    import numpy as np

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

# What Keras' own decode_predictions downloads.
CLASS_NAMES = (
    "https://storage.googleapis.com/download.tensorflow.org/data/imagenet_class_index.json"
)


def _build(
    network: str,
    switches: dict[str, Any],
    *,
    weights: str | os.PathLike[str] | None,
    **arguments: Any,
) -> keras.Model:
    """The network with its variant switches, where they are not None, and its weights."""
    # Keras is imported on the first call, so that names and tables are available without it.
    with needs_backend():
        from inception_tf.nn.network import build_model
        from inception_tf.weights.convert import file_switches
        from inception_tf.weights.download import fetch_release
        from inception_tf.weights.heads import NEW_HEAD
        from inception_tf.weights.load import load_weights
        from inception_tf.weights.metadata import LAYER_ARGUMENTS
        from inception_tf.weights.registry import check_release_name, find_release, release_names

    chosen = {switch: value for switch, value in switches.items() if value is not None}
    check_release_name(network, weights)
    if isinstance(weights, str) and weights in release_names(network):
        release = find_release(network, weights)
        weights = fetch_release(release)
        chosen = {**release.switches, **chosen}
    elif weights is not None:
        layers = {key: arguments[key] for key in LAYER_ARGUMENTS}
        chosen = {**file_switches(network, os.fspath(weights), chosen, layers), **chosen}
    model = build_model(variant(network, **chosen), **arguments)
    if weights is not None:
        report = load_weights(model, weights, adapt_head=True)
        for note in report.notes:
            if note.startswith(NEW_HEAD):
                warnings.warn(f"{os.fspath(weights)}: {note}", stacklevel=3)
    return model


def GoogLeNet(
    include_top: bool = True,
    weights: str | os.PathLike[str] | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: Literal["avg", "max"] | None = None,
    classes: int = 1000,
    classifier_activation: str | Callable | None = "softmax",
    name: str = "googlenet",
    *,
    aux_logits: bool = False,
    dropout: float | None = None,
    batch_norm_momentum: float = 0.99,
    batch_norm_epsilon: float = 1e-3,
    weight_decay: float = 0.0,
    activation: str | Callable = "relu",
    initializer_gain: float = 1.0,
    width_multiplier: float = 1.0,
    dtype: str | keras.DTypePolicy | None = None,
    batch_norm_scale: bool | None = None,
    batch_norm: bool | None = None,
    lrn: bool | None = None,
) -> keras.Model:
    """GoogLeNet as Table 1 of its paper prints it: 5x5, biases, two auxiliary classifiers.

    Padding is Caffe's, as BVLC trained it.  Szegedy et al. 2014, arXiv 1409.4842.

    Args:
        include_top, weights, input_tensor, input_shape, pooling: As in `create_model`.
        classes, classifier_activation, name, aux_logits, dropout: As in `create_model`.
        batch_norm_momentum, batch_norm_epsilon, weight_decay: As in `create_model`.
        activation, initializer_gain, width_multiplier, dtype, batch_norm_scale: As in `create_model`.
        batch_norm: bool. Normalize after every convolution, in place of its bias. Default: False.
        lrn: bool. Local response normalization, twice in the stem. Default: True.

    Returns:
        A functional `keras.Model`, as `create_model` describes it.

    Raises:
        UserError: As in `create_model`.

    Example:
        >>> model = inception_tf.GoogLeNet(aux_logits=True)
    """
    return _build(
        "googlenet",
        {"batch_norm": batch_norm, "lrn": lrn, "batch_norm_scale": batch_norm_scale},
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        aux_logits=aux_logits,
        dropout=dropout,
        batch_norm_momentum=batch_norm_momentum,
        batch_norm_epsilon=batch_norm_epsilon,
        weight_decay=weight_decay,
        activation=activation,
        initializer_gain=initializer_gain,
        width_multiplier=width_multiplier,
        dtype=dtype,
    )


def InceptionV1(
    include_top: bool = True,
    weights: str | os.PathLike[str] | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: Literal["avg", "max"] | None = None,
    classes: int = 1000,
    classifier_activation: str | Callable | None = "softmax",
    name: str = "inception_v1",
    *,
    aux_logits: bool = False,
    dropout: float | None = None,
    batch_norm_momentum: float = 0.99,
    batch_norm_epsilon: float = 1e-3,
    weight_decay: float = 0.0,
    activation: str | Callable = "relu",
    initializer_gain: float = 1.0,
    width_multiplier: float = 1.0,
    dtype: str | keras.DTypePolicy | None = None,
    batch_norm_scale: bool | None = None,
    torch_padding: bool | None = None,
) -> keras.Model:
    """GoogLeNet as slim released it: batch normalization, 3x3 where the paper has 5x5.

    tf_slim/nets/inception_v1.py.

    Args:
        include_top, weights, input_tensor, input_shape, pooling: As in `create_model`.
        classes, classifier_activation, name, aux_logits, dropout: As in `create_model`.
        batch_norm_momentum, batch_norm_epsilon, weight_decay: As in `create_model`.
        activation, initializer_gain, width_multiplier, dtype, batch_norm_scale: As in `create_model`.
        torch_padding: bool. Padding, and two auxiliary classifiers, as in torchvision's GoogLeNet, whose weights need
            both. Default: False, or as `weights` require.

    Returns:
        A functional `keras.Model`, as `create_model` describes it.

    Raises:
        UserError: As in `create_model`.

    Example:
        >>> model = inception_tf.InceptionV1(width_multiplier=0.5)
    """
    return _build(
        "inception_v1",
        {"torch_padding": torch_padding, "batch_norm_scale": batch_norm_scale},
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        aux_logits=aux_logits,
        dropout=dropout,
        batch_norm_momentum=batch_norm_momentum,
        batch_norm_epsilon=batch_norm_epsilon,
        weight_decay=weight_decay,
        activation=activation,
        initializer_gain=initializer_gain,
        width_multiplier=width_multiplier,
        dtype=dtype,
    )


def Inception(
    include_top: bool = True,
    weights: str | os.PathLike[str] | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: Literal["avg", "max"] | None = None,
    classes: int = 1000,
    classifier_activation: str | Callable | None = "softmax",
    name: str = "inception",
    *,
    aux_logits: bool = False,
    dropout: float | None = None,
    batch_norm_momentum: float = 0.99,
    batch_norm_epsilon: float = 1e-3,
    weight_decay: float = 0.0,
    activation: str | Callable = "relu",
    initializer_gain: float = 1.0,
    width_multiplier: float = 1.0,
    dtype: str | keras.DTypePolicy | None = None,
    batch_norm_scale: bool | None = None,
    lrn: bool | None = None,
    initial_deviation: float | None = None,
) -> keras.Model:
    """The baseline of the batch normalization paper: 5x5 replaced by two 3x3, biases.

    Ioffe and Szegedy 2015, arXiv 1502.03167, section 4.2.

    Args:
        include_top, weights, input_tensor, input_shape, pooling: As in `create_model`.
        classes, classifier_activation, name, aux_logits, dropout: As in `create_model`.
        batch_norm_momentum, batch_norm_epsilon, weight_decay: As in `create_model`.
        activation, initializer_gain, width_multiplier, dtype, batch_norm_scale: As in `create_model`.
        lrn: bool. Local response normalization, twice in the stem, which section 4.2.1 of the paper mentions
            and its Figure 5 omits. Default: False.
        initial_deviation: float above 0. Standard deviation of the normal distribution that all kernels are drawn
            from. Default: None, which is He et al. 2015, by the number of a kernel's inputs.

    Returns:
        A functional `keras.Model`, as `create_model` describes it.

    Raises:
        UserError: As in `create_model`.

    Example:
        >>> model = inception_tf.Inception(classes=10)
    """
    return _build(
        "inception",
        {
            "lrn": lrn,
            "initial_deviation": initial_deviation,
            "batch_norm_scale": batch_norm_scale,
        },
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        aux_logits=aux_logits,
        dropout=dropout,
        batch_norm_momentum=batch_norm_momentum,
        batch_norm_epsilon=batch_norm_epsilon,
        weight_decay=weight_decay,
        activation=activation,
        initializer_gain=initializer_gain,
        width_multiplier=width_multiplier,
        dtype=dtype,
    )


def BNInception(
    include_top: bool = True,
    weights: str | os.PathLike[str] | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: Literal["avg", "max"] | None = None,
    classes: int = 1000,
    classifier_activation: str | Callable | None = "softmax",
    name: str = "bn_inception",
    *,
    aux_logits: bool = False,
    dropout: float | None = None,
    batch_norm_momentum: float = 0.99,
    batch_norm_epsilon: float = 1e-3,
    weight_decay: float = 0.0,
    activation: str | Callable = "relu",
    initializer_gain: float = 1.0,
    width_multiplier: float = 1.0,
    dtype: str | keras.DTypePolicy | None = None,
    batch_norm_scale: bool | None = None,
    lrn: bool | None = None,
    hidden_batch_norm: bool | None = None,
    initial_deviation: float | None = None,
) -> keras.Model:
    """The batch normalization paper's network: normalized before every nonlinearity.

    Ioffe and Szegedy 2015, arXiv 1502.03167, Figure 5.

    Args:
        include_top, weights, input_tensor, input_shape, pooling: As in `create_model`.
        classes, classifier_activation, name, aux_logits, dropout: As in `create_model`.
        batch_norm_momentum, batch_norm_epsilon, weight_decay: As in `create_model`.
        activation, initializer_gain, width_multiplier, dtype, batch_norm_scale: As in `create_model`.
        lrn: bool. Local response normalization, twice in the stem; section 4.2.1 removes it. Default: False.
        hidden_batch_norm: bool. Normalize the features before the logits too, as the networks of the paper's
            ensemble do (section 4.2.3). Default: False.
        initial_deviation: float above 0. Standard deviation of the normal distribution that all kernels are drawn
            from. Default: None, which is He et al. 2015, by the number of a kernel's inputs.

    Returns:
        A functional `keras.Model`, as `create_model` describes it.

    Raises:
        UserError: As in `create_model`.

    Example:
        >>> model = inception_tf.BNInception(activation="sigmoid")
    """
    return _build(
        "bn_inception",
        {
            "lrn": lrn,
            "hidden_batch_norm": hidden_batch_norm,
            "initial_deviation": initial_deviation,
            "batch_norm_scale": batch_norm_scale,
        },
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        aux_logits=aux_logits,
        dropout=dropout,
        batch_norm_momentum=batch_norm_momentum,
        batch_norm_epsilon=batch_norm_epsilon,
        weight_decay=weight_decay,
        activation=activation,
        initializer_gain=initializer_gain,
        width_multiplier=width_multiplier,
        dtype=dtype,
    )


def InceptionV2(
    include_top: bool = True,
    weights: str | os.PathLike[str] | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: Literal["avg", "max"] | None = None,
    classes: int = 1000,
    classifier_activation: str | Callable | None = "softmax",
    name: str = "inception_v2",
    *,
    aux_logits: bool = False,
    dropout: float | None = None,
    batch_norm_momentum: float = 0.99,
    batch_norm_epsilon: float = 1e-3,
    weight_decay: float = 0.0,
    activation: str | Callable = "relu",
    initializer_gain: float = 1.0,
    width_multiplier: float = 1.0,
    dtype: str | keras.DTypePolicy | None = None,
    batch_norm_scale: bool | None = None,
    use_separable_conv: bool | None = None,
) -> keras.Model:
    """BN-Inception as slim released it: separable first convolution, 96 pooled channels in 4d and 4e.

    tf_slim/nets/inception_v2.py.

    Args:
        include_top, weights, input_tensor, input_shape, pooling: As in `create_model`.
        classes, classifier_activation, name, aux_logits, dropout: As in `create_model`.
        batch_norm_momentum, batch_norm_epsilon, weight_decay: As in `create_model`.
        activation, initializer_gain, width_multiplier, dtype, batch_norm_scale: As in `create_model`.
        use_separable_conv: bool. A separable first convolution. Default: True.

    Returns:
        A functional `keras.Model`, as `create_model` describes it.

    Raises:
        UserError: As in `create_model`.

    Example:
        >>> model = inception_tf.InceptionV2(classes=10)
    """
    return _build(
        "inception_v2",
        {"use_separable_conv": use_separable_conv, "batch_norm_scale": batch_norm_scale},
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        aux_logits=aux_logits,
        dropout=dropout,
        batch_norm_momentum=batch_norm_momentum,
        batch_norm_epsilon=batch_norm_epsilon,
        weight_decay=weight_decay,
        activation=activation,
        initializer_gain=initializer_gain,
        width_multiplier=width_multiplier,
        dtype=dtype,
    )


def InceptionV3(
    include_top: bool = True,
    weights: str | os.PathLike[str] | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: Literal["avg", "max"] | None = None,
    classes: int = 1000,
    classifier_activation: str | Callable | None = "softmax",
    name: str = "inception_v3",
    *,
    aux_logits: bool = False,
    dropout: float | None = None,
    batch_norm_momentum: float = 0.99,
    batch_norm_epsilon: float = 1e-3,
    weight_decay: float = 0.0,
    activation: str | Callable = "relu",
    initializer_gain: float = 1.0,
    width_multiplier: float = 1.0,
    dtype: str | keras.DTypePolicy | None = None,
    batch_norm_scale: bool | None = None,
    count_padding: bool | None = None,
    last_pool: Literal["avg", "max"] | None = None,
) -> keras.Model:
    """Inception V3 as slim released it; the same network as `keras.applications.InceptionV3`.

    Szegedy et al. 2015, arXiv 1512.00567; tf_slim/nets/inception_v3.py.

    Args:
        include_top, weights, input_tensor, input_shape, pooling: As in `create_model`.
        classes, classifier_activation, name, aux_logits, dropout: As in `create_model`.
        batch_norm_momentum, batch_norm_epsilon, weight_decay: As in `create_model`.
        activation, initializer_gain, width_multiplier, dtype, batch_norm_scale: As in `create_model`.
        count_padding: bool. Average pools include the zero padding, as torchvision's and timm's do. Default:
            False, or as `weights` require.
        last_pool: str. Pool of the last block: "avg", or "max" as in the graph of December 2015 that the
            Inception score and FID use. Default: "avg", or as `weights` require.

    Returns:
        A functional `keras.Model`, as `create_model` describes it.

    Raises:
        UserError: As in `create_model`.

    Example:
        >>> model = inception_tf.InceptionV3(classes=10, input_shape=(150, 150, 3))
    """
    return _build(
        "inception_v3",
        {
            "count_padding": count_padding,
            "last_pool": last_pool,
            "batch_norm_scale": batch_norm_scale,
        },
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        aux_logits=aux_logits,
        dropout=dropout,
        batch_norm_momentum=batch_norm_momentum,
        batch_norm_epsilon=batch_norm_epsilon,
        weight_decay=weight_decay,
        activation=activation,
        initializer_gain=initializer_gain,
        width_multiplier=width_multiplier,
        dtype=dtype,
    )


def InceptionV4(
    include_top: bool = True,
    weights: str | os.PathLike[str] | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: Literal["avg", "max"] | None = None,
    classes: int = 1000,
    classifier_activation: str | Callable | None = "softmax",
    name: str = "inception_v4",
    *,
    aux_logits: bool = False,
    dropout: float | None = None,
    batch_norm_momentum: float = 0.99,
    batch_norm_epsilon: float = 1e-3,
    weight_decay: float = 0.0,
    activation: str | Callable = "relu",
    initializer_gain: float = 1.0,
    width_multiplier: float = 1.0,
    dtype: str | keras.DTypePolicy | None = None,
    batch_norm_scale: bool | None = None,
) -> keras.Model:
    """Inception V4 as slim released it: a deeper stem, then 4, 7 and 3 blocks.

    Szegedy et al. 2016, arXiv 1602.07261, Figure 9.

    Args:
        include_top, weights, input_tensor, input_shape, pooling: As in `create_model`.
        classes, classifier_activation, name, aux_logits, dropout: As in `create_model`.
        batch_norm_momentum, batch_norm_epsilon, weight_decay: As in `create_model`.
        activation, initializer_gain, width_multiplier, dtype, batch_norm_scale: As in `create_model`.

    Returns:
        A functional `keras.Model`, as `create_model` describes it.

    Raises:
        UserError: As in `create_model`.

    Example:
        >>> model = inception_tf.InceptionV4(include_top=False, pooling="avg")
    """
    return _build(
        "inception_v4",
        {"batch_norm_scale": batch_norm_scale},
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        aux_logits=aux_logits,
        dropout=dropout,
        batch_norm_momentum=batch_norm_momentum,
        batch_norm_epsilon=batch_norm_epsilon,
        weight_decay=weight_decay,
        activation=activation,
        initializer_gain=initializer_gain,
        width_multiplier=width_multiplier,
        dtype=dtype,
    )


def InceptionResNetV1(
    include_top: bool = True,
    weights: str | os.PathLike[str] | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: Literal["avg", "max"] | None = None,
    classes: int = 1000,
    classifier_activation: str | Callable | None = "softmax",
    name: str = "inception_resnet_v1",
    *,
    aux_logits: bool = False,
    dropout: float | None = None,
    batch_norm_momentum: float = 0.99,
    batch_norm_epsilon: float = 1e-3,
    weight_decay: float = 0.0,
    activation: str | Callable = "relu",
    initializer_gain: float = 1.0,
    width_multiplier: float = 1.0,
    dtype: str | keras.DTypePolicy | None = None,
    batch_norm_scale: bool | None = None,
    paper: bool | None = None,
    residual_scale: float | None = None,
) -> keras.Model:
    """Inception-ResNet v1 in facenet's form.

    Szegedy et al. 2016, arXiv 1602.07261, Figure 15.

    Args:
        include_top, weights, input_tensor, input_shape, pooling: As in `create_model`.
        classes, classifier_activation, name, aux_logits, dropout: As in `create_model`.
        batch_norm_momentum, batch_norm_epsilon, weight_decay: As in `create_model`.
        activation, initializer_gain, width_multiplier, dtype, batch_norm_scale: As in `create_model`.
        paper: bool. Omit facenet's sixth, unscaled C block, which is not in the paper's Figure 15.
            Default: False.
        residual_scale: float in (0, 1]. Factor on the residuals of all blocks but that one. Default: None, for
            0.17 on the 35x35 grid, 0.10 on 17x17 and 0.20 on 8x8.

    Returns:
        A functional `keras.Model`, as `create_model` describes it.

    Raises:
        UserError: As in `create_model`.

    Example:
        >>> model = inception_tf.InceptionResNetV1(classes=10)
    """
    return _build(
        "inception_resnet_v1",
        {
            "paper": paper,
            "residual_scale": residual_scale,
            "batch_norm_scale": batch_norm_scale,
        },
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        aux_logits=aux_logits,
        dropout=dropout,
        batch_norm_momentum=batch_norm_momentum,
        batch_norm_epsilon=batch_norm_epsilon,
        weight_decay=weight_decay,
        activation=activation,
        initializer_gain=initializer_gain,
        width_multiplier=width_multiplier,
        dtype=dtype,
    )


def InceptionResNetV2(
    include_top: bool = True,
    weights: str | os.PathLike[str] | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: Literal["avg", "max"] | None = None,
    classes: int = 1000,
    classifier_activation: str | Callable | None = "softmax",
    name: str = "inception_resnet_v2",
    *,
    aux_logits: bool = False,
    dropout: float | None = None,
    batch_norm_momentum: float = 0.99,
    batch_norm_epsilon: float = 1e-3,
    weight_decay: float = 0.0,
    activation: str | Callable = "relu",
    initializer_gain: float = 1.0,
    width_multiplier: float = 1.0,
    dtype: str | keras.DTypePolicy | None = None,
    batch_norm_scale: bool | None = None,
    output_stride: Literal[8, 16] | None = None,
    align_feature_maps: bool | None = None,
    paper: bool | None = None,
    residual_scale: float | None = None,
) -> keras.Model:
    """Inception-ResNet v2 as slim released it; the same as `keras.applications.InceptionResNetV2`.

    Szegedy et al. 2016, arXiv 1602.07261.

    Args:
        include_top, weights, input_tensor, input_shape, pooling: As in `create_model`.
        classes, classifier_activation, name, aux_logits, dropout: As in `create_model`.
        batch_norm_momentum, batch_norm_epsilon, weight_decay: As in `create_model`.
        activation, initializer_gain, width_multiplier, dtype, batch_norm_scale: As in `create_model`.
        output_stride: int. 16, or 8 for dilated 17x17 blocks at twice the resolution; 8 needs include_top=False.
            Default: 16.
        align_feature_maps: bool. Same padding in place of valid, so that feature maps of different sizes align. Default:
            False.
        paper: bool. The network of the paper's Figure 15: V4's stem, 5, 10 and 5 blocks, no convolution after
            them. Default: False.
        residual_scale: float in (0, 1]. Factor on the residuals of all blocks but slim's last one, which has none.
            Default: None, for 0.17 on the 35x35 grid, 0.10 on 17x17 and 0.20 on 8x8.

    Returns:
        A functional `keras.Model`, as `create_model` describes it.

    Raises:
        UserError: As in `create_model`.

    Example:
        >>> model = inception_tf.InceptionResNetV2(include_top=False, output_stride=8)
    """
    return _build(
        "inception_resnet_v2",
        {
            "output_stride": output_stride,
            "align_feature_maps": align_feature_maps,
            "paper": paper,
            "residual_scale": residual_scale,
            "batch_norm_scale": batch_norm_scale,
        },
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        aux_logits=aux_logits,
        dropout=dropout,
        batch_norm_momentum=batch_norm_momentum,
        batch_norm_epsilon=batch_norm_epsilon,
        weight_decay=weight_decay,
        activation=activation,
        initializer_gain=initializer_gain,
        width_multiplier=width_multiplier,
        dtype=dtype,
    )


def AlexNet(
    include_top: bool = True,
    weights: str | os.PathLike[str] | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: Literal["avg", "max"] | None = None,
    classes: int = 1000,
    classifier_activation: str | Callable | None = "softmax",
    name: str = "alexnet",
    *,
    aux_logits: bool = False,
    dropout: float | None = None,
    batch_norm_momentum: float = 0.99,
    batch_norm_epsilon: float = 1e-3,
    weight_decay: float = 0.0,
    activation: str | Callable = "relu",
    initializer_gain: float = 1.0,
    width_multiplier: float = 1.0,
    dtype: str | keras.DTypePolicy | None = None,
    batch_norm_scale: bool | None = None,
) -> keras.Model:
    """AlexNet in one column, as slim has it: a baseline for the Inception networks.

    Krizhevsky 2014, arXiv 1404.5997.

    Args:
        include_top, weights, input_tensor, input_shape, pooling: As in `create_model`.
        classes, classifier_activation, name, aux_logits, dropout: As in `create_model`.
        batch_norm_momentum, batch_norm_epsilon, weight_decay: As in `create_model`.
        activation, initializer_gain, width_multiplier, dtype, batch_norm_scale: As in `create_model`.

    Returns:
        A functional `keras.Model`, as `create_model` describes it.

    Raises:
        UserError: As in `create_model`.

    Example:
        >>> model = inception_tf.AlexNet(classes=10)
    """
    return _build(
        "alexnet",
        {"batch_norm_scale": batch_norm_scale},
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        aux_logits=aux_logits,
        dropout=dropout,
        batch_norm_momentum=batch_norm_momentum,
        batch_norm_epsilon=batch_norm_epsilon,
        weight_decay=weight_decay,
        activation=activation,
        initializer_gain=initializer_gain,
        width_multiplier=width_multiplier,
        dtype=dtype,
    )


def VGG16(
    include_top: bool = True,
    weights: str | os.PathLike[str] | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: Literal["avg", "max"] | None = None,
    classes: int = 1000,
    classifier_activation: str | Callable | None = "softmax",
    name: str = "vgg16",
    *,
    aux_logits: bool = False,
    dropout: float | None = None,
    batch_norm_momentum: float = 0.99,
    batch_norm_epsilon: float = 1e-3,
    weight_decay: float = 0.0,
    activation: str | Callable = "relu",
    initializer_gain: float = 1.0,
    width_multiplier: float = 1.0,
    dtype: str | keras.DTypePolicy | None = None,
    batch_norm_scale: bool | None = None,
) -> keras.Model:
    """VGG-16, as slim has it: a baseline for the Inception networks.

    Simonyan and Zisserman 2014, arXiv 1409.1556, Table 1 D.

    Args:
        include_top, weights, input_tensor, input_shape, pooling: As in `create_model`.
        classes, classifier_activation, name, aux_logits, dropout: As in `create_model`.
        batch_norm_momentum, batch_norm_epsilon, weight_decay: As in `create_model`.
        activation, initializer_gain, width_multiplier, dtype, batch_norm_scale: As in `create_model`.

    Returns:
        A functional `keras.Model`, as `create_model` describes it.

    Raises:
        UserError: As in `create_model`.

    Example:
        >>> model = inception_tf.VGG16(classes=10)
    """
    return _build(
        "vgg16",
        {"batch_norm_scale": batch_norm_scale},
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        aux_logits=aux_logits,
        dropout=dropout,
        batch_norm_momentum=batch_norm_momentum,
        batch_norm_epsilon=batch_norm_epsilon,
        weight_decay=weight_decay,
        activation=activation,
        initializer_gain=initializer_gain,
        width_multiplier=width_multiplier,
        dtype=dtype,
    )


BUILDERS: dict[str, Callable[..., keras.Model]] = {
    "googlenet": GoogLeNet,
    "inception_v1": InceptionV1,
    "inception": Inception,
    "bn_inception": BNInception,
    "inception_v2": InceptionV2,
    "inception_v3": InceptionV3,
    "inception_v4": InceptionV4,
    "inception_resnet_v1": InceptionResNetV1,
    "inception_resnet_v2": InceptionResNetV2,
    "alexnet": AlexNet,
    "vgg16": VGG16,
}


def create_model(name: str, **arguments: Any) -> keras.Model:
    """A network by name: `create_model("inception_v3", classes=10)` is `InceptionV3(classes=10)`.

    Args:
        name: str. One of `list_models()`.
        **arguments: The builder's arguments, as follows, and the variant switches that the builder documents.
        include_top: bool. With global pooling, dropout and the classifier; otherwise the model ends at the
            final feature map (N, h, w, C). Default: True.
        weights: None for random initialization, which is the default here, unlike in
            `keras.applications`; the path of a file that `load_weights` reads; or the name of a release:
            "imagenet", "slim_2016", "keras", "torchvision", "timm_tf", "fid_2015".  A release is downloaded once.
            With other `classes` than the weights have, the backbone is loaded and a warning says that the
            classifier is new.
        input_tensor: Keras tensor to use as the input, in place of a new `keras.Input`.
        input_shape: (height, width, channels) in pixels; height and width may be None. Default: the
            published size with 3 channels, or (None, None, 3) without the top.
        pooling: Without the top: "avg" or "max" for global pooling to (N, C) float32, or None.
        classes: int, at least 1. Number of classes. Default: 1000.
        classifier_activation: Name or function of the classifier's activation, None for logits.
            Default: "softmax".
        aux_logits: bool. Add the auxiliary classifiers; the model then returns a dict with
            `predictions` and `aux_predictions` (GoogLeNet: `aux_predictions_1`, `aux_predictions_2`).
            Default: False.
        dropout: float in [0, 1). Fraction of features dropped before the logits; None: as published.
        batch_norm_momentum: float in [0, 1). Momentum of the moving statistics (slim: 0.9997). Default: 0.99.
        batch_norm_epsilon: float above 0. Added to the variance. Default: 1e-3.
        weight_decay: float, at least 0. Adds weight_decay * sum(kernel**2) / 2 to the loss for every
            kernel, as in slim: not for V2's separable convolution, and for the biases too in
            Inception-ResNet-v2. Default: 0.
        activation: Name or function of the activation after every convolution. Default: "relu".
        initializer_gain: float above 0. Factor on the standard deviation of the convolutions'
            initializers. Default: 1.
        width_multiplier: float above 0. Factor on every convolution's filters, which remain at least 16.
            Default: 1.
        dtype: Dtype policy of the backbone, or its name; the head is always float32. Default: Keras'
            global policy.
        batch_norm_scale: bool. A gamma in every batch normalization, as in torch's networks, whose weights need it
            to be trained further. Default: False, as in slim and Keras, or as `weights` require.

    Returns:
        A functional `keras.Model` from (N, height, width, channels) floats in [-1, 1]
        (`preprocess_input`) to (N, classes) float32 probabilities, for any size from the network's
        minimum and any number of channels.

    Raises:
        UserError: A `ValueError`: a name or argument is unknown, a value is out of range, or the weights
            do not fit.

    Example:
        >>> model = inception_tf.create_model("inception_v3", classes=10, aux_logits=True)
        >>> sorted(model.output)
        ['aux_predictions', 'predictions']
    """
    find_network(name)
    builder = BUILDERS[name]
    known = inspect.signature(builder).parameters
    for argument in arguments:
        if argument not in known:
            raise unknown(f"argument of {name}", argument, known)
    return builder(**arguments)


def preprocess_input(
    x: np.ndarray | list | keras.KerasTensor, model: str, release: str | None = None
) -> np.ndarray | keras.KerasTensor:
    """Scale pixels to the range that a network expects.

    Args:
        x: Array, list or tensor of numbers in [0, 255]: (..., 3), or any shape without a release.
        model: str. One of `list_models()`.
        release: str. Name of the pretrained weights, which may need another scale or BGR order; None:
            [-1, 1].

    Returns:
        float32 of the same shape: a tensor for a tensor, otherwise a new array.

    Raises:
        UserError: The network or the release is unknown.

    Example:
        >>> inception_tf.preprocess_input([0, 127.5, 255], model="inception_v3")
        array([-1.,  0.,  1.], dtype=float32)
    """
    find_network(model)
    import numpy as np

    with needs_backend():
        import keras

    from inception_tf.data.preprocessing import SCALES
    from inception_tf.weights.registry import find_release

    scale = SCALES[find_release(model, release).preprocessing.scale if release else "unit"]
    mean, deviation = np.float32(scale.mean), np.float32(scale.deviation)
    # `tf.data` maps tensors of TensorFlow, whichever backend Keras has.
    tf = sys.modules.get("tensorflow")
    if keras.ops.is_tensor(x) or keras.utils.is_keras_tensor(x):
        x = keras.ops.cast(x, "float32")
        x = keras.ops.flip(x, axis=-1) if scale.bgr else x
    else:
        if tf is not None and tf.is_tensor(x):
            x = tf.cast(x, tf.float32)
        else:
            x = np.asarray(x, np.float32)
        x = x[..., ::-1] if scale.bgr else x
    return (x - mean) / deviation


def decode_predictions(
    probabilities: np.ndarray, top: int = 5
) -> list[list[tuple[str, str, float]]]:
    """The most probable ImageNet classes of each image, with their names.

    Keras downloads the list of names once.

    Args:
        probabilities: (N, 1000) floats, or (N, 1001) with a background class first, which is ignored.
        top: int, at least 1. Number of classes per image.

    Returns:
        For each image a list of (WordNet ID, class name, probability), the most probable first.

    Raises:
        UserError: The shape of `probabilities` is another, `top` is below 1, or the list of names cannot be
            downloaded; the message says where to put it by hand.

    Example:
        >>> model = inception_tf.InceptionV3(weights="imagenet")
        >>> probabilities = model.predict(inception_tf.preprocess_input(images, "inception_v3"))
        >>> inception_tf.decode_predictions(probabilities, top=1)
        [[('n02123045', 'tabby', 0.9)]]
    """
    import numpy as np

    with needs_backend():
        from keras.applications import imagenet_utils

    from inception_tf.host.files import cache_folder

    if not isinstance(top, int) or top < 1:
        raise UserError(f"top must be an integer of at least 1, got {top!r}")
    probabilities = np.asarray(probabilities)
    if probabilities.ndim != 2 or probabilities.shape[1] not in (1000, 1001):
        raise UserError(
            f"probabilities must have the shape (N, 1000) or (N, 1001), got {probabilities.shape}"
        )
    try:
        return imagenet_utils.decode_predictions(probabilities[:, -1000:], top=top)
    # Keras raises a bare Exception for every failure of its download.
    except Exception as error:
        home = cache_folder().parent
        # Where keras.utils.get_file looks if it cannot write there.
        home = home if os.access(home, os.W_OK) else Path("/tmp/.keras")
        raise UserError(
            f"cannot download the names of ImageNet's classes: {str(error).splitlines()[0]}; put the file"
            f" {CLASS_NAMES} by hand at {home / 'models' / 'imagenet_class_index.json'}"
            " and try again"
        ) from error
