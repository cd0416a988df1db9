# SPDX-License-Identifier: Apache-2.0
"""The training step that `fit` runs on TensorFlow, JAX and torch, and on TensorFlow before a change of the code.

Each is a process that stays: it compiles the model of `train-step`, and then takes a step whenever it is asked.  They
are asked in turn, so that a machine whose speed changes is as slow for one as for the other.  The clock includes a
step from its call, with the batch in memory, to its loss in Python, with the weights updated; compiling and the first
steps are not included.  Beside it stands the processor time of the process, which other programs disturb less.  It ends
after `--steps` steps of each or `--minutes`, whichever is first; all compile at the same time before that.

    python benchmarks/backends.py --before ../checkout-of-before --torch-python ~/torch/bin/python
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
BURN_IN = 3
HEAD = "| backend | s / step | images / s | of TensorFlow, median of the pairs | processor s / step | of TensorFlow |\n|---|---|---|---|---|---|"
PROGRAM = """
import json, sys, time
from inception_tf.benchmark.case import Case
from inception_tf.benchmark.steps import prepare, resolved
step = prepare(resolved(Case(**json.loads(sys.argv[1])).checked())).step
step()
print("ready", flush=True)
for _ in sys.stdin:
    wall, processor = time.perf_counter(), time.process_time()
    step()
    print(json.dumps([time.perf_counter() - wall, time.process_time() - processor]), flush=True)
"""


class Backend:
    """A process that takes a training step whenever it is asked."""

    def __init__(self, python: str, folder: Path, backend: str, case: dict):
        variables = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
        variables["PYTHONPATH"] = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
        self.child = subprocess.Popen(
            [python, "-c", PROGRAM, json.dumps(case)],
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
        )
        self.what = f"{backend} in {folder}"
        self.seconds: list[tuple[float, float]] = []  # on the clock, of the processor

    def wait(self) -> None:
        """Waits until it has compiled."""
        if self._line() != "ready\n":
            raise click.ClickException(f"the process of {self.what} ended; see above")

    def step(self, counts: bool) -> None:
        """Takes one."""
        self.child.stdin.write("\n")
        self.child.stdin.flush()
        found = json.loads(self._line())
        if counts:
            self.seconds.append(tuple(found))

    def _line(self) -> str:
        return self.child.stdout.readline()

    def end(self) -> None:
        self.child.stdin.close()
        self.child.wait()


@click.command()
@click.option("--model", default="inception_v1", show_default=True)
@click.option("--size", default=64, show_default=True, help="Pixels.")
@click.option("--batch-size", default=32, show_default=True)
@click.option("--precision", default="float32", show_default=True)
@click.option("--recipe", default="default", show_default=True)
@click.option("--steps", default=50, show_default=True, help="Of each, that are counted.")
@click.option("--minutes", default=5.0, show_default=True, help="Of counted steps, at most.")
@click.option("--jax/--no-jax", "times_jax", default=True, help="JAX compiles for minutes.")
@click.option("--jax-python", help="A Python with JAX.  [default: this one]")
@click.option("--torch-python", help="A Python with torch; without it torch is not timed.")
@click.option("--before", type=click.Path(exists=True, path_type=Path), help="Another checkout.")
def main(
    model,
    size,
    batch_size,
    precision,
    recipe,
    steps,
    minutes,
    times_jax,
    jax_python,
    torch_python,
    before,
) -> None:
    """Prints a table; steps are taken in turn."""
    case = {"kind": "train-step", "backend": "keras", "model": model, "recipe": recipe}
    case |= {"batch_size": batch_size, "precision": precision, "size": size, "compile": None}
    wanted = {"TensorFlow": (sys.executable, ROOT, "tensorflow")}
    if before:
        wanted["TensorFlow, before"] = (sys.executable, before.resolve(), "tensorflow")
    if times_jax:
        wanted["JAX"] = (jax_python or sys.executable, ROOT, "jax")
    if torch_python:
        wanted["torch"] = (torch_python, ROOT, "torch")
    backends = {name: Backend(*where, case) for name, where in wanted.items()}
    try:
        for backend in backends.values():
            backend.wait()
        for number in range(-BURN_IN, steps):
            if number == 0:
                end = time.monotonic() + 60 * minutes
            if number > 0 and time.monotonic() > end:
                break
            # In turn from either end: no backend always follows the same one.
            for backend in list(backends.values())[:: -1 if number % 2 else 1]:
                backend.step(counts=number >= 0)
    finally:
        for backend in backends.values():
            backend.end()
    ours = backends["TensorFlow"].seconds
    click.echo(
        f"{model}, {recipe}, {size} pixels, batch {batch_size}, {precision}, {len(ours)} steps of each\n"
    )
    click.echo(HEAD)
    for name, backend in backends.items():
        wall, processor = zip(*backend.seconds, strict=True)
        ratios = [
            statistics.median(a[kind] / b[kind] for a, b in zip(backend.seconds, ours, strict=True))
            for kind in (0, 1)
        ]
        seconds = statistics.median(wall)
        click.echo(
            f"| {name} | {seconds:.3f} | {batch_size / seconds:.1f} | {ratios[0]:.3f} |"
            f" {statistics.median(processor):.3f} | {ratios[1]:.3f} |"
        )


if __name__ == "__main__":
    main()
