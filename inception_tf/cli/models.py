# SPDX-License-Identifier: Apache-2.0
"""`inception-tf models`."""

from __future__ import annotations

import json

import click

from inception_tf.cli.options import AS_JSON
from inception_tf.cli.output import echo

__all__ = ["command"]


@click.command("models")
@AS_JSON
def command(as_json):
    """List the networks: parameters, multiply-adds per image, input size, published accuracy.

    \b
    inception-tf models
    """
    from inception_tf.arch import counting
    from inception_tf.cli.render import table
    from inception_tf.models import NETWORKS

    rows = []
    for network in NETWORKS.values():
        costs = counting.layer_costs(network)
        rows.append(
            {
                "name": network.name,
                "parameters": counting.total(costs, "params"),
                "multiply_adds": counting.total(costs, "multiply_adds"),
                "size": network.size,
                "accuracy": network.accuracy,
                "source": network.source,
            }
        )
    if as_json:
        echo(json.dumps(rows, indent=2))
        return
    header = ("name", "parameters", "multiply-adds", "size", "published top-1 / top-5", "source")
    echo(table(header, [[_shown(value) for value in row.values()] for row in rows]))


def _shown(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
