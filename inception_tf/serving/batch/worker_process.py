# SPDX-License-Identifier: Apache-2.0
"""A worker process of Beam's local runner: python -m inception_tf.serving.batch.worker_process.

Beam passes the address of its runner in environment variables.  An error in a step goes back to the runner; Beam
would print and log it here as well.
"""

from __future__ import annotations

import logging
import os
import sys

from inception_tf.host.process_state import collect_garbage_rarely
from inception_tf.serving.batch.beam_internals import BEAM

__all__ = ["main"]


def main() -> None:
    """Works until the runner ends the connection; nothing is printed."""
    collect_garbage_rarely()
    logging.basicConfig(handlers=[logging.NullHandler()])  # before Beam's own, which prints
    work = BEAM.get("main")
    with open(os.devnull, "w") as sys.stderr:
        work([])


if __name__ == "__main__":
    main()
