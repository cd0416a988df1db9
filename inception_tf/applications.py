# SPDX-License-Identifier: Apache-2.0
"""What `keras.applications` adds to a network: its signature and its `weights=`.  One thin façade for all networks.

Long, and alike in all builders, because every argument is written out: an editor shows what stands here.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from inception_tf.errors import UserError, needs_backend, unknown
from inception_tf.models import find, variant

if TYPE_CHECKING:
    import keras

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


def _built(network: str, chosen: dict, *, weights, **arguments) -> keras.Model:
    """The network with its own switches, those that are not None, filled with `weights`."""
    chosen = {switch: value for switch, value in chosen.items() if value is not None}
    # Keras is imported on the first call, so that names and tables are at hand without it.
    with needs_backend():
        from inception_tf.nn.network import build
        from inception_tf.weights import load_weights
        from inception_tf.weights.download import fetch
        from inception_tf.weights.registry import check_name, find_release, names_for

    needed = {}
    check_name(network, weights)
    if weights in names_for(network):
        release = find_release(network, weights)
        weights, needed = fetch(release), release.switches
    model = build(variant(network, **{**needed, **chosen}), **arguments)
    if weights is not None:
        load_weights(model, weights)
    return model


def GoogLeNet(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=1000,
    classifier_activation="softmax",
    name="googlenet",
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
    batch_norm=None,
    lrn=None,
) -> keras.Model:
    """GoogLeNet as Table 1 of its paper prints it: 5x5, biases, two auxiliary classifiers.

    Padding is Caffe's, as BVLC trained it.  Szegedy et al. 2014, arXiv 1409.4842.

    Args:
        batch_norm: bool. Normalize after every convolution, in place of its bias. Default: False.
        lrn: bool. Local response normalization, twice in the stem. Default: True.
        Others: as in `create_model`.

    Returns:
        A functional `keras.Model`, as `create_model` says.

    Raises:
        UserError: As `create_model` does.
    """
    return _built(
        "googlenet",
        {"batch_norm": batch_norm, "lrn": lrn},
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
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=1000,
    classifier_activation="softmax",
    name="inception_v1",
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
    torch_padding=None,
) -> keras.Model:
    """GoogLeNet as slim released it: batch normalization, 3x3 where the paper has 5x5.

    tf_slim/nets/inception_v1.py.

    Args:
        torch_padding: bool. Padding as in torchvision's GoogLeNet, whose weights need it. Default: False, or what
            `weights` need.
        Others: as in `create_model`.

    Returns:
        A functional `keras.Model`, as `create_model` says.

    Raises:
        UserError: As `create_model` does.
    """
    return _built(
        "inception_v1",
        {"torch_padding": torch_padding},
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
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=1000,
    classifier_activation="softmax",
    name="inception",
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
    lrn=None,
) -> keras.Model:
    """The baseline of the batch normalization paper: 5x5 replaced by two 3x3, biases.

    Ioffe and Szegedy 2015, arXiv 1502.03167, section 4.2.

    Args:
        lrn: bool. The stem's two local response normalizations, which section 4.2.1 of the paper says it
            had and its Figure 5 leaves out. Default: False.
        Others: as in `create_model`.

    Returns:
        A functional `keras.Model`, as `create_model` says.

    Raises:
        UserError: As `create_model` does.
    """
    return _built(
        "inception",
        {"lrn": lrn},
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
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=1000,
    classifier_activation="softmax",
    name="bn_inception",
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
    lrn=None,
    hidden_batch_norm=None,
) -> keras.Model:
    """The batch normalization paper's network: normalized before every nonlinearity.

    Ioffe and Szegedy 2015, arXiv 1502.03167, Figure 5.

    Args:
        lrn: bool. The stem's two local response normalizations; section 4.2.1 takes them out. Default: False.
        hidden_batch_norm: bool. Normalize the features before the logits too, as the members of the paper's
            ensemble do (section 4.2.3). Default: False.
        Others: as in `create_model`.

    Returns:
        A functional `keras.Model`, as `create_model` says.

    Raises:
        UserError: As `create_model` does.
    """
    return _built(
        "bn_inception",
        {"lrn": lrn, "hidden_batch_norm": hidden_batch_norm},
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
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=1000,
    classifier_activation="softmax",
    name="inception_v2",
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
    use_separable_conv=None,
) -> keras.Model:
    """BN-Inception as slim released it: separable first convolution, 96 pooled channels in 4d and 4e.

    tf_slim/nets/inception_v2.py.

    Args:
        use_separable_conv: bool. A separable first convolution. Default: True.
        Others: as in `create_model`.

    Returns:
        A functional `keras.Model`, as `create_model` says.

    Raises:
        UserError: As `create_model` does.
    """
    return _built(
        "inception_v2",
        {"use_separable_conv": use_separable_conv},
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
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=1000,
    classifier_activation="softmax",
    name="inception_v3",
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
    count_padding=None,
    last_pool=None,
) -> keras.Model:
    """Inception V3 as slim released it; the same network as `keras.applications.InceptionV3`.

    Szegedy et al. 2015, arXiv 1512.00567; tf_slim/nets/inception_v3.py.

    Args:
        count_padding: bool. Average pools count the zeros around the grid, as torchvision's and timm's do. Default:
            False, or what `weights` need.
        last_pool: str. Pool of the last block: "avg", or "max" as in the graph of December 2015 that the
            Inception score and FID use. Default: "avg", or what `weights` need.
        Others: as in `create_model`.

    Returns:
        A functional `keras.Model`, as `create_model` says.

    Raises:
        UserError: As `create_model` does.
    """
    return _built(
        "inception_v3",
        {"count_padding": count_padding, "last_pool": last_pool},
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
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=1000,
    classifier_activation="softmax",
    name="inception_v4",
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
) -> keras.Model:
    """Inception V4 as slim released it: a deeper stem, then 4, 7 and 3 blocks.

    Szegedy et al. 2016, arXiv 1602.07261, Figure 9.

    Args:
        Others: as in `create_model`.

    Returns:
        A functional `keras.Model`, as `create_model` says.

    Raises:
        UserError: As `create_model` does.
    """
    return _built(
        "inception_v4",
        {},
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
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=1000,
    classifier_activation="softmax",
    name="inception_resnet_v1",
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
    paper=None,
) -> keras.Model:
    """Inception-ResNet v1 in facenet's form.

    Szegedy et al. 2016, arXiv 1602.07261, Figure 15.

    Args:
        paper: bool. Leave out facenet's sixth, unscaled C block, which the paper's Figure 15 does not have.
            Default: False.
        Others: as in `create_model`.

    Returns:
        A functional `keras.Model`, as `create_model` says.

    Raises:
        UserError: As `create_model` does.
    """
    return _built(
        "inception_resnet_v1",
        {"paper": paper},
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
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=1000,
    classifier_activation="softmax",
    name="inception_resnet_v2",
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
    output_stride=None,
    align_feature_maps=None,
) -> keras.Model:
    """Inception-ResNet v2 as slim released it; the same as `keras.applications.InceptionResNetV2`.

    Szegedy et al. 2016, arXiv 1602.07261.

    Args:
        output_stride: int. 16, or 8 for dilated 17x17 blocks on a grid twice as fine; 8 takes include_top=False.
            Default: 16.
        align_feature_maps: bool. Same padding in place of valid, so that grids of different sizes line up. Default:
            False.
        Others: as in `create_model`.

    Returns:
        A functional `keras.Model`, as `create_model` says.

    Raises:
        UserError: As `create_model` does.
    """
    return _built(
        "inception_resnet_v2",
        {"output_stride": output_stride, "align_feature_maps": align_feature_maps},
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
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=1000,
    classifier_activation="softmax",
    name="alexnet",
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
) -> keras.Model:
    """AlexNet in one column, as slim has it, to measure the Inceptions against.

    Krizhevsky 2014, arXiv 1404.5997.

    Args:
        Others: as in `create_model`.

    Returns:
        A functional `keras.Model`, as `create_model` says.

    Raises:
        UserError: As `create_model` does.
    """
    return _built(
        "alexnet",
        {},
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
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=1000,
    classifier_activation="softmax",
    name="vgg16",
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
) -> keras.Model:
    """VGG-16, as slim has it, to measure the Inceptions against.

    Simonyan and Zisserman 2014, arXiv 1409.1556, Table 1 D.

    Args:
        Others: as in `create_model`.

    Returns:
        A functional `keras.Model`, as `create_model` says.

    Raises:
        UserError: As `create_model` does.
    """
    return _built(
        "vgg16",
        {},
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


BUILDERS = {
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


def create_model(name: str, **arguments) -> keras.Model:
    """The network `name`: `create_model("inception_v3", classes=10)` is `InceptionV3(classes=10)`.

    Args:
        name: str. One of `list_models()`.
        include_top: bool. With pooling, dropout and the classifier; else the final feature map
            (N, h, w, C).
        weights: None for random initialization, which is the default here and not in
            `keras.applications`; the path of a file that `load_weights` takes; or a release's name:
            "imagenet", "slim_2016", "keras", "torchvision", "timm_tf".  A release is downloaded once.
        input_tensor: Keras tensor to build on, in place of a new `keras.Input`.
        input_shape: (height, width, channels); height and width may be None.  Default: the published
            size with 3 channels, or (None, None, 3) without the top.
        pooling: Without the top, None, "avg" or "max" over the final feature map → (N, C) float32.
        classes: int, at least 1.
        classifier_activation: Name or function of the classifier's activation; None gives logits.
        aux_logits: bool. Add the network's auxiliary classifiers; the model then returns a dict.
        dropout: float in [0, 1), the fraction of features dropped before the logits; None: the
            published one.
        batch_norm_momentum: float in [0, 1), the fraction of the old moving statistics kept at each
            step (slim: 0.9997).
        batch_norm_epsilon: float above 0, added to the variance.
        weight_decay: float, at least 0. slim's L2: the loss gains weight_decay * sum(kernel**2) / 2 for
            every kernel.
        activation: Name or function of the activation after every convolution.
        initializer_gain: float above 0, a factor on the standard deviation of every convolution's
            initial weights.
        width_multiplier: float above 0, a factor on every convolution's filters; at least 16 are left.
        dtype: Dtype policy or its name for the backbone; the head is float32 in every policy.
        Others: the network's own switches, which its builder names.

    Returns:
        A functional `keras.Model`: (N, height, width, channels) floats from -1 to 1
        (`preprocess_input`) → (N, classes) float32 probabilities.  Any size from the network's minimum
        and any number of channels.

    Raises:
        UserError: A ValueError, for an unknown name or argument, one outside its range, and weights
            that do not fit.

    Example:
        >>> model = inception_tf.create_model("inception_v3", classes=10, aux_logits=True)
    """
    find(name)
    builder = BUILDERS[name]
    known = inspect.signature(builder).parameters
    for argument in arguments:
        if argument not in known:
            raise unknown(f"argument of {name}", argument, known)
    return builder(**arguments)


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
    from inception_tf.weights.registry import find_release

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
