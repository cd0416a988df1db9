# SPDX-License-Identifier: Apache-2.0
"""Inception-ResNet v1 and v2 (Szegedy et al. 2016, arXiv 1602.07261), as facenet and slim released them."""

from __future__ import annotations

from inception_tf.arch.spec import (
    AVG,
    SAME,
    VALID,
    XAVIER,
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
from inception_tf.models import inception_v4
from inception_tf.ranges import Range

__all__ = ["inception_resnet_v1", "inception_resnet_v2"]

RESIDUAL_SCALE = Range(0, 1, above=True)


def _repeated(name: str, count: int, step: Step, last: str | None = None) -> NamedSteps:
    """`Block35_1`, `Block35_2`, ...; `last` is the name of the last endpoint, if it has a special one."""
    names = [f"{name}_{number}" for number in range(1, count + 1)]
    if last:
        names[-1] = last
    return tuple((name, step) for name in names)


def residual(*branches: Branch, scale: float, activate: bool = True) -> Residual:
    return Residual(branches, scale, activate)


def _scales(residual_scale: float | None) -> tuple[float, float, float]:
    """Of the blocks on the 35x35, 17x17 and 8x8 grids: slim's and facenet's, or one for all."""
    if residual_scale is None:
        return 0.17, 0.10, 0.20
    RESIDUAL_SCALE.check("residual_scale", residual_scale)
    return (residual_scale,) * 3


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
V1_BLOCK35 = ((Conv(32),),
              (Conv(32), Conv(32, 3)),
              (Conv(32), Conv(32, 3), Conv(32, 3)))
V1_BLOCK17 = ((Conv(128),),
              (Conv(128), Conv(128, (1, 7)), Conv(128, (7, 1))))
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
V2_BLOCK35 = ((Conv(32),),
              (Conv(32), Conv(32, 3)),
              (Conv(32), Conv(48, 3), Conv(64, 3)))
V2_BLOCK8 = ((Conv(192),),
             (Conv(192), Conv(224, (1, 3)), Conv(256, (3, 1))))


def v2_reduction_a(stride: int, padding: str) -> Fork:                              # 17x17x1088
    return fork((Conv(384, 3, stride, padding),),
                (Conv(256), Conv(256, 3), Conv(384, 3, stride, padding)),
                (Pool("max", 3, stride, padding),))


def v2_block17(dilation: int, scale: float) -> Residual:
    return residual((Conv(192),),
                    (Conv(128), Conv(160, (1, 7), dilation=dilation), Conv(192, (7, 1), dilation=dilation)), scale=scale)


def v2_reduction_b(padding: str) -> Fork:                                           # 8x8x2080
    return fork((Conv(256), Conv(384, 3, 2, padding)),
                (Conv(256), Conv(288, 3, 2, padding)),
                (Conv(256), Conv(288, 3), Conv(320, 3, 2, padding)),
                (Pool("max", 3, 2, padding),))
# fmt: on


def inception_resnet_v1(*, paper: bool = False, residual_scale: float | None = None) -> Network:
    """Figure 15's network in facenet's form: after five C blocks one more, unscaled and without activation.

    Args:
        paper: bool. Only the five C blocks of the figure.
        residual_scale: float in (0, 1]. Factor on the residuals of all blocks; None: 0.17, 0.10 and 0.20.  The sixth C
            block has no factor.

    Returns:
        The table.

    Raises:
        UserError: The scale is out of range.
    """
    scale_35, scale_17, scale_8 = _scales(residual_scale)
    last: NamedSteps = (
        () if paper else (("Block8_6", residual(*V1_BLOCK8, scale=1.0, activate=False)),)
    )
    return Network(
        name="inception_resnet_v1",
        source="davidsandberg/facenet src/models/inception_resnet_v1.py; Szegedy et al. 2016, arXiv 1602.07261",
        backbone=(
            *_stem(VALID),
            ("Conv2d_4b_3x3", Conv(256, 3, 2, VALID)),
            *_repeated("Block35", 5, residual(*V1_BLOCK35, scale=scale_35)),
            ("Mixed_6a", V1_REDUCTION_A),
            *_repeated("Block17", 10, residual(*V1_BLOCK17, scale=scale_17)),
            ("Mixed_7a", V1_REDUCTION_B),
            *_repeated("Block8", 5, residual(*V1_BLOCK8, scale=scale_8)),
            *last,
        ),
        size=299,
        min_size=75,
        dropout=0.2,
        initializer=XAVIER,
        logits_initializer=XAVIER,
        aliases=(  # facenet's
            ("Mixed_5a", "Block35_5"),
            ("Mixed_6b", "Block17_10"),
            ("Mixed_8a", "Block8_5"),
            *(() if paper else (("Mixed_8b", "Block8_6"),)),
            ("PrePool", "Block8_5" if paper else "Block8_6"),
            ("PreLogitsFlatten", "PreLogits"),
        ),
        accuracy="78.7 / 94.5 (paper, single crop)",
    )


def inception_resnet_v2(
    *,
    output_stride: int = 16,
    align_feature_maps: bool = False,
    paper: bool = False,
    residual_scale: float | None = None,
) -> Network:
    """slim's network, the same as in `keras.applications`, or the paper's.

    Args:
        output_stride: int. 16, or 8 for dilated 17x17 blocks at twice the resolution; slim defines 8 up to
            `PreAuxLogits` only, so the network ends there and needs include_top=False.
        align_feature_maps: bool. Same padding in place of valid, so that feature maps of different sizes align.
        paper: bool. The paper's network: V4's stem, 5, 10 and 5 blocks, and no convolution after them.  Figure 17
            prints 1154 and Figure 19 2048 filters where the reductions give 1152 and 2144, which a sum needs.
        residual_scale: float in (0, 1]. Factor on the residuals of all blocks, which the paper suggests between 0.1
            and 0.3; None: slim's 0.17, 0.10 and 0.20.  slim's last block has no factor.

    Returns:
        The table.

    Raises:
        UserError: The output stride is neither 8 nor 16, the scale is out of range, or `paper` is combined with a
            switch of slim's.
    """
    if output_stride not in (8, 16):
        raise UserError(f"output_stride must be 8 or 16, got {output_stride!r}")
    if paper and (output_stride == 8 or align_feature_maps):
        raise UserError(
            "paper=True is the network of the paper, which has neither output_stride=8 nor align_feature_maps; omit them"
        )
    scales = _scales(residual_scale)
    backbone = (
        _v2_of_the_paper(*scales)
        if paper
        else _v2_of_slim(output_stride == 8, SAME if align_feature_maps else VALID, *scales)
    )
    return Network(
        name="inception_resnet_v2",
        source="tensorflow/models research/slim/nets/inception_resnet_v2.py; Szegedy et al. 2016, arXiv 1602.07261",
        backbone=backbone,
        size=299,
        min_size=75,
        dropout=0.2,
        initializer=XAVIER,  # slim's settings name no initializer
        logits_initializer=XAVIER,
        decays_biases=True,
        aliases=(("PreLogitsFlatten", "PreLogits"),),
        auxiliaries=(inception_v4.auxiliary("PreAuxLogits"),),
        backbone_only=output_stride == 8,
        accuracy="80.1 / 95.1 (paper, single crop)" if paper else "80.4 / 95.3 (slim, single crop)",
    )


def _v2_of_slim(
    dilated: bool, padding: str, scale_35: float, scale_17: float, scale_8: float
) -> NamedSteps:
    backbone: NamedSteps = (
        *_stem(padding),
        ("MaxPool_5a_3x3", Pool("max", 3, 2, padding)),
        ("Mixed_5b", V2_MIXED_5B),
        *_repeated("Block35", 10, residual(*V2_BLOCK35, scale=scale_35)),
        ("Mixed_6a", v2_reduction_a(1 if dilated else 2, padding)),
        *_repeated("Block17", 20, v2_block17(2 if dilated else 1, scale_17), last="PreAuxLogits"),
    )
    if dilated:
        return backbone
    return (
        *backbone,
        ("Mixed_7a", v2_reduction_b(padding)),
        *_repeated("Block8", 9, residual(*V2_BLOCK8, scale=scale_8)),
        ("Block8_10", residual(*V2_BLOCK8, scale=1.0, activate=False)),
        ("Conv2d_7b_1x1", Conv(1536)),
    )


def _v2_of_the_paper(scale_35: float, scale_17: float, scale_8: float) -> NamedSteps:
    """Figure 15 with the stem of Figure 3 and the blocks of Figures 16 to 19; k, l, m, n of Table 1 in the reduction."""
    return (
        *inception_v4.STEM,  # 35x35x384
        *_repeated("Block35", 5, residual(*V2_BLOCK35, scale=scale_35)),
        ("Mixed_6a", v2_reduction_a(2, VALID)),  # 17x17x1152
        *_repeated("Block17", 10, v2_block17(1, scale_17), last="PreAuxLogits"),
        ("Mixed_7a", v2_reduction_b(VALID)),  # 8x8x2144
        *_repeated("Block8", 5, residual(*V2_BLOCK8, scale=scale_8)),
    )
