# SPDX-License-Identifier: Apache-2.0
"""GoogLeNet, the first Inception (Szegedy et al. 2014, arXiv 1409.4842): the paper's, and the one that slim released."""

from __future__ import annotations

from typing import NamedTuple

from inception_tf.arch.spec import (
    CAFFE_XAVIER,
    CEIL,
    MAX,
    SAME,
    VALID,
    AdaptivePool,
    Auxiliary,
    Conv,
    Fork,
    LocalNorm,
    NamedSteps,
    Network,
    Pool,
    fork,
)

__all__ = ["googlenet", "inception_v1"]


class Module(NamedTuple):
    """Branch widths under the column names of Table 1."""

    n1x1: int
    n3x3_reduce: int
    n3x3: int
    n5x5_reduce: int
    n5x5: int
    pool_proj: int


# fmt: off
# Szegedy et al. 2014, Table 1, with slim's names.  Sizes are height x width x channels at 224 pixels.
MODULES = {
    #              #1x1  #3x3r #3x3  #5x5r #5x5  pool      output
    "3b": Module(   64,   96,  128,   16,   32,   32),  # 28x28x256    paper: 3a
    "3c": Module(  128,  128,  192,   32,   96,   64),  # 28x28x480           3b
    "4b": Module(  192,   96,  208,   16,   48,   64),  # 14x14x512           4a
    "4c": Module(  160,  112,  224,   24,   64,   64),  # 14x14x512           4b
    "4d": Module(  128,  128,  256,   24,   64,   64),  # 14x14x512           4c
    "4e": Module(  112,  144,  288,   32,   64,   64),  # 14x14x528           4d
    "4f": Module(  256,  160,  320,   32,  128,  128),  # 14x14x832           4e
    "5b": Module(  256,  160,  320,   32,  128,  128),  # 7x7x832             5a
    "5c": Module(  384,  192,  384,   48,  128,  128),  # 7x7x1024            5b
}
# fmt: on


def module(m: Module, wide: int) -> Fork:
    """Figure 2b: 1x1, 3x3, `wide` x `wide` and pooled branches, each with its 1x1 convolution."""
    return fork(
        (Conv(m.n1x1),),
        (Conv(m.n3x3_reduce), Conv(m.n3x3, 3)),
        (Conv(m.n5x5_reduce), Conv(m.n5x5, wide)),
        (MAX, Conv(m.pool_proj)),
    )


def _mixed(wide: int, *names: str) -> NamedSteps:
    return tuple((f"Mixed_{name}", module(MODULES[name], wide)) for name in names)


def googlenet(*, batch_norm: bool = False, lrn: bool = True) -> Network:
    """Table 1 as printed: 5x5, biases, local response normalization, two auxiliary classifiers.

    Padding and initial weights are Caffe's, as BVLC trained it: three zeros around the first convolution, pools in
    ceil mode; Caffe's Xavier, and biases of convolutions that begin at 0.2.

    Args:
        batch_norm: bool. Normalize after every convolution, in place of its bias.
        lrn: bool. Local response normalization, twice in the stem.

    Returns:
        The table.
    """
    pool = Pool("max", 3, 2, CEIL)
    return Network(
        name="googlenet",
        source="Szegedy et al. 2014, arXiv 1409.4842, Table 1; BVLC Caffe bvlc_googlenet",
        backbone=(
            ("Conv2d_1a_7x7", Conv(64, 7, 2, padding=3)),
            ("MaxPool_2a_3x3", pool),
            *((("LocalNorm_2a", LocalNorm()),) if lrn else ()),
            ("Conv2d_2b_1x1", Conv(64)),
            ("Conv2d_2c_3x3", Conv(192, 3)),
            *((("LocalNorm_2d", LocalNorm()),) if lrn else ()),
            ("MaxPool_3a_3x3", pool),
            *_mixed(5, "3b", "3c"),
            ("MaxPool_4a_3x3", pool),
            *_mixed(5, "4b", "4c", "4d", "4e", "4f"),
            ("MaxPool_5a_3x3", pool),
            *_mixed(5, "5b", "5c"),
        ),
        size=224,
        min_size=32,
        dropout=0.4,
        initializer=CAFFE_XAVIER,
        logits_initializer=CAFFE_XAVIER,
        bias=0.2,
        auxiliaries=(
            _auxiliary("AuxLogits_1", "aux_predictions_1", after="Mixed_4b"),
            _auxiliary("AuxLogits_2", "aux_predictions_2", after="Mixed_4e"),
        ),
        batch_norm=batch_norm,
        accuracy="68.7 / 88.9 (BVLC, single crop)",
    )


def _auxiliary(name: str, output: str, after: str) -> Auxiliary:
    """Section 5: the fully connected layer of 1,024 is a 4x4 convolution over the pooled 4x4 feature map."""
    return Auxiliary(
        name=name,
        output=output,
        after=after,
        steps=(
            ("AvgPool_1a_5x5", Pool("avg", 5, 3, VALID)),
            ("Conv2d_1b_1x1", Conv(128)),
            ("Conv2d_2a_4x4", Conv(1024, 4, 1, VALID)),
        ),
        loss_weight=0.3,
        dropout=0.7,
    )


def _torch_auxiliary(name: str, output: str, after: str) -> Auxiliary:
    """torchvision's: pooled to 4x4 whatever the image's size, batch normalization after the 1x1 alone."""
    return Auxiliary(
        name=name,
        output=output,
        after=after,
        steps=(
            ("AvgPool_1a_5x5", AdaptivePool(4)),
            ("Conv2d_1b_1x1", Conv(128)),
            ("Conv2d_2a_4x4", Conv(1024, 4, 1, VALID, biased=True)),
        ),
        loss_weight=0.3,
        dropout=0.7,
    )


def inception_v1(*, torch_padding: bool = False) -> Network:
    """slim's GoogLeNet.

    Departs from Table 1 as the released network does: batch normalization everywhere, 3x3 where the
    paper has 5x5, a 2x2 last pooling, no local response normalization, no auxiliary classifiers.

    Args:
        torch_padding: bool. Padding, and two auxiliary classifiers, as in torchvision's GoogLeNet, whose weights
            require both.

    Returns:
        The table.
    """
    stem, pools = (3, CEIL) if torch_padding else (SAME, SAME)
    return Network(
        name="inception_v1",
        source="tf_slim/nets/inception_v1.py; Szegedy et al. 2014, arXiv 1409.4842, Table 1",
        backbone=(
            ("Conv2d_1a_7x7", Conv(64, 7, 2, padding=stem)),
            ("MaxPool_2a_3x3", Pool("max", 3, 2, pools)),
            ("Conv2d_2b_1x1", Conv(64)),
            ("Conv2d_2c_3x3", Conv(192, 3)),
            ("MaxPool_3a_3x3", Pool("max", 3, 2, pools)),
            *_mixed(3, "3b", "3c"),
            ("MaxPool_4a_3x3", Pool("max", 3, 2, pools)),
            *_mixed(3, "4b", "4c", "4d", "4e", "4f"),
            ("MaxPool_5a_2x2", Pool("max", 2, 2, pools)),
            *_mixed(3, "5b", "5c"),
        ),
        size=224,
        min_size=32,
        dropout=0.2,  # slim keeps 0.8; the paper drops 0.4
        initializer=0.01,
        aliases=(("AvgPool_0a_7x7", "global_pool"),),
        auxiliaries=(
            _torch_auxiliary("AuxLogits_1", "aux_predictions_1", after="Mixed_4b"),
            _torch_auxiliary("AuxLogits_2", "aux_predictions_2", after="Mixed_4e"),
        )
        if torch_padding
        else (),
        accuracy="69.8 / 89.6 (slim, single crop)",
    )
