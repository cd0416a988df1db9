# SPDX-License-Identifier: Apache-2.0
"""Every way of using a Keras model, for every network: it works, or it is refused in a sentence.

`PYTHONPATH=tests python tests/use/write_page.py` runs all of them and writes the table in docs/use-in-keras.md.
"""

from __future__ import annotations

import functools
from pathlib import Path

import keras
import pytest
from case import Case
from short_networks import kind_of, least, shorten
from ways import WAYS

from inception_tf.arch import spec
from inception_tf.models import NETWORKS

PAGE = Path(__file__).parents[2] / "docs" / "use-in-keras.md"
BEGIN, END = "<!-- table -->", "<!-- end of table -->"

# In the default run: few layers of each kind of a network that has all kinds of the batch-normalized ones, and for what
# depends on operations of Keras or on biases of one with local response normalization; for threads, which meet only
# where there is much to meet in, one module of each kind of the smallest.  Few layers of all networks in the slow run,
# and the smallest at full depth in the ways marked deep.
USUAL, SMALLEST = "inception_v2", "inception_v1"
ALSO = {"googlenet": {"keras_file", "hdf5_file", "pickled", "optimized", "recalibrated"}}


def needs_many_layers(name: str) -> bool:
    return WAYS[name].group == "threads"


def marks(name: str, network: str) -> list:
    usual = SMALLEST if needs_many_layers(name) else USUAL
    return [] if network == usual or name in ALSO.get(network, ()) else [pytest.mark.slow]


@functools.lru_cache(maxsize=1)
def cleared(network: str) -> None:
    """Keras' state, once for each network, without a walk through all objects."""
    keras.backend.clear_session(free_memory=False)


@pytest.mark.parametrize(
    ("network", "name"),
    [
        pytest.param(network, name, id=f"{network}-{name}", marks=marks(name, network))
        for network in NETWORKS
        for name in WAYS
    ],
)
def test_a_way_works_or_is_refused(network, name, request):
    cleared(network)
    cut = least
    if network == SMALLEST and needs_many_layers(name):
        at_full_depth = WAYS[name].deep and request.config.option.markexpr != "not slow"
        cut = None if at_full_depth else shorten
    sentence = WAYS[name].call(Case(network, cut))
    assert sentence is None or sentence.count("\n") == 0
    rows = {row[1]: row for row in table()}
    column = 2 + list(NETWORKS).index(network)
    assert rows[WAYS[name].title][column] == ("refused" if sentence else "yes")


@pytest.mark.parametrize("network", NETWORKS)
def test_the_least_network_has_every_kind_of_step(network):
    def kinds(table):
        places = [place for name, step in table.backbone for place in spec.iter_layers(name, step)]
        return {kind_of(place.step) for place in places}

    assert kinds(least(NETWORKS[network])) == kinds(NETWORKS[network])


def table() -> list[list[str]]:
    """The rows of the page: group, way, and an outcome for each network."""
    lines = PAGE.read_text().split(BEGIN)[1].split(END)[0].strip().splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_page_lists_every_way_and_every_network():
    head = PAGE.read_text().split(BEGIN)[1].strip().splitlines()[0]
    assert [cell.strip(" `") for cell in head.strip("|").split("|")][2:] == list(NETWORKS)
    assert [row[1] for row in table()] == [listed.title for listed in WAYS.values()]
