# SPDX-License-Identifier: Apache-2.0
"""The networks with one module of each kind, for what is the same at any depth."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re

from inception_tf import models
from inception_tf.arch import spec
from inception_tf.arch.spec import Fork

# Of a network's steps those for which another one of the same kind stands in.
BN_INCEPTION = r"Mixed_(3c|4[bcde]|5[ab])"
REPEATED = {
    "googlenet": r"Mixed_(3[bc]|4[cdef]|5[bc])",  # auxiliary classifiers follow 4b and 4e
    "inception_v1": r"Mixed_(3.|4.|5b)",
    "inception": BN_INCEPTION,
    "bn_inception": BN_INCEPTION,
    "inception_v2": BN_INCEPTION,
    "inception_v3": r"Mixed_(5[cd]|6[bcd]|7b)",
    "inception_v4": r"Mixed_(5[bcd]|6[bcdefg]|7[bc])",
    "inception_resnet_v1": r"Block(35|17)_([2-9]|\d\d)|Block8_[2-5]",
    "inception_resnet_v2": r"Block(35|17)_([2-9]|\d\d)|Block8_[2-9]",
}


def shorten(network):
    """The network without its `REPEATED` steps, and without auxiliary classifiers that would follow one of these."""
    gone = re.compile(REPEATED.get(network.name, ""))
    kept = tuple(step for step in network.backbone if not gone.fullmatch(step[0]))
    auxiliaries = tuple(a for a in network.auxiliaries if a.after in dict(kept))
    return dataclasses.replace(network, backbone=kept, auxiliaries=auxiliaries)


# Of the baselines the steps that `least` omits, and the least input in pixels of what is left: at their own size the
# first fully connected layer would get a larger map behind fewer poolings, and take longer.
LEAST = {
    "alexnet": (r"pool[25]|conv[345]", 51),
    "vgg16": (r"conv\d_[23]|(conv|pool)[345].*", 28),
}


def least(network):
    """Of a short network one step of each kind, two modules, and of each module the first and the last branch.

    Auxiliary classifiers follow the last modules that are kept.
    """
    if network.name in LEAST:
        gone, min_size = LEAST[network.name]
        kept = [step for step in network.backbone if not re.fullmatch(gone, step[0])]
        return dataclasses.replace(network, backbone=tuple(kept), min_size=min_size)
    kept, kinds, seen = [], [], set()
    for name, step in shorten(network).backbone:
        kinds.append(type(step))
        whole = {kind_of(place.step) for place in spec.iter_layers(name, step)}
        if isinstance(step, Fork):
            step = Fork((step.branches[0], step.branches[-1]))
        if kinds.count(type(step)) <= (2 if isinstance(step, Fork) else 1) or whole - seen:
            kept.append((name, step))
            seen |= {kind_of(place.step) for place in spec.iter_layers(name, step)}
    modules = [name for name, step in kept if isinstance(step, Fork)][-len(network.auxiliaries) :]
    auxiliaries = tuple(
        dataclasses.replace(a, after=name)
        for a, name in zip(network.auxiliaries, modules, strict=False)
    )
    return dataclasses.replace(network, backbone=tuple(kept), auxiliaries=auxiliaries)


def kind_of(step) -> tuple:
    """What distinguishes a step from others: its class, and of a pooling or a convolution how it pools and pads."""
    return type(step), getattr(step, "kind", None), getattr(step, "padding", None)


PUBLISHED = {name: (models._VARIANTS[name], models.NETWORKS[name]) for name in REPEATED}


def _replace(networks: dict) -> dict:
    """The functions that make these networks, and their usual forms; returns what was there before."""
    before = {name: (models._VARIANTS[name], models.NETWORKS[name]) for name in networks}
    for name, (make, network) in networks.items():
        models._VARIANTS[name], models.NETWORKS[name] = make, network
    return before


def shorten_all(names=REPEATED, shorten=least):
    """From now on this process builds `names` as `shorten` makes them; returns a function that takes it back."""

    def shortened(make):
        return functools.wraps(make)(lambda **switches: shorten(make(**switches)))

    now = {name: (models._VARIANTS[name], models.NETWORKS[name]) for name in names}
    before = _replace(
        {name: (shortened(make), shorten(network)) for name, (make, network) in now.items()}
    )
    return functools.partial(_replace, before)


@contextlib.contextmanager
def as_published():
    """Within it, all networks are whole."""
    before = _replace(PUBLISHED)
    try:
        yield
    finally:
        _replace(before)
