# SPDX-License-Identifier: Apache-2.0
"""The command line: one module per command, imported when it is called, and one place that turns errors into sentences."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence

import click

from inception_tf import __version__
from inception_tf.cli.output import echo, printable_messages
from inception_tf.errors import (
    INTERRUPTED,
    USER_MISTAKE,
    UserError,
    did_you_mean,
    explain_error,
    printable,
)
from inception_tf.host.process_state import collect_garbage_rarely, environment_variables

__all__ = ["COMMANDS", "main"]

PROGRAM = "inception-tf"
SUCCESS = 0
LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"

# Command → its line in `inception-tf --help`; help imports none of the modules.
COMMANDS = {
    "batch-predict": "Classify large numbers of images, on several workers.",
    "benchmark": "Time networks on this machine.",
    "convert": "Convert weights of another project for this one.",
    "data": "Describe a data set, or draw its images as the network sees them.",
    "demo": "Open a web page on this machine that classifies images.",
    "evaluate": "Measure the top-1 and top-5 accuracy of runs or weights files.",
    "experiment": "Run the batch normalization paper's experiments.",
    "export": "Write a run as a SavedModel for TF Serving.",
    "features": "Write the features of images, with their paths.",
    "fid": "Compare two sets of images by FID, inception score, KID, precision and recall.",
    "info": "Print versions, devices and what is installed, for a bug report.",
    "models": "List the networks with their sizes and costs.",
    "predict": "Classify images.",
    "recalibrate": "Recompute a run's batch normalization statistics on other images.",
    "recipes": "List the recipes, or the keys of one with their meaning.",
    "summary": "Print a network's layer table.",
    "train": "Train a network into a run folder.",
    "weights": "List the published weights, and which of them are in the cache.",
    "verify": "Check that a SavedModel loads and serves correctly.",
}

# Commands that work where Keras has another backend and TensorFlow is not installed.
WITHOUT_TENSORFLOW = ("benchmark", "convert", "info", "models", "recipes", "summary", "weights")


class Commands(click.Group):
    """Commands by name; a near miss names the nearest."""

    def list_commands(self, context):
        return sorted(COMMANDS)

    def get_command(self, context, name):
        if name not in COMMANDS:
            return None
        return importlib.import_module(f"inception_tf.cli.{name.replace('-', '_')}").command

    def resolve_command(self, context, arguments):
        name = arguments[0]
        if name not in COMMANDS and not name.startswith("-"):
            raise UserError(
                f"unknown command '{name}'; known: {', '.join(sorted(COMMANDS))}{did_you_mean(name, COMMANDS)}"
            )
        return super().resolve_command(context, arguments)

    def format_commands(self, context, formatter):
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--debug", is_flag=True, help="Show the traceback of an error; may be given anywhere."
)
@click.version_option(__version__, prog_name=PROGRAM)
def program(debug):
    """The Inception family in Keras 3: train, evaluate, export, serve and time.

    \b
    inception-tf train --model inception_v1 --data digits --recipe digits --out runs/digits
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: The words after `inception-tf`; None for those of this process.

    Returns:
        The exit code: 0, 1 for an internal error, 2 for a user's mistake, 130 after Ctrl-C.
    """
    if arguments is None:  # the process is this program's
        collect_garbage_rarely()
        arguments = sys.argv[1:]
    arguments = list(arguments)
    end = arguments.index("--") if "--" in arguments else len(arguments)
    debug = "--debug" in arguments[:end]
    if debug:
        arguments.remove("--debug")
    # TensorFlow logs to stderr from C++; a command's stderr is for its own messages.
    settings = {} if debug or LOG_LEVEL in os.environ else {LOG_LEVEL: "3"}
    with environment_variables(**settings), printable_messages():
        return _run(arguments, debug)


def _run(arguments: list[str], debug: bool) -> int:
    try:
        code = program.main(arguments, prog_name=PROGRAM, standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else SUCCESS
    except BrokenPipeError:
        # The reader of a pipe, such as `head`, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SUCCESS
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help())
        return SUCCESS
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            echo(traceback.format_exc(), err=True)
        command = next((word for word in arguments if word in COMMANDS), "")
        code, sentence = explain(error, command)
        echo(f"{PROGRAM}: {printable(sentence)}", err=True)
        return code


def explain(error: BaseException, command: str = "") -> tuple[int, str]:
    """Returns the exit code and the one sentence for an error in a command.

    Args:
        error: What the command raised.
        command: Its name, "" where none was recognized.

    Returns:
        The exit code and the sentence.
    """
    if isinstance(error, click.Abort):
        # click turns Ctrl-C into its own Abort and keeps ours, with its text, as the cause.
        return INTERRUPTED, str(error.__cause__ or error) or "stopped"
    if isinstance(error, click.ClickException):
        sentence = " ".join(error.format_message().split())
        context = getattr(error, "ctx", None)
        where = f"; see {context.command_path} --help" if context else ""
        return USER_MISTAKE, f"{sentence[:1].lower()}{sentence[1:].rstrip('.')}{where}"
    needs_tensorflow = command not in WITHOUT_TENSORFLOW
    return explain_error(error, command or "this", needs_tensorflow=needs_tensorflow)
