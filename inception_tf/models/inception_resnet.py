# SPDX-License-Identifier: Apache-2.0
"""Inception-ResNet v1 and v2 (Szegedy et al. 2016, arXiv 1602.07261), as facenet and slim released them."""

from __future__ import annotations

from inception_tf.arch.spec import (
    AVG,
    SAME,
    VALID,
    Branch,
    Conv,
    Fork,
    NamedSteps,
    Network,
    Pool,
    Residual,
    Step,
    fork,
)
from inception_tf.errors import UserError
from inception_tf.models.inception_v4 import he_auxiliary

__all__ = ["inception_resnet_v1", "inception_resnet_v2"]


def _repeated(name: str, count: int, step: Step, last: str | None = None) -> NamedSteps:
    """`Block35_1`, `Block35_2`, ...; `last` is the name of the last endpoint, if it has a special one."""
    names = [f"{name}_{number}" for number in range(1, count + 1)]
    if last:
        names[-1] = last
    return tuple((name, step) for name in names)


def residual(*branches: Branch, scale: float, activate: bool = True) -> Residual:
    return Residual(branches, scale, activate)


# fmt: off
# Sizes are height x width x channels at 299 pixels, with valid padding.
def _stem(padding: str) -> NamedSteps:
    """The first seven layers that both networks share with V3."""
    return (
        ("Conv2d_1a_3x3",  Conv(32, 3, 2, padding)),         # 149x149x32
        ("Conv2d_2a_3x3",  Conv(32, 3, 1, padding)),         # 147x147x32
        ("Conv2d_2b_3x3",  Conv(64, 3)),                     # 147x147x64
        ("MaxPool_3a_3x3", Pool("max", 3, 2, padding)),      # 73x73x64
        ("Conv2d_3b_1x1",  Conv(80, 1, 1, padding)),         # 73x73x80
        ("Conv2d_4a_3x3",  Conv(192, 3, 1, padding)),        # 71x71x192
    )


# Figures 10, 11, 13 with the widths of facenet's network.
V1_BLOCK35 = residual((Conv(32),),
                      (Conv(32), Conv(32, 3)),
                      (Conv(32), Conv(32, 3), Conv(32, 3)), scale=0.17)
V1_BLOCK17 = residual((Conv(128),),
                      (Conv(128), Conv(128, (1, 7)), Conv(128, (7, 1))), scale=0.10)
V1_BLOCK8 = ((Conv(192),),
             (Conv(192), Conv(192, (1, 3)), Conv(192, (3, 1))))
V1_REDUCTION_A = fork((Conv(384, 3, 2, VALID),),                                    # 17x17x896
                      (Conv(192), Conv(192, 3), Conv(256, 3, 2, VALID)),
                      (Pool("max", 3, 2, VALID),))
V1_REDUCTION_B = fork((Conv(256), Conv(384, 3, 2, VALID)),                          # 8x8x1792
                      (Conv(256), Conv(256, 3, 2, VALID)),
                      (Conv(256), Conv(256, 3), Conv(256, 3, 2, VALID)),
                      (Pool("max", 3, 2, VALID),))

# Departs from Figures 16, 17, 19 as slim does: another stem, 10, 20 and 10 blocks, wider reductions.
V2_MIXED_5B = fork((Conv(96),),                                                     # 35x35x320
                   (Conv(48), Conv(64, 5)),
                   (Conv(64), Conv(96, 3), Conv(96, 3)),
                   (AVG, Conv(64)))
V2_BLOCK35 = residual((Conv(32),),
                      (Conv(32), Conv(32, 3)),
                      (Conv(32), Conv(48, 3), Conv(64, 3)), scale=0.17)
V2_BLOCK8 = ((Conv(192),),
             (Conv(192), Conv(224, (1, 3)), Conv(256, (3, 1))))


def v2_reduction_a(stride: int, padding: str) -> Fork:                              # 17x17x1088
    return fork((Conv(384, 3, stride, padding),),
                (Conv(256), Conv(256, 3), Conv(384, 3, stride, padding)),
                (Pool("max", 3, stride, padding),))


def v2_block17(dilation: int) -> Residual:
    return residual((Conv(192),),
                    (Conv(128), Conv(160, (1, 7), dilation=dilation), Conv(192, (7, 1), dilation=dilation)), scale=0.10)


def v2_reduction_b(padding: str) -> Fork:                                           # 8x8x2080
    return fork((Conv(256), Conv(384, 3, 2, padding)),
                (Conv(256), Conv(288, 3, 2, padding)),
                (Conv(256), Conv(288, 3), Conv(320, 3, 2, padding)),
                (Pool("max", 3, 2, padding),))
# fmt: on


def inception_resnet_v1(*, paper: bool = False) -> Network:
    """Figure 15's network in facenet's form: after five C blocks one more, unscaled and without activation.

    Args:
        paper: bool. Only the five C blocks of the figure.

    Returns:
        The table.
    """
    last: NamedSteps = (
        () if paper else (("Block8_6", residual(*V1_BLOCK8, scale=1.0, activate=False)),)
    )
    return Network(
        name="inception_resnet_v1",
        source="davidsandberg/facenet src/models/inception_resnet_v1.py; Szegedy et al. 2016, arXiv 1602.07261",
        backbone=(
            *_stem(VALID),
            ("Conv2d_4b_3x3", Conv(256, 3, 2, VALID)),
            *_repeated("Block35", 5, V1_BLOCK35),
            ("Mixed_6a", V1_REDUCTION_A),
            *_repeated("Block17", 10, V1_BLOCK17),
            ("Mixed_7a", V1_REDUCTION_B),
            *_repeated("Block8", 5, residual(*V1_BLOCK8, scale=0.20)),
            *last,
        ),
        size=299,
        min_size=75,
        dropout=0.2,
        initializer_stddev=None,
        accuracy="78.7 / 94.5 (paper, single crop)",
    )


def inception_resnet_v2(*, output_stride: int = 16, align_feature_maps: bool = False) -> Network:
    """slim's network, the same as in `keras.applications`.

    Args:
        output_stride: int. 16, or 8 for dilated 17x17 blocks at twice the resolution; slim defines 8 up to
            `PreAuxLogits` only, so the network ends there and needs include_top=False.
        align_feature_maps: bool. Same padding in place of valid, so that feature maps of different sizes align.

    Returns:
        The table.

    Raises:
        UserError: The output stride is neither 8 nor 16.
    """
    if output_stride not in (8, 16):
        raise UserError(f"output_stride must be 8 or 16, got {output_stride!r}")
    dilated = output_stride == 8
    padding = SAME if align_feature_maps else VALID
    backbone: NamedSteps = (
        *_stem(padding),
        ("MaxPool_5a_3x3", Pool("max", 3, 2, padding)),
        ("Mixed_5b", V2_MIXED_5B),
        *_repeated("Block35", 10, V2_BLOCK35),
        ("Mixed_6a", v2_reduction_a(1 if dilated else 2, padding)),
        *_repeated("Block17", 20, v2_block17(2 if dilated else 1), last="PreAuxLogits"),
    )
    if not dilated:
        backbone += (
            ("Mixed_7a", v2_reduction_b(padding)),
            *_repeated("Block8", 9, residual(*V2_BLOCK8, scale=0.20)),
            ("Block8_10", residual(*V2_BLOCK8, scale=1.0, activate=False)),
            ("Conv2d_7b_1x1", Conv(1536)),
        )
    return Network(
        name="inception_resnet_v2",
        source="tensorflow/models research/slim/nets/inception_resnet_v2.py; Szegedy et al. 2016, arXiv 1602.07261",
        backbone=backbone,
        size=299,
        min_size=75,
        dropout=0.2,
        initializer_stddev=None,
        auxiliaries=(he_auxiliary("PreAuxLogits"),),
        backbone_only=dilated,
        accuracy="80.4 / 95.3 (slim, single crop)",
    )
