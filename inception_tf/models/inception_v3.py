# SPDX-License-Identifier: Apache-2.0
"""Inception V3 (Szegedy et al. 2015, arXiv 1512.00567), in the form that slim released."""

from __future__ import annotations

from inception_tf.arch.spec import (
    AVG,
    HE,
    MAX,
    VALID,
    Auxiliary,
    Conv,
    Fork,
    Network,
    Pool,
    fork,
    stage,
)
from inception_tf.errors import UserError

__all__ = ["inception_v3"]

# fmt: off
# Sizes are height x width x channels at 299 pixels.
STEM = (
    ("Conv2d_1a_3x3",  Conv(32, 3, 2, VALID)),      # 149x149x32
    ("Conv2d_2a_3x3",  Conv(32, 3, 1, VALID)),      # 147x147x32
    ("Conv2d_2b_3x3",  Conv(64, 3)),                # 147x147x64
    ("MaxPool_3a_3x3", Pool("max", 3, 2, VALID)),   # 73x73x64
    ("Conv2d_3b_1x1",  Conv(80, 1, 1, VALID)),      # 73x73x80
    ("Conv2d_4a_3x3",  Conv(192, 3, 1, VALID)),     # 71x71x192
    ("MaxPool_5a_3x3", Pool("max", 3, 2, VALID)),   # 35x35x192
)


# 35x35 grid.  Departs from Figure 5: the released network keeps the 5x5 of branch 1; the figure shows two 3x3.
def grid35(pool: Pool, width: int) -> Fork:
    return fork((Conv(64),),
                (Conv(48), Conv(64, 5)),
                (Conv(64), Conv(96, 3), Conv(96, 3)),
                (pool, Conv(width)))


# 35x35 to 17x17 without a bottleneck, Figure 10.
REDUCTION_17 = fork((Conv(384, 3, 2, VALID),),
                    (Conv(64), Conv(96, 3), Conv(96, 3, 2, VALID)),
                    (Pool("max", 3, 2, VALID),))


# 17x17 grid, Figure 6 with n = 7; the inner width grows with depth.
def grid17(pool: Pool, inner: int) -> Fork:
    return fork((Conv(192),),
                (Conv(inner), Conv(inner, (1, 7)), Conv(192, (7, 1))),
                (Conv(inner), Conv(inner, (7, 1)), Conv(inner, (1, 7)), Conv(inner, (7, 1)), Conv(192, (1, 7))),
                (pool, Conv(192)))


# 17x17 to 8x8.
REDUCTION_8 = fork((Conv(192), Conv(320, 3, 2, VALID)),
                   (Conv(192), Conv(192, (1, 7)), Conv(192, (7, 1)), Conv(192, 3, 2, VALID)),
                   (Pool("max", 3, 2, VALID),))

# 8x8 grid, Figure 7: 1x3 and 3x1 side by side.
WIDE = fork((Conv(384, (1, 3)),), (Conv(384, (3, 1)),))


def grid8(pool: Pool) -> Fork:
    return fork((Conv(320),),
                (Conv(384), WIDE),
                (Conv(448), Conv(384, 3), WIDE),
                (pool, Conv(192)))
# fmt: on

NOTES = (
    "Table 2 misprints conv3, Conv2d_3b_1x1 here: its kernel is 1x1 and not 3x3.",
    "46 layers is a misprint too: the longest path has 48 with weights, the logits among them.  The 96 convolutions are"
    " 94 and the auxiliary classifier's 2, without the logits.",
)

# Section 4: the auxiliary classifier on the last 17x17 feature map, with batch normalization.
AUXILIARY = Auxiliary(
    name="AuxLogits",
    output="aux_predictions",
    after="Mixed_6e",
    steps=(
        ("AvgPool_1a_5x5", Pool("avg", 5, 3, VALID)),
        ("Conv2d_1b_1x1", Conv(128)),
        ("Conv2d_2a_5x5", Conv(768, 5, 1, VALID, stddev=0.01)),
    ),
    loss_weight=0.4,  # slim train_image_classifier.py
    logits_stddev=0.001,
)


def inception_v3(*, count_padding: bool = False, last_pool: str = "avg") -> Network:
    """slim's network, the same as in `keras.applications`.

    Args:
        count_padding: bool. Average pools include the zero padding, as torchvision's and timm's do.
        last_pool: str. Pooling of the last block: "avg", or "max" as in the graph that Google released in December
            2015 and that the Inception score and FID use.

    Returns:
        The table.

    Raises:
        UserError: The last pooling is neither "avg" nor "max".
    """
    pool = Pool("avg", padding=1) if count_padding else AVG
    last = {"avg": pool, "max": MAX}
    if last_pool not in last:
        raise UserError(f"last_pool must be 'avg' or 'max', got {last_pool!r}")
    return Network(
        name="inception_v3",
        source="tf_slim/nets/inception_v3.py; Szegedy et al. 2015, arXiv 1512.00567",
        backbone=(
            *STEM,
            *stage(5, "bcd", grid35(pool, 32), grid35(pool, 64), grid35(pool, 64)),
            ("Mixed_6a", REDUCTION_17),
            *stage(6, "bcde", *(grid17(pool, inner) for inner in (128, 160, 160, 192))),
            ("Mixed_7a", REDUCTION_8),
            *stage(7, "bc", grid8(pool), grid8(last[last_pool])),
        ),
        size=299,
        min_size=75,
        dropout=0.2,
        initializer=HE,
        aliases=(("AvgPool_1a", "global_pool"),),
        auxiliaries=(AUXILIARY,),
        notes=NOTES,
        accuracy="78.0 / 93.9 (slim, single crop)",
    )
