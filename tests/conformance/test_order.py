# SPDX-License-Identifier: Apache-2.0
"""Names and order are an interface: Keras itself reads weight files by class and order."""

from __future__ import annotations

import zlib

from inception_tf.arch import spec

# CRC-32 of the paths and shapes of all weights, in Keras' order, all heads included.  These record
# our own order, once: a change breaks every file that somebody reads with `model.load_weights`.
FROZEN = {
    "googlenet": 829_294_647,
    "inception_v1": 4_266_050_283,
    "inception": 1_096_419_221,
    "bn_inception": 826_958_733,
    "inception_v2": 3_732_211_183,
    "inception_v3": 1_732_572_669,
    "inception_v4": 4_260_146_926,
    "inception_resnet_v1": 2_866_003_136,
    "inception_resnet_v2": 2_300_207_733,
    "alexnet": 694_957_927,
    "vgg16": 43_870_087,
}


def weighted(model):
    return [layer.name for layer in model.layers if layer.weights]


def test_a_network_is_built_under_its_name(network, full):
    assert full.name == network.name


def test_order_of_the_weights_is_frozen(network, full):
    lines = "\n".join(f"{w.path} {tuple(w.shape)}" for w in full.weights)
    assert zlib.crc32(lines.encode()) == FROZEN[network.name]


def test_first_and_last_weighted_layers_are_the_networks_ends(network, full):
    names = weighted(full)
    heads = {"Logits", *(aux.name for aux in network.auxiliaries)}
    assert names[0] == f"{network.backbone[0][0]}_conv"
    assert names[-1] in heads


def test_every_weighted_layer_is_named_by_position(network, full):
    steps = list(network.backbone)
    for aux in network.auxiliaries:
        steps += [(f"{aux.name}_{name}", step) for name, step in aux.steps]
    places = [place for name, step in steps for place in spec.iter_layers(name, step)]
    kinds = spec.Conv | spec.Separable
    positions = {place.name for place in places if isinstance(place.step, kinds)}
    heads = {"Logits", *(aux.name for aux in network.auxiliaries)}
    assert {name.removesuffix("_conv").removesuffix("_bn") for name in weighted(full)} == (
        positions | heads
    )


def test_names_are_unique_and_without_a_slash(full):
    names = [layer.name for layer in full.layers]
    assert len(set(names)) == len(names)
    assert not [name for name in names if "/" in name]


def test_paths_are_layer_and_variable(full):
    paths = [f"{layer.name}/{w.name}" for layer in full.layers for w in layer.weights]
    assert [w.path for w in full.weights] == paths
