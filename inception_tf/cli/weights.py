# SPDX-License-Identifier: Apache-2.0
"""`inception-tf weights`."""

from __future__ import annotations

import json

import click

from inception_tf.cli.options import AS_JSON
from inception_tf.cli.output import echo

__all__ = ["command"]

HEADER = (
    *("network", "name", "source", "license", "size", "top-1 / top-5"),
    *("checksum", "address", "in the cache"),
)


@click.command("weights")
@click.option("--model", help="Releases of one network.  [default: of all]")
@AS_JSON
def command(model, as_json):
    """List the published weights that `weights=NAME` downloads.

    A release is kept where the last column says, as published and converted; put the file there by hand where
    there is no network.

    \b
    inception-tf weights --model inception_v3
    """
    from inception_tf.cli.render import table
    from inception_tf.models import find_network
    from inception_tf.weights.registry import RELEASES, cached_file

    if model:
        find_network(model)
    rows = []
    for release in RELEASES:
        if model in (None, release.network):
            path, is_there = cached_file(release)
            rows.append(
                {
                    "network": release.network,
                    "name": release.name,
                    "source": release.source,
                    "license": release.license,
                    "size": release.size,
                    "top1": release.accuracy and release.accuracy[0],
                    "top5": release.accuracy and release.accuracy[1],
                    "address": release.address,
                    "checksum": release.checksum or None,
                    "path": str(path),
                    "cached": is_there,
                }
            )
    if as_json:
        echo(json.dumps(rows, indent=2))
        return
    echo(table(HEADER, [_shown(row) for row in rows]))


def _shown(row: dict) -> tuple[str, ...]:
    size = f"{row['size'] / 1e6:,.0f} MB" if row["size"] else "-"
    accuracy = f"{row['top1']:.1f} / {row['top5']:.1f}" if row["top1"] else "-"
    # Kinds alone: the digests are in the JSON.
    sums = [one.partition(":")[0] for one in (row["checksum"] or "").split()]
    checksum = ", ".join(sums) or "first use"
    words = (row["network"], row["name"], row["source"], row["license"], size, accuracy, checksum)
    return (*words, row["address"], row["path"] if row["cached"] else f"no: {row['path']}")
