# SPDX-License-Identifier: Apache-2.0
"""The BN paper's networks (Ioffe and Szegedy 2015, arXiv 1502.03167): its baseline, BN-Inception, and slim's V2."""

from __future__ import annotations

from typing import NamedTuple

from inception_tf.arch.spec import (
    AVG,
    HE,
    MAX,
    Conv,
    Fork,
    LocalNorm,
    NamedSteps,
    Network,
    Pool,
    Separable,
    Step,
    fork,
)
from inception_tf.ranges import ABOVE_0

__all__ = ["bn_inception", "inception", "inception_v2"]


class Module(NamedTuple):
    """Branch widths under the column names of Figure 5; 0 for a branch that is absent."""

    n1x1: int
    n3x3_reduce: int
    n3x3: int
    double_reduce: int
    double: int
    pool: Pool
    proj: int


# fmt: off
# Ioffe and Szegedy 2015, Figure 5, with slim's names.  Sizes are height x width x channels at 224 pixels.
MODULES = {
    #            #1x1 #3x3r #3x3 d3x3r d3x3  pool proj     output
    "3b": Module( 64,  64,  64,  64,  96,  AVG,  32),  # 28x28x256   paper: 3a
    "3c": Module( 64,  64,  96,  64,  96,  AVG,  64),  # 28x28x320          3b
    "4a": Module(  0, 128, 160,  64,  96,  MAX,   0),  # 14x14x576          3c, stride 2
    "4b": Module(224,  64,  96,  96, 128,  AVG, 128),  # 14x14x576          4a
    "4c": Module(192,  96, 128,  96, 128,  AVG, 128),  # 14x14x576          4b
    "4d": Module(160, 128, 160, 128, 160,  AVG, 128),  # 14x14x608          4c
    "4e": Module( 96, 128, 192, 160, 192,  AVG, 128),  # 14x14x608          4d
    "5a": Module(  0, 128, 192, 192, 256,  MAX,   0),  # 7x7x1056           4e, stride 2
    "5b": Module(352, 192, 320, 160, 224,  AVG, 128),  # 7x7x1024           5a
    "5c": Module(352, 192, 320, 192, 224,  MAX, 128),  # 7x7x1024           5b
}
# fmt: on

# Standard deviations of slim's initializers, tf_slim/nets/inception_v2.py.
SLIM_STEM, SLIM_REDUCE, SLIM_PROJ = 1.0, 0.09, 0.1


def _module(
    m: Module, reduce_stddev: float | None = None, proj_stddev: float | None = None
) -> Fork:
    """Two 3x3 in place of the 5x5; a module without a 1x1 branch halves the feature map."""
    stride = 1 if m.n1x1 else 2

    def reduce(width: int) -> Conv:
        return Conv(width, stddev=reduce_stddev)

    three = (reduce(m.n3x3_reduce), Conv(m.n3x3, 3, stride))
    double = (reduce(m.double_reduce), Conv(m.double, 3), Conv(m.double, 3, stride))
    if stride == 2:
        return fork(three, double, (Pool(m.pool.kind, 3, 2),))
    return fork((Conv(m.n1x1),), three, double, (m.pool, Conv(m.proj, stddev=proj_stddev)))


def _backbone(
    first: Step, modules: dict[str, Module], *stddevs: float | None, lrn: bool = False
) -> NamedSteps:
    return (
        ("Conv2d_1a_7x7", first),
        ("MaxPool_2a_3x3", Pool("max", 3, 2)),
        *((("LocalNorm_2a", LocalNorm()),) if lrn else ()),
        ("Conv2d_2b_1x1", Conv(64, stddev=stddevs[1] if stddevs else None)),
        ("Conv2d_2c_3x3", Conv(192, 3)),
        *((("LocalNorm_2d", LocalNorm()),) if lrn else ()),
        ("MaxPool_3a_3x3", Pool("max", 3, 2)),
        *((f"Mixed_{name}", _module(m, *stddevs)) for name, m in modules.items()),
    )


NOTES = (
    "The paper states 13.6 million parameters, and at most 128 filters in the two 3x3; its Figure 5, this table, has"
    " 11.3 million, and up to 256 filters there.",
    "Two 3x3 (a caption of the documents has a misprint, two 2x3) stand for each 5x5 of GoogLeNet: between equally many"
    " channels a 5x5 has 25/9 = 2.78 times as many numbers as one 3x3, 25/18 = 1.39 times as many as two.",
)


def _network(
    name: str,
    batch_norm: bool,
    lrn: bool,
    initial_deviation: float | None,
    hidden_batch_norm: bool = False,
) -> Network:
    if initial_deviation is not None:
        ABOVE_0.check("initial_deviation", initial_deviation)
    return Network(
        name=name,
        source="Ioffe and Szegedy 2015, arXiv 1502.03167, Figure 5",
        backbone=_backbone(Conv(64, 7, 2), MODULES, lrn=lrn),
        size=224,
        min_size=32,
        dropout=0.2 if batch_norm else 0.4,
        initializer=initial_deviation or HE,
        aliases=(("AvgPool_1a", "global_pool"),),  # slim's, of V2
        batch_norm=batch_norm,
        hidden_batch_norm=hidden_batch_norm,
        accuracy="74.8 / 92.2 (paper, BN-x30, single crop)"
        if batch_norm
        else "72.2 / - (paper, single crop)",
        notes=NOTES,
    )


def inception(*, lrn: bool = False, initial_deviation: float | None = None) -> Network:
    """The paper's baseline `Inception` of section 4.2: Figure 5 with biases and without batch normalization.

    Args:
        lrn: bool. Add local response normalization to the stem, twice and in the same positions as in GoogLeNet;
            section 4.2.1 mentions it, Figure 5 omits it.
        initial_deviation: float above 0. Draw the kernels of all convolutions from a normal distribution with this
            standard deviation, cut off at two of them, as networks of that time did; None: by He et al. 2015, in
            proportion to the inputs of a kernel.

    Returns:
        The table.

    Raises:
        UserError: The deviation is not above 0.
    """
    return _network("inception", False, lrn, initial_deviation)


def bn_inception(
    *,
    lrn: bool = False,
    hidden_batch_norm: bool = False,
    initial_deviation: float | None = None,
) -> Network:
    """Figure 5 with every Wx normalized before its nonlinearity, section 3.2.

    The paper says 13.6 million parameters; its own table gives 11,295,240 with 1,000 classes.

    Args:
        lrn: bool. As in `inception`; section 4.2.1 removes it.
        hidden_batch_norm: bool. Batch-normalize the pooled features before the logits too, as the networks of the
            ensemble do (section 4.2.3).
        initial_deviation: float above 0. As in `inception`.

    Returns:
        The table.

    Raises:
        UserError: The deviation is not above 0.
    """
    return _network("bn_inception", True, lrn, initial_deviation, hidden_batch_norm)


def inception_v2(*, use_separable_conv: bool = True) -> Network:
    """slim's variant: 96 pooled channels in 4d and 4e, and a separable first convolution.

    Departs from Figure 5 in both.  The separable convolution has a bias and no batch normalization,
    because slim's argument scope covers plain convolutions only.

    Args:
        use_separable_conv: bool. Make the first convolution separable.

    Returns:
        The table.
    """
    narrow = {name: MODULES[name]._replace(proj=96) for name in ("4d", "4e")}
    separable = Separable(64, 7, 2, multiplier=8, stddev=SLIM_STEM)
    return Network(
        name="inception_v2",
        source="tf_slim/nets/inception_v2.py; Ioffe and Szegedy 2015, arXiv 1502.03167, Figure 5",
        backbone=_backbone(
            separable if use_separable_conv else Conv(64, 7, 2, stddev=SLIM_STEM),
            MODULES | narrow,
            SLIM_REDUCE,
            SLIM_PROJ,
        ),
        size=224,
        min_size=32,
        dropout=0.2,
        initializer=HE,
        aliases=(("AvgPool_1a", "global_pool"),),  # slim's, of V2
        accuracy="73.9 / 91.8 (slim, single crop)",
    )
