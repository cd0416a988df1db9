# SPDX-License-Identifier: Apache-2.0
"""The time that `inception-tf predict` takes from its start to its first prediction, and its peak memory."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from inception_tf.errors import UserError
from inception_tf.host.environment import environment
from inception_tf.host.hardware import processor_name

__all__ = ["StartUp", "time_start_up"]

# The command line, followed by the peak of the process; `getrusage` would give the parent's where that is higher.
PROGRAM = """
import sys
from inception_tf import cli
from inception_tf.host.hardware import peak_memory
code = cli.main(sys.argv[1:])
print(peak_memory(), file=sys.stderr)
sys.exit(code)
"""


@dataclass(frozen=True)
class StartUp:
    """Seconds from the start of a process, and bytes at its peak, one of each per run."""

    model: str
    device: str
    python: tuple[float, ...]  # the interpreter alone, to its end
    help: tuple[float, ...]  # `inception-tf --help`, to its end
    first_answer: tuple[float, ...]  # `inception-tf predict`, to its first line
    peak_memory: tuple[int, ...]  # of `inception-tf predict`
    environment: dict

    def as_dict(self) -> dict:
        """All figures by name.

        Returns:
            The fields and their medians.
        """
        medians = {
            f"median_{name}": statistics.median(getattr(self, name))
            for name in ("python", "help", "first_answer", "peak_memory")
        }
        return asdict(self) | medians


def time_start_up(path: str | Path, image: str | Path, runs: int = 5) -> StartUp:
    """Runs `inception-tf predict PATH IMAGE` several times, each in its own process, one after another.

    One more run before them, which brings the files into memory, is not counted.

    Args:
        path: whatever `predict` accepts.
        image: an image file.
        runs: at least 1.

    Returns:
        The timing.

    Raises:
        UserError: `runs` is below 1, or `predict` fails; with its error.
    """
    if runs < 1:
        raise UserError(f"the number of runs must be at least 1, got {runs}")
    commands = {
        "python": ("import sys; print(0, file=sys.stderr)",),
        "help": (PROGRAM, "--help"),
        "predict": (PROGRAM, "predict", os.fspath(path), os.fspath(image), "--top", "1"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    memory = []
    for number in range(runs + 1):
        for name, command in commands.items():
            first, whole, peak = _clocked(*command)
            if number:
                seconds[name].append(first if name == "predict" else whole)
                if name == "predict":
                    memory.append(peak)
    return StartUp(
        str(path),
        f"CPU ({processor_name()})",
        tuple(seconds["python"]),
        tuple(seconds["help"]),
        tuple(seconds["predict"]),
        tuple(memory),
        environment(),
    )


def _clocked(program: str, *arguments: str) -> tuple[float, float, int]:
    """Seconds to a process' first line and to its end, and the number that it writes last to stderr: its peak in bytes."""
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout  # it is a pipe
        child.stdout.readline()
        first = time.perf_counter() - started
        _, messages = child.communicate()
    whole = time.perf_counter() - started
    *sentences, peak = messages.splitlines() or [""]
    if child.returncode:
        sentence = sentences[-1] if sentences else f"inception-tf ended with {child.returncode}"
        raise UserError(sentence.removeprefix("inception-tf: "))
    return first, whole, int(peak)
