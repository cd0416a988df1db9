# SPDX-License-Identifier: Apache-2.0
"""`inception-tf verify`."""

from __future__ import annotations

import click

from inception_tf.cli.output import echo
from inception_tf.cli.paths import INPUT_SAVED_MODEL

__all__ = ["command"]

FAILED = 1  # exit code: the SavedModel is broken, not the command line
WORDS = {True: "ok", False: "FAILED", None: "not done"}


@click.command("verify")
@click.argument("path", type=INPUT_SAVED_MODEL)
@click.option(
    "--run",
    metavar="RUN|WEIGHTS",
    help="The network to compare with.  [default: the one that was exported, if it still exists]",
)
@click.option(
    "--labels",
    metavar="FILE",
    help="The class names to compare with, one per line.  [default: those of the run]",
)
def command(path, run, labels):
    """Load a SavedModel as TF Serving does, run every signature, and print a table of checks.

    PATH is saved_models/NAME, for its newest version, or saved_models/NAME/VERSION.  The exit
    code is 1 where a check fails.

    \b
    inception-tf verify saved_models/digits
    """
    from inception_tf.cli.render import table
    from inception_tf.data.labels import read_class_names
    from inception_tf.savedmodel.versions import newest_version

    newest_version(path)  # before TensorFlow is imported
    from inception_tf.verify.verify import NOT_COVERED, verify

    checks = verify(path, run, read_class_names(labels) if labels else None)
    echo(
        table(("check", "result", "detail"), [(c.name, WORDS[c.passed], c.detail) for c in checks])
    )
    echo(f"not covered: {NOT_COVERED}")
    return FAILED if any(check.passed is False for check in checks) else 0
