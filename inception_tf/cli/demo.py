# SPDX-License-Identifier: Apache-2.0
"""`inception-tf demo`."""

from __future__ import annotations

import signal
import webbrowser

import click

from inception_tf.cli.options import top_option
from inception_tf.cli.output import echo
from inception_tf.cli.paths import INPUT_SAVED_MODEL
from inception_tf.host.process_state import signal_handler

__all__ = ["command"]


@click.command("demo")
@click.argument("saved_model", metavar="SAVED_MODEL", type=INPUT_SAVED_MODEL)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=7860,
    show_default=True,
    help="On 127.0.0.1; 0: any free port.",
)
@click.option("--open/--no-open", "open_browser", default=True, help="Show it in the browser.")
@top_option("shown")
@click.option(
    "--run",
    metavar="RUN|WEIGHTS",
    help="The network for heat maps.  [default: the one that was exported, if it still exists]",
)
def command(saved_model, port, open_browser, top, run):
    """Open a web page on this machine: drop images on it, and see how a SavedModel classifies them.

    The page is reachable from this machine only, takes images of this page alone, keeps none of
    them, and loads nothing from the network.

    \b
    inception-tf demo saved_models/digits
    """
    from inception_tf.serving.demo import serve_demo

    def ready(address: str) -> None:
        echo(f"{saved_model} is served at {address} until Ctrl-C")
        if open_browser:
            webbrowser.open(address)

    try:
        with signal_handler(signal.SIGTERM, signal.default_int_handler):
            serve_demo(saved_model, port=port, top=top, ready=ready, run=run)
    except KeyboardInterrupt:
        return  # the usual way to stop it
