# SPDX-License-Identifier: Apache-2.0
"""Runs a script of this folder, or `inception-tf`, and keeps what it printed beside the command, versions and date.

A table of the documentation is copied from such a file, and a test compares them.

    python benchmarks/recorded.py docs/results/peers.json peers.py --rounds 1 --steps 7
    python benchmarks/recorded.py docs/results/v3.json inception-tf benchmark forward --batch-size 32
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import click

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # works from a checkout that is not installed
PASSES = {"ignore_unknown_options": True, "allow_interspersed_args": False}


def words_of(program: str) -> list[str]:
    """How a program is started: a script of this folder, or a module's command."""
    if program == "inception-tf":
        return [sys.executable, "-m", "inception_tf"]
    return [sys.executable, str(HERE / program)]


def shown(program: str, arguments: list[str]) -> str:
    """The command as a reader types it, with placeholders for paths of interpreters and checkouts."""
    words = list(arguments)
    for place, word in enumerate(words):
        # Of `folder:PATH` too, but not of `http://HOST`.
        prefix, colon, path = word.rpartition(":")
        if Path(path).is_absolute() and not path.startswith("//"):
            name = Path(path).name
            words[place] = prefix + colon + ("PYTHON" if name.startswith("python") else name)
    name = program if program == "inception-tf" else f"python benchmarks/{program}"
    backend = os.environ.get("KERAS_BACKEND")
    chosen = [f"KERAS_BACKEND={backend}"] if backend else []
    return " ".join([*chosen, name, shlex.join(words)])


@click.command(context_settings=PASSES)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("program")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def main(file: Path, program: str, arguments: tuple[str, ...]) -> None:
    """Runs PROGRAM with its ARGUMENTS and writes FILE, unless it fails."""
    from inception_tf.host.atomic_io import atomic_write_text
    from inception_tf.host.environment import environment
    from inception_tf.host.hardware import processor_name

    if program != "inception-tf" and not (HERE / program).is_file():
        raise click.UsageError(f"{HERE} has no {program}")
    started = time.time()
    child = subprocess.Popen(
        [*words_of(program), *arguments], stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    assert child.stdout is not None
    lines = []
    for line in child.stdout:
        click.echo(line, nl=False)
        lines.append(line.rstrip("\n"))
    if child.wait():
        raise SystemExit(child.returncode)
    record = {
        "command": shown(program, list(arguments)),
        "date": time.strftime("%Y-%m-%d", time.gmtime(started)),
        "seconds": round(time.time() - started),
        "environment": environment(),
        "machine": processor_name(),
        "output": lines,
    }
    atomic_write_text(file, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
