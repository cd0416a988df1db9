# SPDX-License-Identifier: Apache-2.0
"""Writes the table in docs/use-in-keras.md: `PYTHONPATH=tests python tests/use/write_page.py [WAY...]`.

Runs every way on every network, or the named ways and keeps the other rows.
"""

from __future__ import annotations

import sys


def main(chosen: list[str]) -> None:
    # Here, for a spawned worker imports this file, and is to import nothing of the package.
    import keras
    from case import Case
    from short_networks import shorten
    from test_ways import BEGIN, END, PAGE, table
    from ways import WAYS

    from inception_tf.models import NETWORKS

    kept = {row[1]: row for row in table()} if chosen else {}
    lines = [
        "| | way | " + " | ".join(f"`{name}`" for name in NETWORKS) + " |",
        "| --- " * (2 + len(NETWORKS)) + "|",
    ]
    for name, listed in WAYS.items():
        outcomes = kept.get(listed.title, [])[2:]
        if not kept or name in chosen:
            outcomes = []
            for network in NETWORKS:
                keras.backend.clear_session()
                try:
                    refused = listed.call(Case(network, None if listed.deep else shorten))
                    outcomes.append("refused" if refused else "yes")
                except Exception as error:
                    print(listed.title, network, type(error).__name__, error, flush=True)
                    outcomes.append("fails")
        lines.append(f"| {listed.group} | {listed.title} | " + " | ".join(outcomes) + " |")
        print(lines[-1], flush=True)
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(before + BEGIN + "\n" + "\n".join(lines) + "\n" + END + after)


if __name__ == "__main__":
    main(sys.argv[1:])
