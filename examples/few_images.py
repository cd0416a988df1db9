# SPDX-License-Identifier: Apache-2.0
"""Classes from a few images of each, without training the network: nearest class mean, and a linear probe.

    python examples/few_images.py flowers12 v3.weights.h5 --endpoint Mixed_6e --per-class 8

The features are those of `inception-tf features`.  `plain` takes them as they are.  `whitened` has what helps where
there are few images and many features: the mirrored images as well, features of nearly normal distribution
(Yeo and Johnson 2000), and distances in units of the variation inside the classes, whose covariance is shrunk
(Ledoit and Wolf 2004).  The same network with random weights stands beside the trained one: what it reaches is due to
the architecture and to the colors of the images.
"""

from __future__ import annotations

from dataclasses import replace

import click
import keras
import numpy as np
from folder_features import Images, arguments, features_of, one_sentence, open_both, some_of_each
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import PowerTransformer, StandardScaler


@click.command(help=__doc__.partition("\n")[0])
@arguments
@click.option("--random/--no-random", default=True, help="Compare with random weights.")
@click.option("--seed", default=0, show_default=True, help="Of the random weights.")
@one_sentence()
def main(folder, weights, model, endpoint, per_class, random, seed):
    source, network = open_both(folder, weights, model)
    train, test = some_of_each(source.split("train"), per_class), source.split()
    networks = {weights: network}
    if random:
        keras.utils.set_random_seed(seed)
        networks["random weights"] = replace(network, model=keras.models.clone_model(network.model))
    width = max(map(len, networks))
    for name, one in networks.items():
        known, asked = zip(
            features_of(one, (train, test), endpoint),
            features_of(one, (train, test), endpoint, mirrored=True),
            strict=True,
        )
        if name == weights:
            print(
                f"{len(known[0].paths)} training and {len(asked[0].paths)} test images of {len(source.labels)} classes,"
                f" {known[0].features.shape[1]} features of each"
            )
            print(f"{'':{width}}            nearest class mean  linear probe")
        for way, (fitted, tested) in (
            ("plain", standardized(known[0], asked[0])),
            ("whitened", whitened(known, asked)),
        ):
            mean, probe = nearest_class_mean(fitted, tested), linear_probe(fitted, tested)
            print(f"{name:{width}}  {way:8}  {mean:18.1%}  {probe:12.1%}", flush=True)


def standardized(known: Images, asked: Images) -> tuple[Images, Images]:
    """Each feature with mean 0 and variance 1 over the training images."""
    scaler = StandardScaler().fit(known.features)
    return tuple(replace(one, features=scaler.transform(one.features)) for one in (known, asked))


def whitened(known: tuple[Images, Images], asked: tuple[Images, Images]) -> tuple[Images, Images]:
    """Features in which the images of a class vary by 1 in every direction."""
    features = np.concatenate([one.features for one in known])
    classes = np.concatenate([one.classes for one in known])
    normal = PowerTransformer().fit(features)
    features = normal.transform(features)
    inside = np.empty_like(features)
    for one in np.unique(classes):
        inside[classes == one] = features[classes == one] - features[classes == one].mean(0)
    covariance, _ = ledoit_wolf(inside, assume_centered=True)
    variances, directions = np.linalg.eigh(covariance)
    whitening = directions / np.sqrt(variances)
    image, mirrored = (normal.transform(one.features) for one in asked)
    return (
        Images(known[0].paths + known[1].paths, features @ whitening, classes),
        replace(asked[0], features=(image + mirrored) / 2 @ whitening),
    )


def nearest_class_mean(known: Images, asked: Images) -> float:
    """The accuracy of naming each image after the class whose mean is nearest to it."""
    present = np.unique(known.classes)
    means = np.stack([known.features[known.classes == one].mean(0) for one in present])
    distances = np.linalg.norm(asked.features[:, np.newaxis] - means, axis=2)
    return float(np.mean(present[distances.argmin(1)] == asked.classes))


def linear_probe(known: Images, asked: Images) -> float:
    """The accuracy of logistic regression on the features."""
    probe = LogisticRegression(max_iter=2000).fit(known.features, known.classes)
    return float(probe.score(asked.features, asked.classes))


if __name__ == "__main__":
    main()
