# SPDX-License-Identifier: Apache-2.0
"""One row a network, with facts from outside only: papers, slim's own tests, keras.applications, published counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    base: int  # parameters without classifiers
    total_1000: int  # parameters with 1,000 classes, moving statistics included
    total_1001: int  # with the background class of slim's released networks
    trainable_1000: int
    auxiliary: int  # more parameters with auxiliary classifiers of 1,000 classes
    convolutions: int
    size: int  # pixels
    dropout: float
    multiply_adds: tuple[float, float]  # range that the published figure allows
    endpoints: dict[str, tuple[int, int, int]]  # at `size`: height, width, channels


# fmt: off
EXPECTED = {
    # base: tf_slim/nets/inception_v1_test.py testModelHasExpectedNumberOfParameters.
    # total_1000: torchvision's GoogLeNet, the same network with gamma (7,280), publishes
    #   6,624,904 trainable = 6,617,624 + 7,280; total adds 14,560 moving statistics.
    # dropout: tf_slim/nets/inception_v1.py dropout_keep_prob=0.8.
    # multiply_adds: Szegedy et al. 2014 budget 1.5e9 for 5x5 kernels; the released ones are smaller.
    # endpoints: the documents' Table 1, with slim's names (inception_v1_test.py
    #   testBuildAndCheckAllEndPointsUptoMixed5c).
    "inception_v1": Row(
        base=5_607_184, total_1000=6_632_184, total_1001=6_633_209, trainable_1000=6_617_624,
        auxiliary=0, convolutions=57, size=224, dropout=0.2, multiply_adds=(1.4e9, 1.6e9),
        endpoints={
            "Conv2d_1a_7x7":  (112, 112, 64),
            "MaxPool_2a_3x3": (56, 56, 64),
            "Conv2d_2b_1x1":  (56, 56, 64),
            "Conv2d_2c_3x3":  (56, 56, 192),
            "MaxPool_3a_3x3": (28, 28, 192),
            "Mixed_3b":       (28, 28, 256),
            "Mixed_3c":       (28, 28, 480),
            "MaxPool_4a_3x3": (14, 14, 480),
            "Mixed_4b":       (14, 14, 512),
            "Mixed_4c":       (14, 14, 512),
            "Mixed_4d":       (14, 14, 512),
            "Mixed_4e":       (14, 14, 528),
            "Mixed_4f":       (14, 14, 832),
            "MaxPool_5a_2x2": (7, 7, 832),
            "Mixed_5b":       (7, 7, 832),
            "Mixed_5c":       (7, 7, 1024),
        },
    ),
    # base: tf_slim/nets/inception_v3_test.py testModelHasExpectedNumberOfParameters.
    # total_1000: keras.applications' table.  auxiliary: torchvision's Inception3 with its
    #   auxiliary classifier publishes 27,161,264 = 23,834,568 + 3,326,696, gamma counted and
    #   moving statistics not: 3,326,696 - 896 + 1,792 = 3,327,592.
    # dropout: tf_slim/nets/inception_v3.py dropout_keep_prob=0.8.
    # multiply_adds: the documents' "5e9"; Szegedy et al. 2015 "5 billion"; torchvision counts 5.71e9.
    # endpoints: the documents' Table 2, with slim's names (inception_v3_test.py
    #   testBuildAndCheckAllEndPointsUptoMixed7c).
    "inception_v3": Row(
        base=21_802_784, total_1000=23_851_784, total_1001=23_853_833, trainable_1000=23_817_352,
        auxiliary=3_327_592, convolutions=94, size=299, dropout=0.2, multiply_adds=(5.0e9, 5.8e9),
        endpoints={
            "Conv2d_1a_3x3":  (149, 149, 32),
            "Conv2d_2a_3x3":  (147, 147, 32),
            "Conv2d_2b_3x3":  (147, 147, 64),
            "MaxPool_3a_3x3": (73, 73, 64),
            "Conv2d_3b_1x1":  (73, 73, 80),
            "Conv2d_4a_3x3":  (71, 71, 192),
            "MaxPool_5a_3x3": (35, 35, 192),
            "Mixed_5b":       (35, 35, 256),
            "Mixed_5c":       (35, 35, 288),
            "Mixed_5d":       (35, 35, 288),
            "Mixed_6a":       (17, 17, 768),
            "Mixed_6b":       (17, 17, 768),
            "Mixed_6c":       (17, 17, 768),
            "Mixed_6d":       (17, 17, 768),
            "Mixed_6e":       (17, 17, 768),
            "Mixed_7a":       (8, 8, 1280),
            "Mixed_7b":       (8, 8, 2048),
            "Mixed_7c":       (8, 8, 2048),
        },
    ),
}
# fmt: on
