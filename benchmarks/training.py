# SPDX-License-Identifier: Apache-2.0
"""A training step compared with other packages, and how much of `fit` is the step.

All train the same network with 1,000 classes on one batch in memory, with Adam:

- inception_tf: the step of `inception-tf benchmark train-step`, at the machine's precision.
- keras.applications: compiled and trained with `fit` as usual, in float32.
- timm: its network of the same name in training mode, torch.autocast in bfloat16, channels last, eager
  and with torch.compile; it needs a Python with torch and timm.

Each measurement is a separate process, and they are interleaved.  The clock includes a step from its call,
with the batch in memory, to its loss in Python, with the weights updated; building, compiling and the
first two steps are not included.  FLOP are those of the network's table: the forward pass and both
products of each kernel's gradient.  A peer that is not installed is listed and skipped; an impossible
figure is rejected, and no table is printed.

    python benchmarks/training.py --torch-python ~/torch/bin/python
    python benchmarks/training.py --model inception_v1 --size 64 --batch-size 32 --steps 40
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import click
from side_by_side import THEIRS, Limits, answer, evidence, one_sentence

BURN_IN = 2  # steps, the one that compiles included
FORWARD_STEPS = 5  # of ours, in training mode
CLASSES = 1000
OURS, FIT, KERAS = "inception_tf", "inception_tf, fit", "keras.applications"
HEAD = (
    "| what | precision | s / step | images / s | our speedup | GFLOP/s | of peak"
    " | peak memory, MiB |\n|---|---|---|---|---|---|---|---|"
)
OWN = """
import sys
sys.path.insert(0, {folder!r})
import training
training.tell({who!r}, {settings!r})
"""
TIMM = """
import json, time
started = time.perf_counter()
import timm, torch
device = "cuda" if torch.cuda.is_available() else "cpu"
model = timm.create_model({name!r}, pretrained=False, num_classes={classes}).train()
model = model.to(device, memory_format=torch.channels_last)
call = torch.compile(model) if {compiled} else model
try:
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
except RuntimeError:  # where there is no fused one
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
images = torch.rand({batch_size}, 3, {size}, {size}, device=device) * 2 - 1
images = images.contiguous(memory_format=torch.channels_last)
labels = torch.arange({batch_size}, device=device) % {classes}
"""
TIMM_CLOCK = """
def step():
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast(device, torch.bfloat16):
        loss = torch.nn.functional.cross_entropy(call(images), labels)
    loss.backward()
    optimizer.step()
    return loss.item()  # on a GPU it waits for all before it, the new weights too

step()
compile_seconds = time.perf_counter() - started
seconds = []
for number in range(1 - {burn_in}, {steps}):
    started = time.perf_counter()
    step()
    if number >= 0:
        seconds.append(time.perf_counter() - started)
status = open("/proc/self/status").read()
peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024
print(json.dumps({{
    "precision": "bfloat16",
    "seconds": seconds,
    "compile_seconds": compile_seconds,
    "peak_memory": peak,
}}))
"""


def tell(who: str, settings: dict) -> None:
    """Prints one process' measurement of ours or of keras.applications, as JSON."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    found = ours(settings) if who == OURS else fitted(who, settings)
    print(json.dumps(found))


def _case(settings: dict):
    from inception_tf.benchmark.case import Case
    from inception_tf.benchmark.steps import resolved

    fields = ("model", "size", "batch_size", "precision")
    return resolved(Case(kind="train-step", **{f: settings[f] for f in fields}).checked())


def ours(settings: dict) -> dict:
    """Seconds of each step of `benchmark train-step`, and of its forward pass in training mode."""
    from inception_tf.benchmark.steps import prepare, trains_auxiliaries
    from inception_tf.host.hardware import peak_memory

    case = _case(settings)
    started = time.perf_counter()
    prepared = prepare(case)
    prepared.step()
    compile_seconds = time.perf_counter() - started
    seconds = _clocked(prepared.step, settings["steps"], 1 - BURN_IN)
    memory = peak_memory()
    return {
        "precision": case.precision,
        "seconds": seconds,
        "compile_seconds": compile_seconds,
        "forward_seconds": min(_clocked(prepared.forward, FORWARD_STEPS, -1)),
        "peak_memory": memory,
        "aux_logits": trains_auxiliaries(case),
    }


def _clocked(step, steps: int, first: int) -> list[float]:
    """Seconds of `steps` calls; those before number 0 are not counted."""
    seconds = []
    for number in range(first, steps):
        started = time.perf_counter()
        step()
        if number >= 0:
            seconds.append(time.perf_counter() - started)
    return seconds


def fitted(who: str, settings: dict) -> dict:
    """Seconds of each step inside `fit`, and their share of the time from the first's start to the last's end."""
    import keras
    import tensorflow as tf

    from inception_tf.host.hardware import peak_memory

    class Start(keras.callbacks.Callback):
        """Stands last in the list: the step begins after it."""

        def __init__(self):
            super().__init__()
            self.times = []

        def on_train_batch_begin(self, batch, logs=None):
            self.times.append(time.perf_counter())

    class End(keras.callbacks.Callback):
        """Stands first in the list: the step has just ended."""

        def __init__(self):
            super().__init__()
            self.times = []

        def on_train_batch_end(self, batch, logs=None):
            float(logs["loss"])  # there, also on a GPU
            self.times.append(time.perf_counter())

    size, batch = settings["size"], settings["batch_size"]
    images = tf.random.stateless_uniform((batch, size, size, 3), (0, 0), -1, 1)
    labels = tf.one_hot(tf.range(batch) % CLASSES, CLASSES)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        model, precision, callbacks = (_ours if who == FIT else _theirs)(settings, Path(folder))
        targets = dict.fromkeys(model.output, labels) if isinstance(model.output, dict) else labels
        data = tf.data.Dataset.from_tensors((images, targets)).cache().repeat().prefetch(2)
        begin, end = Start(), End()
        model.fit(
            data,
            steps_per_epoch=settings["steps"] + BURN_IN,
            epochs=1,
            callbacks=[end, *callbacks, begin],
            verbose=0,
        )
    pairs = list(zip(begin.times, end.times, strict=True))[BURN_IN:]
    seconds = [end - start for start, end in pairs]
    return {
        "precision": precision,
        "seconds": seconds,
        "compile_seconds": end.times[0] - started,
        "share": sum(seconds) / (pairs[-1][1] - pairs[0][0]),
        "peak_memory": peak_memory(),
    }


def _ours(settings: dict, folder: Path):
    """The model of `benchmark train-step`, its precision, and the callbacks that `train` gives to `fit`."""
    import keras

    from inception_tf.benchmark.steps import model_plan
    from inception_tf.run_folder import Run
    from inception_tf.training.callbacks import ProgressBar, Recorder
    from inception_tf.training.checkpoint import Progress
    from inception_tf.training.compile import compiled_model
    from inception_tf.training.optim.ema import AveragedEvaluation

    case = _case(settings)
    recorder = Recorder(Run(folder), Progress())
    recorder.on_epoch_end = lambda *_: None  # no checkpoint: an epoch here is a few steps
    board = keras.callbacks.TensorBoard(folder / "tensorboard", write_graph=False)
    callbacks = [AveragedEvaluation(), recorder, board, ProgressBar(1, case.batch_size)]
    return compiled_model(model_plan(case), pretrained=False), case.precision, callbacks


def _theirs(settings: dict, folder: Path):
    """keras.applications' network of the same size and classes, compiled as in its documentation."""
    import keras

    build = getattr(keras.applications, THEIRS[settings["model"]][0])
    model = build(
        weights=None, input_shape=(settings["size"], settings["size"], 3), classes=CLASSES
    )
    model.compile(keras.optimizers.Adam(1e-3), "categorical_crossentropy", metrics=["accuracy"])
    return model, "float32", []


def peers(settings: dict) -> dict[str, tuple[str, str, bool]]:
    """{name: (program, its clock, does it need torch)}, ours first."""
    keras_name, timm_name = THEIRS.get(settings["model"], (None, None))
    folder = str(Path(__file__).parent)
    names = [OURS, FIT, *([KERAS] if keras_name else [])]
    found = {
        who: ("pass", OWN.format(folder=folder, who=who, settings=settings), False) for who in names
    }
    if timm_name:
        clock = TIMM_CLOCK.format(burn_in=BURN_IN, **settings)
        for who, compiled in (("timm, eager", False), ("timm, torch.compile", True)):
            program = TIMM.format(name=timm_name, classes=CLASSES, compiled=compiled, **settings)
            found[who] = (program, clock, True)
    return found


def figures(settings: dict, measured: dict[str, list[dict]], limits: Limits) -> list[tuple]:
    """[(name, `Evidence`)] of each process' median step."""
    return [
        (
            f"{who}, process {number + 1}",
            evidence(
                "Train-step",
                settings["model"],
                settings["size"],
                settings["batch_size"],
                one["precision"],
                statistics.median(one["seconds"]),
                limits.of(one["precision"]),
                aux_logits=_trains_auxiliaries(who, measured),
                compile_seconds=one["compile_seconds"],
                forward_seconds=one.get("forward_seconds"),
            ),
        )
        for who, processes in measured.items()
        for number, one in enumerate(processes)
    ]


def _trains_auxiliaries(who: str, measured: dict) -> bool:
    return who in (OURS, FIT) and measured[OURS][0]["aux_logits"]


def page(settings: dict, measured: dict[str, list[dict]], limits: Limits) -> str:
    """The table and what follows from it; `UserError` where a figure is impossible.

    measured: what each process told, by peer, ours first.
    """
    from inception_tf.benchmark.plausibility import refuse_suspect

    found = figures(settings, measured, limits)
    refuse_suspect(found)
    medians = {
        who: statistics.median(s for one in processes for s in one["seconds"])
        for who, processes in measured.items()
    }
    operations = {name.rpartition(", process")[0]: one.operations for name, one in found}
    size, batch = settings["size"], settings["batch_size"]
    lines = [
        f"{settings['model']}, batch {batch}, {size}x{size}, {CLASSES:,} classes:"
        f" {operations[OURS] / 1e9:,.0f} GFLOP a step",
        "",
        HEAD,
    ]
    for who, seconds in medians.items():
        if who == FIT:
            continue
        precision = measured[who][0]["precision"]
        rate, peak = operations[who] / seconds, limits.of(precision).flops
        cells = (
            who,
            precision,
            f"{seconds:.3f}",
            f"{batch / seconds:.2f}",
            f"{seconds / medians[OURS]:.2f}",
            f"{rate / 1e9:.0f}",
            f"{rate / peak:.0%}" if peak else "",
            f"{max(one['peak_memory'] for one in measured[who]) / 2**20:,.0f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    best = (f"{rate / 1e9:.0f} GFLOP/s in {name}" for name, rate in limits.flops.items())
    lines += ["", f"The best rates measured: {', '.join(best)}."]
    if FIT in medians:
        share = statistics.median(one["share"] for one in measured[FIT])
        lines.append(
            f"Of `fit` with `train`'s callbacks {share:.1%} of the time is the step; the step of"
            f" `benchmark train-step` takes {medians[OURS] / medians[FIT]:.2f} of the time of `fit`'s."
        )
    return "\n".join(lines)


@click.command(help=__doc__)
@click.option("--model", default="inception_v3", show_default=True)
@click.option("--size", type=int, help="Height and width in pixels.  [default: the published size]")
@click.option("--batch-size", default=16, show_default=True)
@click.option("--steps", default=6, show_default=True, help="Timed steps per process.")
@click.option("--rounds", default=3, show_default=True, help="Processes per row.")
@click.option("--precision", default="auto", show_default=True, help="Precision of this project.")
@click.option(
    "--torch-python", default=sys.executable, help="A Python interpreter with torch and timm."
)
@click.option(
    "--json", "json_file", metavar="FILE", help="Write the seconds of every step, after each peer."
)
def main(model, size, batch_size, steps, rounds, precision, torch_python, json_file):
    from inception_tf import models
    from inception_tf.arch import counting
    from inception_tf.benchmark.report import least_bytes

    with one_sentence():
        network = models.find_network(model)
        settings = {
            "model": model,
            "size": size or network.size,
            "batch_size": batch_size,
            "steps": steps,
            "precision": precision,
        }
        costs = counting.layer_costs(network, settings["size"])
        pixels = 3 * settings["size"] ** 2 * batch_size
        working_set = least_bytes("Train-step", "bfloat16", counting.total(costs, "params"), pixels)
        limits = Limits(("float32", "bfloat16", precision), working_set)
        limits.measure()
        chosen, measured = peers(settings), {}
        for number in range(rounds):
            for who, (program, clock, needs_torch) in list(chosen.items()):
                python = torch_python if needs_torch else sys.executable
                started = time.perf_counter()
                found = answer(python, program, clock=clock)
                if found is None:
                    click.echo(f"{who}: not installed", err=True)
                    del chosen[who]
                    continue
                measured.setdefault(who, []).append(found)
                if json_file:
                    Path(json_file).write_text(json.dumps(measured, indent=2), encoding="utf-8")
                took = time.perf_counter() - started
                click.echo(f"round {number + 1}, {who}: {took:.0f} s", err=True)
            limits.measure()
        click.echo(page(settings, measured, limits))


if __name__ == "__main__":
    main()
