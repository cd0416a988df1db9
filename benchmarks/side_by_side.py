# SPDX-License-Identifier: Apache-2.0
"""Shared by the scripts that compare programs: a process for each, the machine's peak, and the rejection of impossible figures."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce

import click

from inception_tf.benchmark.plausibility import Evidence, Peak

MISSING = 3  # exit code of a program whose packages are not installed
REFUSED = 2  # exit code, as of the command line
THEIRS = {  # our name: (keras.applications' class, timm's name)
    "inception_v3": ("InceptionV3", "inception_v3"),
    "inception_v4": (None, "inception_v4"),
    "inception_resnet_v2": ("InceptionResNetV2", "inception_resnet_v2"),
    "vgg16": ("VGG16", "vgg16"),
}
GUARD = """\
try:
{body}
except ImportError as error:
    import sys
    print(error, file=sys.stderr)
    sys.exit({code})
"""
LIMITS = """
import json, sys
from inception_tf.benchmark.peak import measure_flops, measure_memory_rate
from inception_tf.host.hardware import resolve_precision
precisions, working_set = json.loads(sys.argv[1])
chosen = {p: resolve_precision(p).policy.removeprefix("mixed_") for p in precisions}
print(json.dumps([{p: measure_flops(p) for p in chosen.values()}, measure_memory_rate(working_set)]))
"""


def answer(python: str, program: str, *arguments: str, clock: str = ""):
    """What a program prints on its last line, as JSON, in its own process; None where a package is missing.

    Args:
        python: an interpreter.
        program: its imports may fail: then it is not installed.
        clock: goes on where the program ends; here an import that fails is an error.
    """
    body = "\n".join(f"    {line}" for line in program.splitlines())
    child = subprocess.run(
        [python, "-c", GUARD.format(body=body, code=MISSING) + clock, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if child.returncode == MISSING:
        return None
    if child.returncode:
        last = child.stderr.strip().rpartition("\n")[2]
        raise click.ClickException(last or f"a process ended with {child.returncode}")
    return json.loads(child.stdout.splitlines()[-1])


class Limits:
    """What this machine reaches at best, the best of all times that it was measured in processes of their own."""

    def __init__(self, precisions: Sequence[str], working_set: int):
        self.asked = json.dumps([list(precisions), working_set])
        self.flops: dict[str, float] = {}  # by precision
        self.bytes: float | None = None

    def measure(self) -> None:
        """Before what is timed, and after: a machine that changes its speed was able to reach both."""
        found = answer(sys.executable, LIMITS, self.asked)
        if found is None:
            raise click.ClickException(f"inception_tf is not installed in {sys.executable}")
        flops, rate = found
        for precision, value in flops.items():
            self.flops[precision] = max(value, self.flops.get(precision, 0))
        self.bytes = max(rate, self.bytes or 0)

    def of(self, precision: str) -> Peak:
        """Of a precision or of Keras' policy; without a rate of arithmetic where none was measured."""
        return Peak(self.flops.get(precision.removeprefix("mixed_")), self.bytes)


def evidence(
    what: str,
    model: str,
    size: int,
    batch_size: int,
    precision: str,
    seconds: float,
    peak: Peak,
    *,
    classes: int = 1000,
    aux_logits: bool = False,
    **more,
) -> Evidence:
    """Of a step of one of our networks, whoever computes it: its operations come from the network's table.

    Args:
        what: Forward, Forward-backward or Train-step.
        more: other fields of `Evidence`.
    """
    from inception_tf import models
    from inception_tf.arch import counting
    from inception_tf.benchmark.report import least_bytes

    costs = counting.layer_costs(
        models.find_network(model), size, classes=classes, aux_logits=aux_logits
    )
    fields = (
        ("multiply_adds",) if what == "Forward" else ("multiply_adds", "backward_multiply_adds")
    )
    operations = 2 * batch_size * sum(counting.total(costs, field) for field in fields)
    least = least_bytes(
        what,
        precision.removeprefix("mixed_"),
        counting.total(costs, "params"),
        3 * size**2 * batch_size,
    )
    return Evidence(seconds, operations, least, peak, **more)


def network_options(
    batch_size: int, rounds: int, precision: str | None = None
) -> Callable[[Callable], Callable]:
    """A decorator: the options of a script that compares the parts of one network, with these defaults."""
    options = [
        click.option("--model", default="inception_v3", show_default=True),
        click.option(
            "--size", type=int, help="Height and width in pixels.  [default: the published size]"
        ),
        click.option("--batch-size", default=batch_size, show_default=True),
        click.option("--rounds", default=rounds, show_default=True),
    ]
    if precision is not None:
        options.append(click.option("--precision", default=precision, show_default=True))
    return lambda command: reduce(lambda decorated, option: option(decorated), options, command)


@contextmanager
def one_sentence() -> Iterator[None]:
    """A `UserError`, such as a figure that is impossible, ends the script with its sentence and exit code 2."""
    from inception_tf.errors import UserError

    try:
        yield
    except UserError as error:
        refusal = click.ClickException(str(error))
        refusal.exit_code = REFUSED
        raise refusal from error
