# SPDX-License-Identifier: Apache-2.0
"""Building blocks from the papers, for use in other networks: functions from tensor to tensor."""

from __future__ import annotations

from typing import Any

import keras

from inception_tf.arch.spec import Branch, Conv, Pool, fork
from inception_tf.errors import UserError
from inception_tf.models.googlenet import MODULES, module
from inception_tf.nn import builder
from inception_tf.nn.batch_norm import BatchNormalization
from inception_tf.nn.builder import LayerConfig

__all__ = ["expanded_3x3", "factorized_5x5", "factorized_nxn", "inception_module"]


def inception_module(
    x: keras.KerasTensor, *, weight_decay: float = 5e-3, name: str | None = None
) -> keras.KerasTensor:
    """GoogLeNet's module 3a after a max pooling, with batch normalization of its output.

    Max pool 3x3/2; branches 1x1 64; 1x1 96 and 3x3 128; 1x1 16 and 5x5 32; max pool 3x3/1 and 1x1 32,
    all with biases and ReLU; their concatenation through one batch normalization with gamma and beta.

    Args:
        x: (N, H, W, C) float tensor.
        weight_decay: float, at least 0. Adds weight_decay * sum(kernel**2) / 2 to the loss, as in slim.
        name: str. Name of the last layer and prefix of the others; None: the function's name, numbered from the
            second use on.

    Returns:
        (N, ceil(H / 2), ceil(W / 2), 256) tensor.

    Example:
        >>> image = keras.Input((224, 224, 3))
        >>> inception_tf.inception_module(image).shape
        (None, 112, 112, 256)
    """
    layer_config = LayerConfig(batch_norm=False, weight_decay=weight_decay)
    name = name or _unused_name("inception_module")
    x = builder.apply_step(x, Pool("max", 3, 2), f"{name}_max_pool", layer_config)
    x = builder.apply_step(x, module(MODULES["3b"], wide=5), f"{name}_concat", layer_config)
    return BatchNormalization(epsilon=builder.BN_EPSILON, name=name)(x)


def factorized_5x5(
    x: keras.KerasTensor, filters: int, *, name: str | None = None, **layer_config: Any
) -> keras.KerasTensor:
    """Two 3x3 convolutions in place of a 5x5: 18 weights rather than 25, per input and output channel.

    Szegedy et al. 2015, arXiv 1512.00567, section 3.1, Figure 1.

    Args:
        x: (N, H, W, C) float tensor.
        filters: int. Filters of each convolution.
        name: str. Name of the last layer and prefix of the others; None: the function's name, numbered from the
            second use on.
        **layer_config: `activation`, `batch_norm`, `weight_decay` and the other fields of `blocks.LayerConfig`.

    Returns:
        (N, H, W, filters) tensor.

    Example:
        >>> image = keras.Input((32, 32, 3))
        >>> inception_tf.factorized_5x5(image, 64).shape
        (None, 32, 32, 64)
    """
    name = name or _unused_name("factorized_5x5")
    return _branch(x, (Conv(filters, 3), Conv(filters, 3)), name, layer_config)


def factorized_nxn(
    x: keras.KerasTensor, filters: int, n: int, *, name: str | None = None, **layer_config: Any
) -> keras.KerasTensor:
    """A 1 x n convolution, then n x 1, in place of n x n: 2n weights rather than n squared, per channel pair.

    Szegedy et al. 2015, arXiv 1512.00567, section 3.2, Figure 3.

    Args:
        x: (N, H, W, C) float tensor.
        filters: int. Filters of each convolution.
        n: int, at least 2. Kernel size.
        name: str. Name of the last layer and prefix of the others; None: the function's name, numbered from the
            second use on.
        **layer_config: As in `factorized_5x5`.

    Returns:
        (N, H, W, filters) tensor.

    Raises:
        UserError: `n` is below 2 or no integer.

    Example:
        >>> image = keras.Input((17, 17, 128))
        >>> inception_tf.factorized_nxn(image, 192, n=7).shape
        (None, 17, 17, 192)
    """
    if not isinstance(n, int) or n < 2:
        raise UserError(f"n must be an integer of at least 2, got {n!r}")
    name = name or _unused_name("factorized_nxn")
    return _branch(x, (Conv(filters, (1, n)), Conv(filters, (n, 1))), name, layer_config)


def expanded_3x3(
    x: keras.KerasTensor, filters: int, *, name: str | None = None, **layer_config: Any
) -> keras.KerasTensor:
    """Parallel 1x3 and 3x1 convolutions, for the coarsest feature maps.

    Szegedy et al. 2015, arXiv 1512.00567, section 6, Figure 7.

    Args:
        x: (N, H, W, C) float tensor.
        filters: int. Filters of each convolution.
        name: str. Name of the last layer and prefix of the others; None: the function's name, numbered from the
            second use on.
        **layer_config: As in `factorized_5x5`.

    Returns:
        (N, H, W, 2 * filters) tensor.

    Example:
        >>> features = keras.Input((8, 8, 1280))
        >>> inception_tf.expanded_3x3(features, 384).shape
        (None, 8, 8, 768)
    """
    wide = fork((Conv(filters, (1, 3)),), (Conv(filters, (3, 1)),))
    name = name or _unused_name("expanded_3x3")
    return builder.apply_step(x, wide, name, LayerConfig(**layer_config))


def _unused_name(prefix: str) -> str:
    """As Keras names its own layers: `prefix`, then `prefix_1`, `prefix_2`, ... until its session is cleared."""
    number = keras.backend.get_uid(prefix) - 1
    return f"{prefix}_{number}" if number else prefix


def _branch(
    x: keras.KerasTensor, branch: Branch, name: str, layer_config: dict[str, Any]
) -> keras.KerasTensor:
    *inner, last = branch
    for number, step in enumerate(inner):
        x = builder.apply_step(x, step, f"{name}_{number}", LayerConfig(**layer_config))
    return builder.apply_step(x, last, name, LayerConfig(**layer_config))
