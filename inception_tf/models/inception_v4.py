# SPDX-License-Identifier: Apache-2.0
"""Inception V4 (Szegedy et al. 2016, arXiv 1602.07261), in the form that slim released."""

from __future__ import annotations

import dataclasses

from inception_tf.arch.spec import (
    AVG,
    HE,
    VALID,
    XAVIER,
    Auxiliary,
    Conv,
    Network,
    Pool,
    fork,
    stage,
)
from inception_tf.models.inception_v3 import AUXILIARY

__all__ = ["STEM", "auxiliary", "inception_v4"]

DOWN = Pool("max", 3, 2, VALID)

# fmt: off
# Sizes are height x width x channels at 299 pixels.
# Figure 3, the stem.
STEM = (
    ("Conv2d_1a_3x3", Conv(32, 3, 2, VALID)),                            # 149x149x32
    ("Conv2d_2a_3x3", Conv(32, 3, 1, VALID)),                            # 147x147x32
    ("Conv2d_2b_3x3", Conv(64, 3)),                                      # 147x147x64
    ("Mixed_3a", fork((DOWN,), (Conv(96, 3, 2, VALID),))),               # 73x73x160
    ("Mixed_4a", fork((Conv(64), Conv(96, 3, 1, VALID)),                 # 71x71x192
                      (Conv(64), Conv(64, (1, 7)), Conv(64, (7, 1)), Conv(96, 3, 1, VALID)))),
    ("Mixed_5a", fork((Conv(192, 3, 2, VALID),), (DOWN,))),              # 35x35x384
)

# Figure 4, 35x35x384.
A = fork((Conv(96),),
         (Conv(64), Conv(96, 3)),
         (Conv(64), Conv(96, 3), Conv(96, 3)),
         (AVG, Conv(96)))

# Figure 7 with k, l, m, n = 192, 224, 256, 384 of Table 1: 17x17x1024.
REDUCTION_A = fork((Conv(384, 3, 2, VALID),),
                   (Conv(192), Conv(224, 3), Conv(256, 3, 2, VALID)),
                   (DOWN,))

# Figure 5, 17x17x1024.
B = fork((Conv(384),),
         (Conv(192), Conv(224, (1, 7)), Conv(256, (7, 1))),
         (Conv(192), Conv(192, (7, 1)), Conv(224, (1, 7)), Conv(224, (7, 1)), Conv(256, (1, 7))),
         (AVG, Conv(128)))

# Figure 8: 8x8x1536.
REDUCTION_B = fork((Conv(192), Conv(192, 3, 2, VALID)),
                   (Conv(256), Conv(256, (1, 7)), Conv(320, (7, 1)), Conv(320, 3, 2, VALID)),
                   (DOWN,))

# Figure 6, 8x8x1536.  Departs from it in the order of branch 2, 3x1 before 1x3, as slim does.
WIDE = fork((Conv(256, (1, 3)),), (Conv(256, (3, 1)),))
C = fork((Conv(256),),
         (Conv(384), WIDE),
         (Conv(384), Conv(448, (3, 1)), Conv(512, (1, 3)), WIDE),
         (AVG, Conv(256)))
# fmt: on


def inception_v4() -> Network:
    """Figure 9: stem, 4 x A, reduction, 7 x B, reduction, 3 x C.

    Returns:
        The table.
    """
    return Network(
        name="inception_v4",
        source="tensorflow/models research/slim/nets/inception_v4.py; Szegedy et al. 2016, arXiv 1602.07261",
        backbone=(
            *STEM,
            *stage(5, "bcde", A),
            ("Mixed_6a", REDUCTION_A),
            *stage(6, "bcdefgh", B),
            ("Mixed_7a", REDUCTION_B),
            *stage(7, "bcd", C),
        ),
        size=299,
        min_size=75,
        dropout=0.2,
        initializer=HE,
        logits_initializer=XAVIER,  # slim's setting of He reaches convolutions alone
        aliases=(("PreLogitsFlatten", "PreLogits"),),
        auxiliaries=(auxiliary("Mixed_6h"),),
        accuracy="80.2 / 95.2 (slim, single crop)",
    )


def auxiliary(after: str) -> Auxiliary:
    """V3's auxiliary classifier with the initializers of its network, as in slim's V4 and Inception-ResNet-v2.

    Args:
        after: str. The endpoint that it reads.

    Returns:
        The classifier.
    """
    steps = tuple(
        (name, dataclasses.replace(step, stddev=None) if isinstance(step, Conv) else step)
        for name, step in AUXILIARY.steps
    )
    return dataclasses.replace(AUXILIARY, after=after, steps=steps, logits_stddev=None)
