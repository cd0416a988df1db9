# SPDX-License-Identifier: Apache-2.0
"""The baselines that the Inception networks are measured against: AlexNet and VGG-16, as slim has them."""

from __future__ import annotations

from inception_tf.arch.spec import SAME, VALID, XAVIER, Conv, Dropout, Network, Pool, Step

__all__ = ["alexnet", "vgg16"]

# fmt: off
# Krizhevsky 2014, arXiv 1404.5997, one column; slim omits the local response normalizations.  Sizes at 224 pixels.
ALEXNET = (
    ("conv1", Conv(64, 11, 4, VALID)),      # 54x54x64
    ("pool1", Pool("max", 3, 2, VALID)),    # 26x26x64
    ("conv2", Conv(192, 5)),                # 26x26x192
    ("pool2", Pool("max", 3, 2, VALID)),    # 12x12x192
    ("conv3", Conv(384, 3)),
    ("conv4", Conv(384, 3)),
    ("conv5", Conv(256, 3)),                # 12x12x256
    ("pool5", Pool("max", 3, 2, VALID)),    # 5x5x256
    ("fc6", Conv(4096, 5, 1, VALID, stddev=0.005)),
    ("dropout6", Dropout(0.5)),
    ("fc7", Conv(4096, stddev=0.005)),
)
# fmt: on


def alexnet() -> Network:
    """AlexNet with its fully connected layers as convolutions over the 5x5 feature map, as in slim.

    Returns:
        The table.
    """
    return Network(
        name="alexnet",
        source="tf_slim/nets/alexnet.py alexnet_v2; Krizhevsky 2014, arXiv 1404.5997",
        backbone=ALEXNET,
        size=224,
        min_size=195,  # leaves 5x5 for fc6
        dropout=0.5,
        initializer=XAVIER,
        logits_initializer=0.005,
        bias=0.1,
        aliases=(("fc8", "Logits"),),
        batch_norm=False,
    )


def vgg16() -> Network:
    """VGG-16: column D of Table 1.

    Returns:
        The table.
    """
    convolutions: list[tuple[str, Step]] = []
    for block, (count, width) in enumerate(
        ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)), start=1
    ):
        convolutions += [
            (f"conv{block}_{number}", Conv(width, 3, 1, SAME)) for number in range(1, count + 1)
        ]
        convolutions.append((f"pool{block}", Pool("max", 2, 2, VALID)))
    return Network(
        name="vgg16",
        source="tf_slim/nets/vgg.py vgg_16; Simonyan and Zisserman 2014, arXiv 1409.1556, Table 1 D",
        backbone=(
            *convolutions,
            ("fc6", Conv(4096, 7, 1, VALID)),
            ("dropout6", Dropout(0.5)),
            ("fc7", Conv(4096)),
        ),
        size=224,
        min_size=224,  # leaves 7x7 for fc6
        dropout=0.5,
        initializer=XAVIER,
        logits_initializer=XAVIER,
        aliases=(("fc8", "Logits"),),
        batch_norm=False,
        accuracy="71.5 / 89.8 (slim, single crop)",
    )
