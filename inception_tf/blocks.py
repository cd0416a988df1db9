# SPDX-License-Identifier: Apache-2.0
"""The documents' blocks as functions that a user calls in a network of their own: tensor in, tensor out."""

from __future__ import annotations

from inception_tf.arch.spec import Branch, Conv, Pool, fork
from inception_tf.errors import UserError
from inception_tf.models.googlenet import MODULES, module
from inception_tf.nn import builder
from inception_tf.nn.batch_norm import BatchNormalization
from inception_tf.nn.builder import LayerConfig

__all__ = ["expanded_3x3", "factorized_5x5", "factorized_nxn", "inception_module"]


def inception_module(x, *, weight_decay: float = 5e-3, name: str = "inception_module"):
    """The listing of the documents' first text: Table 1's module 3a behind a pooling, normalized once at its end.

    x: (N, H, W, C) → (N, ceil(H / 2), ceil(W / 2), 256).  Max pool 3x3/2; branches 1x1 64; 1x1 96 and
    3x3 128; 1x1 16 and 5x5 32; max pool 3x3/1 and 1x1 32, all with biases and ReLU; their
    concatenation through one batch normalization with gamma and beta.
    weight_decay: slim's L2: the loss gains weight_decay * sum(kernel**2) / 2.
    """
    layer_config = LayerConfig(batch_norm=False, weight_decay=weight_decay)
    x = builder.apply(x, Pool("max", 3, 2), f"{name}_max_pool", layer_config)
    x = builder.apply(x, module(MODULES["3b"], wide=5), f"{name}_concat", layer_config)
    return BatchNormalization(epsilon=builder.BN_EPSILON, name=name)(x)


def factorized_5x5(x, filters: int, *, name: str = "factorized_5x5", **layer_config):
    """Two 3x3 convolutions in place of a 5x5: 18 weights where it has 25, for one input and output channel.

    x: (N, H, W, C) → (N, H, W, filters).  layer_config: `activation`, `batch_norm`, `weight_decay` and the
    other fields of `blocks.LayerConfig`.  Szegedy et al. 2015, arXiv 1512.00567, section 3.1, Figure 1.
    """
    return _branch(x, (Conv(filters, 3), Conv(filters, 3)), name, layer_config)


def factorized_nxn(x, filters: int, n: int, *, name: str = "factorized_nxn", **layer_config):
    """1 x n, then n x 1, in place of n x n, for any n: 2n weights where it has n squared.

    x: (N, H, W, C) → (N, H, W, filters).  layer_config: as in `factorized_5x5`.  Raises `UserError` for an
    n below 2.  Szegedy et al. 2015, section 3.2, Figure 3.
    """
    if not isinstance(n, int) or n < 2:
        raise UserError(f"n takes a whole number of at least 2, got {n!r}")
    return _branch(x, (Conv(filters, (1, n)), Conv(filters, (n, 1))), name, layer_config)


def expanded_3x3(x, filters: int, *, name: str = "expanded_3x3", **layer_config):
    """1x3 and 3x1 side by side, for the coarsest grids.

    x: (N, H, W, C) → (N, H, W, 2 * filters).  layer_config: as in `factorized_5x5`.  Szegedy et al. 2015,
    section 6, Figure 7.
    """
    wide = fork((Conv(filters, (1, 3)),), (Conv(filters, (3, 1)),))
    return builder.apply(x, wide, name, LayerConfig(**layer_config))


def _branch(x, branch: Branch, name: str, layer_config: dict):
    *inner, last = branch
    for number, step in enumerate(inner):
        x = builder.apply(x, step, f"{name}_{number}", LayerConfig(**layer_config))
    return builder.apply(x, last, name, LayerConfig(**layer_config))
