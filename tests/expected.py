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
    convolutions: int  # before the classifier, linear and separable ones included
    size: int  # pixels
    dropout: float
    multiply_adds: tuple[float, float]  # range that the published figure allows
    endpoints: dict[str, tuple[int, int, int]]  # at `size`: height, width, channels


# fmt: off
# Ioffe and Szegedy 2015, Figure 5, with slim's names.  In 4d and 4e the figure prints 576 channels, and
# 1,024 after them; its own widths give 160 + 160 + 160 + 128 = 608, 96 + 192 + 192 + 128 = 608 and
# 192 + 256 + 608 = 1,056.
FIGURE_5 = {
    "Conv2d_1a_7x7":  (112, 112, 64),
    "MaxPool_2a_3x3": (56, 56, 64),
    "Conv2d_2b_1x1":  (56, 56, 64),
    "Conv2d_2c_3x3":  (56, 56, 192),
    "MaxPool_3a_3x3": (28, 28, 192),
    "Mixed_3b":       (28, 28, 256),
    "Mixed_3c":       (28, 28, 320),
    "Mixed_4a":       (14, 14, 576),
    "Mixed_4b":       (14, 14, 576),
    "Mixed_4c":       (14, 14, 576),
    "Mixed_4d":       (14, 14, 608),
    "Mixed_4e":       (14, 14, 608),
    "Mixed_5a":       (7, 7, 1056),
    "Mixed_5b":       (7, 7, 1024),
    "Mixed_5c":       (7, 7, 1024),
}

EXPECTED = {
    # total_1000, trainable_1000: the documents' 6,998,552, which Table 1's widths with biases give by
    #   hand; BVLC's bvlc_googlenet.caffemodel holds as many.  auxiliary: the documents' 13,378,280
    #   with both heads, 3,188,840 on 512 channels and 3,190,888 on 528.
    # dropout: Table 1, dropout (40 %).
    # multiply_adds: Szegedy et al. 2014, a budget of 1.5e9; osmr/imgclsmob counts 1.6e9 in Caffe's.
    # endpoints: Table 1, with slim's names; a normalization keeps its shape.
    "googlenet": Row(
        base=5_973_552, total_1000=6_998_552, total_1001=6_999_577, trainable_1000=6_998_552,
        auxiliary=3_188_840 + 3_190_888, convolutions=57, size=224, dropout=0.4,
        multiply_adds=(1.5e9, 1.6e9),
        endpoints={
            "Conv2d_1a_7x7":  (112, 112, 64),
            "MaxPool_2a_3x3": (56, 56, 64),
            "LocalNorm_2a":   (56, 56, 64),
            "Conv2d_2b_1x1":  (56, 56, 64),
            "Conv2d_2c_3x3":  (56, 56, 192),
            "LocalNorm_2d":   (56, 56, 192),
            "MaxPool_3a_3x3": (28, 28, 192),
            "Mixed_3b":       (28, 28, 256),
            "Mixed_3c":       (28, 28, 480),
            "MaxPool_4a_3x3": (14, 14, 480),
            "Mixed_4b":       (14, 14, 512),
            "Mixed_4c":       (14, 14, 512),
            "Mixed_4d":       (14, 14, 512),
            "Mixed_4e":       (14, 14, 528),
            "Mixed_4f":       (14, 14, 832),
            "MaxPool_5a_3x3": (7, 7, 832),
            "Mixed_5b":       (7, 7, 832),
            "Mixed_5c":       (7, 7, 1024),
        },
    ),
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
    # No one publishes a count.  Derived: Figure 5 with biases has what bn_inception trains, a bias in
    #   each beta's place, and no moving statistics, two a channel: 11,295,240 - 20,032.
    # dropout: Szegedy et al. 2014, Table 1, 40 %; the paper says "identical" but for what it lists.
    # multiply_adds, endpoints: those of bn_inception.
    "inception": Row(
        base=11_275_208 - 1_025_000, total_1000=11_275_208, total_1001=11_275_208 + 1_025,
        trainable_1000=11_275_208,
        auxiliary=0, convolutions=69, size=224, dropout=0.4, multiply_adds=(2.0e9, 2.1e9),
        endpoints=FIGURE_5,
    ),
    # total_1000, trainable_1000: the documents' 11,295,240 and 11,275,208; osmr/imgclsmob publishes
    #   11,295,240 for bninception, with a bias and a gamma for our two moving statistics.
    # dropout: tf_slim/nets/inception_v2.py dropout_keep_prob=0.8.
    # multiply_adds: osmr/imgclsmob counts 2.05e9.
    # endpoints: Ioffe and Szegedy 2015, Figure 5, with slim's names.
    "bn_inception": Row(
        base=10_270_240, total_1000=11_295_240, total_1001=11_296_265, trainable_1000=11_275_208,
        auxiliary=0, convolutions=69, size=224, dropout=0.2, multiply_adds=(2.0e9, 2.1e9),
        endpoints=FIGURE_5,
    ),
    # base: tf_slim/nets/inception_v2_test.py testModelHasExpectedNumberOfParameters.
    # total_1000: base and a classifier of 1,024 x 1,000 + 1,000; so do the others.
    # dropout: tf_slim/nets/inception_v2.py dropout_keep_prob=0.8.
    # multiply_adds: bn_inception's 2.05e9 with a cheaper stem and 2 x 32 fewer channels.
    # endpoints: inception_v2_test.py testBuildAndCheckAllEndPointsUptoMixed5c.
    "inception_v2": Row(
        base=10_173_112, total_1000=11_198_112, total_1001=11_199_137, trainable_1000=11_178_336,
        auxiliary=0, convolutions=69, size=224, dropout=0.2, multiply_adds=(1.8e9, 2.05e9),
        endpoints=FIGURE_5 | {
            "Mixed_4d":       (14, 14, 576),
            "Mixed_4e":       (14, 14, 576),
            "Mixed_5a":       (7, 7, 1024),
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
    # total_1000: timm's inception_v4 has 42,679,816 trainable ones with gamma, 31,584; without it
    #   42,648,232, and 63,168 moving statistics make 42,711,400.  auxiliary: (17 - 5) / 3 + 1 = 5
    #   places: 1,024 x 128 + 3 x 128, 25 x 128 x 768 + 3 x 768, 768 x 1,000 + 1,000.
    # convolutions: 11 in the stem, 4 x 7, 4, 7 x 10, 6 and 3 x 10 of Figures 3 to 9.
    # dropout: slim inception_v4.py dropout_keep_prob=0.8.  multiply_adds: timm publishes 12.28e9.
    # endpoints: slim inception_v4_test.py testAllEndPointsShapes.
    "inception_v4": Row(
        base=41_174_400, total_1000=42_711_400, total_1001=42_712_937, trainable_1000=42_648_232,
        auxiliary=3_360_360, convolutions=149, size=299, dropout=0.2, multiply_adds=(12.2e9, 12.3e9),
        endpoints={
            "Conv2d_1a_3x3":  (149, 149, 32),
            "Conv2d_2a_3x3":  (147, 147, 32),
            "Conv2d_2b_3x3":  (147, 147, 64),
            "Mixed_3a":       (73, 73, 160),
            "Mixed_4a":       (71, 71, 192),
            "Mixed_5a":       (35, 35, 384),
            **{f"Mixed_5{letter}": (35, 35, 384) for letter in "bcde"},
            **{f"Mixed_6{letter}": (17, 17, 1024) for letter in "abcdefgh"},
            **{f"Mixed_7{letter}": (8, 8, 1536) for letter in "abcd"},
        },
    ),
    # total_1000: osmr/imgclsmob publishes 23,995,624 trainable ones with gamma, 14,288, and a head of
    #   1,792 x 512 without bias, 2 x 512 for its normalization, 512 x 1,000 + 1,000: 1,431,528 where
    #   a plain classifier has 1,793,000.  23,995,624 - 1,431,528 + 1,793,000 - 14,288 = 24,342,808
    #   trainable ones, and 28,576 moving statistics.
    # convolutions: 6 in the stem, 5 x 7, 4, 10 x 5, 7 and 6 x 5 in facenet's file.
    # dropout: facenet inception_resnet_v1.py dropout_keep_prob=0.8.
    # multiply_adds: osmr/imgclsmob counts 6.33e9.
    # endpoints: the comments of facenet's file, Figures 10 to 15 of the paper for the widths.
    "inception_resnet_v1": Row(
        base=22_578_384, total_1000=24_371_384, total_1001=24_373_177, trainable_1000=24_342_808,
        auxiliary=0, convolutions=132, size=299, dropout=0.2, multiply_adds=(6.2e9, 6.4e9),
        endpoints={
            "Conv2d_1a_3x3":  (149, 149, 32),
            "Conv2d_2a_3x3":  (147, 147, 32),
            "Conv2d_2b_3x3":  (147, 147, 64),
            "MaxPool_3a_3x3": (73, 73, 64),
            "Conv2d_3b_1x1":  (73, 73, 80),
            "Conv2d_4a_3x3":  (71, 71, 192),
            "Conv2d_4b_3x3":  (35, 35, 256),
            **{f"Block35_{n}": (35, 35, 256) for n in range(1, 6)},
            "Mixed_6a":       (17, 17, 896),
            **{f"Block17_{n}": (17, 17, 896) for n in range(1, 11)},
            "Mixed_7a":       (8, 8, 1792),
            **{f"Block8_{n}": (8, 8, 1792) for n in range(1, 7)},
        },
    ),
    # base, total_1000, trainable_1000: keras.applications' InceptionResNetV2.  auxiliary: as V4's, on
    #   1,088 channels: 64 x 128 more.
    # dropout: slim inception_resnet_v2.py dropout_keep_prob=0.8.  multiply_adds: timm publishes 13.18e9.
    # endpoints: slim inception_resnet_v2_test.py, comments of inception_resnet_v2.py; the blocks
    #   between, which slim does not list, keep their grid.
    "inception_resnet_v2": Row(
        base=54_336_736, total_1000=55_873_736, total_1001=55_875_273, trainable_1000=55_813_192,
        auxiliary=3_368_552, convolutions=244, size=299, dropout=0.2, multiply_adds=(13.1e9, 13.2e9),
        endpoints={
            "Conv2d_1a_3x3":  (149, 149, 32),
            "Conv2d_2a_3x3":  (147, 147, 32),
            "Conv2d_2b_3x3":  (147, 147, 64),
            "MaxPool_3a_3x3": (73, 73, 64),
            "Conv2d_3b_1x1":  (73, 73, 80),
            "Conv2d_4a_3x3":  (71, 71, 192),
            "MaxPool_5a_3x3": (35, 35, 192),
            "Mixed_5b":       (35, 35, 320),
            **{f"Block35_{n}": (35, 35, 320) for n in range(1, 11)},
            "Mixed_6a":       (17, 17, 1088),
            **{f"Block17_{n}": (17, 17, 1088) for n in range(1, 20)},
            "PreAuxLogits":   (17, 17, 1088),
            "Mixed_7a":       (8, 8, 2080),
            **{f"Block8_{n}": (8, 8, 2080) for n in range(1, 11)},
            "Conv2d_7b_1x1":  (8, 8, 1536),
        },
    ),
    # Counted in the variables of tf_slim's alexnet_v2, which test_slim_parity.py builds.
    # dropout: tf_slim/nets/alexnet.py dropout_keep_prob=0.5.
    # multiply_adds: torchvision publishes 0.714e9, with narrower conv4 and conv5 on larger grids.
    # endpoints: the shapes of tf_slim's end_points.
    "alexnet": Row(
        base=50_303_912 - 4_097_000, total_1000=50_303_912, total_1001=50_303_912 + 4_097,
        trainable_1000=50_303_912,
        auxiliary=0, convolutions=7, size=224, dropout=0.5, multiply_adds=(0.7e9, 0.8e9),
        endpoints={
            "conv1":    (54, 54, 64),
            "pool1":    (26, 26, 64),
            "conv2":    (26, 26, 192),
            "pool2":    (12, 12, 192),
            "conv3":    (12, 12, 384),
            "conv4":    (12, 12, 384),
            "conv5":    (12, 12, 256),
            "pool5":    (5, 5, 256),
            "fc6":      (1, 1, 4096),
            "dropout6": (1, 1, 4096),
            "fc7":      (1, 1, 4096),
        },
    ),
    # total_1000: keras.applications' VGG16.  dropout: tf_slim/nets/vgg.py dropout_keep_prob=0.5.
    # multiply_adds: torchvision publishes 15.47e9.
    # endpoints: Simonyan and Zisserman 2014, Table 1 D.
    "vgg16": Row(
        base=138_357_544 - 4_097_000, total_1000=138_357_544, total_1001=138_357_544 + 4_097,
        trainable_1000=138_357_544,
        auxiliary=0, convolutions=15, size=224, dropout=0.5, multiply_adds=(15.4e9, 15.5e9),
        endpoints={
            **{f"conv1_{n}": (224, 224, 64) for n in (1, 2)},
            "pool1":    (112, 112, 64),
            **{f"conv2_{n}": (112, 112, 128) for n in (1, 2)},
            "pool2":    (56, 56, 128),
            **{f"conv3_{n}": (56, 56, 256) for n in (1, 2, 3)},
            "pool3":    (28, 28, 256),
            **{f"conv4_{n}": (28, 28, 512) for n in (1, 2, 3)},
            "pool4":    (14, 14, 512),
            **{f"conv5_{n}": (14, 14, 512) for n in (1, 2, 3)},
            "pool5":    (7, 7, 512),
            "fc6":      (1, 1, 4096),
            "dropout6": (1, 1, 4096),
            "fc7":      (1, 1, 4096),
        },
    ),
}
# fmt: on
