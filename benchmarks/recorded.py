# SPDX-License-Identifier: Apache-2.0
"""Runs a script of the project, or `inception-tf`, and keeps what it printed beside the command, versions and date.

A table of the documentation is copied from such a file, and a test compares them.

    python benchmarks/recorded.py docs/results/peers.json peers.py --rounds 1 --steps 7
    python benchmarks/recorded.py docs/results/parity.json tests/parity.py --torch-python PYTHON
    python benchmarks/recorded.py docs/results/v3.json inception-tf benchmark forward --batch-size 32

Of a training, an evaluation or an experiment the numbers that it writes are kept, instead of what it prints; and what
is printed as JSON is kept as such.

    python benchmarks/recorded.py --run runs/a docs/results/a.json inception-tf train --out runs/a --epochs 5 ...
    python benchmarks/recorded.py --json a.json docs/results/a.json inception-tf evaluate runs/a --json a.json
"""

from __future__ import annotations

import csv
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import click

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))  # works from a checkout that is not installed
LONG = 4000  # characters
PASSES = {"ignore_unknown_options": True, "allow_interspersed_args": False}


def script(program: str) -> Path:
    """A script, under its path from the project's root, or its name if it is one of this folder."""
    return ROOT / program if "/" in program else HERE / program


def words_of(program: str) -> list[str]:
    """How a program is started: a script, or a module's command."""
    if program == "inception-tf":
        return [sys.executable, "-m", "inception_tf"]
    return [sys.executable, str(script(program))]


def shown(program: str, arguments: list[str]) -> str:
    """The command as a reader types it, with placeholders for paths of interpreters and checkouts."""
    words = list(arguments)
    for place, word in enumerate(words):
        # Of `folder:PATH` too, but not of `http://HOST`.
        prefix, colon, path = word.rpartition(":")
        if Path(path).is_absolute() and not path.startswith("//"):
            name = Path(path).name
            words[place] = prefix + colon + ("PYTHON" if name.startswith("python") else name)
    path = script(program)
    name = program if program == "inception-tf" else f"python {path.relative_to(ROOT)}"
    backend = os.environ.get("KERAS_BACKEND")
    chosen = [f"KERAS_BACKEND={backend}"] if backend else []
    return " ".join([*chosen, name, *map(shlex.quote, words)])


def of_run(folder: Path) -> dict:
    """What a run's files say of its result, and the accuracy (0 to 1) after each epoch."""
    report = json.loads((folder / "report.json").read_text("utf-8"))
    with open(folder / "history.csv", newline="", encoding="utf-8") as file:
        accuracy = [float(row["val_top1"]) for row in csv.DictReader(file)]
    names = ("model", "precision", "images", "classes", "epochs", "seconds", "result")
    return {name: report[name] for name in names if name in report} | {"val_top1": accuracy}


def of_report(file: Path) -> dict:
    """A JSON report without what is long in it: an entry per class or per image."""
    report = json.loads(file.read_text("utf-8"))
    return {name: value for name, value in report.items() if len(json.dumps(value)) < LONG}


@click.command(context_settings=PASSES)
@click.option(
    "--run",
    type=click.Path(path_type=Path),
    help="The folder that a training writes: its scores are kept.",
)
@click.option("--json", "report", type=click.Path(path_type=Path), help="A JSON report, likewise.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("program")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def main(run: Path, report: Path, file: Path, program: str, arguments: tuple[str, ...]) -> None:
    """Runs PROGRAM with its ARGUMENTS and writes FILE, unless it fails."""
    from inception_tf.host.atomic_io import atomic_write_text
    from inception_tf.host.environment import environment
    from inception_tf.host.hardware import processor_name

    if program != "inception-tf" and not script(program).is_file():
        raise click.UsageError(f"there is no {script(program)}")
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
    }
    if run:
        record |= of_run(run)
    elif report:
        record |= of_report(report)
    elif lines[:1] == ["{"]:
        record["report"] = json.loads("\n".join(lines))
    else:
        record["output"] = lines
    atomic_write_text(file, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
