# SPDX-License-Identifier: Apache-2.0
"""A forward pass compared with other packages on this machine: one process per peer, interleaved, medians and ratios.

Each peer computes the same network at the same batch and size with its own random weights, which takes
the same time.  The clock includes one call, from the batch in memory to the probabilities in NumPy;
building, conversion and the first three calls are not included.  Peers that are not installed are listed
and skipped.  An impossible figure is rejected, and no table is printed.

    python benchmarks/peers.py
    python benchmarks/peers.py --model inception_v4 --torch-python ~/torch/bin/python   # a Python with torch and timm
    python benchmarks/peers.py --model vgg16 --batch-size 1
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import click
from side_by_side import THEIRS, Limits, answer, evidence, one_sentence

BURN_IN = 3  # calls
HEAD = "| peer | precision | s / batch | images / s | of ours | peak memory, MiB |\n|---|---|---|---|---|---|"

# Each is a program that leaves `call(images)` and, for torch, nothing of TensorFlow in memory.
OURS = """
from inception_tf.benchmark.case import Case
from inception_tf.benchmark.steps import prepare, resolved
case = Case({model!r}, backend={backend!r}, precision={precision!r}, batch_size={batch}, size={size})
step = prepare(resolved(case.checked())).step
call = lambda images: step()
"""
KERAS = """
import keras, tensorflow as tf
keras.config.set_dtype_policy({policy!r})
model = keras.applications.{name}(weights=None, input_shape=({size}, {size}, 3))
"""
KERAS_PREDICT = (
    KERAS + "call = lambda images: model.predict(images, batch_size={batch}, verbose=0)\n"
)
KERAS_GRAPH = (
    KERAS
    + """
graph = tf.function(lambda images: model(images, training=False))
call = lambda images: graph(images).numpy()
"""
)
ONNX = """
import tempfile, pathlib, onnxruntime, inception_tf
from inception_tf.inference.runtimes import onnx
folder = pathlib.Path(tempfile.mkdtemp())
onnx.write_model(inception_tf.create_model({model!r}, input_shape=({size}, {size}, 3)), folder)
session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
call = lambda images: session.run(None, {{session.get_inputs()[0].name: images}})[0]
"""
TIMM = """
import numpy as np, timm, torch
torch.set_grad_enabled(False)
model = timm.create_model({name!r}, pretrained=False).eval()
planes = lambda images: torch.from_numpy(images.transpose(0, 3, 1, 2))
"""
TIMM_PLAIN = TIMM + "call = lambda images: model(planes(images).contiguous()).softmax(-1).numpy()\n"
TIMM_LAST = (
    TIMM
    + """
model = model.to(memory_format=torch.channels_last)
call = lambda images: model(planes(images)).softmax(-1).numpy()
"""
)
TIMM_TRACED = (
    TIMM
    + """
model = model.to(torch.bfloat16).to(memory_format=torch.channels_last)
example = planes(np.zeros(({batch}, {size}, {size}, 3), "float32")).to(torch.bfloat16)
model = torch.jit.freeze(torch.jit.trace(model, example, check_trace=False))
call = lambda images: model(planes(images).to(torch.bfloat16)).float().softmax(-1).numpy()
"""
)
TIMM_OPENVINO = (
    TIMM
    + """
import openvino
converted = openvino.convert_model(model, example_input=torch.zeros(1, 3, {size}, {size}))
compiled = openvino.compile_model(converted, "CPU", {{"INFERENCE_PRECISION_HINT": {hint!r}}})
request = compiled.create_infer_request()
call = lambda images: np.array(request.infer([np.ascontiguousarray(images.transpose(0, 3, 1, 2))])[0])
"""
)
CLOCK = """
import json, time
import numpy as np
images = np.random.default_rng(0).uniform(-1, 1, ({batch}, {size}, {size}, 3)).astype("float32")
seconds = []
for _ in range({steps} + {burn_in}):
    started = time.perf_counter()
    np.asarray(call(images))
    seconds.append(time.perf_counter() - started)
status = open("/proc/self/status").read()
peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024
print(json.dumps([seconds[{burn_in}:], peak]))
"""


def peers(model: str) -> dict[tuple[str, str], tuple[str, dict, bool]]:
    """{(name, precision): (program, its settings, does it need torch)}, ours first."""
    keras_name, timm_name = THEIRS.get(model, (None, None))
    found = {}
    for backend, precisions in (
        ("tensorflow", ("bfloat16", "float32")),
        ("openvino", ("int8", "bfloat16", "float32")),
    ):
        for precision in precisions:
            settings = {"backend": backend, "precision": precision}
            found[f"inception_tf, {backend}", precision] = (OURS, settings, False)
    found["onnxruntime, of ours", "float32"] = (ONNX, {}, False)
    if keras_name:
        for policy in ("float32", "mixed_bfloat16"):
            settings = {"name": keras_name, "policy": policy}
            found["keras.applications, predict", policy] = (KERAS_PREDICT, settings, False)
            found["keras.applications, one graph", policy] = (KERAS_GRAPH, settings, False)
    if timm_name:
        settings = {"name": timm_name}
        found["timm", "float32"] = (TIMM_PLAIN, settings, True)
        found["timm, channels last", "float32"] = (TIMM_LAST, settings, True)
        found["timm, traced", "bfloat16"] = (TIMM_TRACED, settings, True)
        for hint, precision in (("bf16", "bfloat16"), ("f32", "float32")):
            found["OpenVINO, of timm", precision] = (TIMM_OPENVINO, settings | {"hint": hint}, True)
    return found


def figures(
    common: dict, seconds: dict[tuple[str, str], list[float]], limits: Limits
) -> list[tuple]:
    """[(name, `Evidence`)] of each peer's median call; the arguments are those of `page`."""
    model, batch, size = (common[key] for key in ("model", "batch", "size"))
    return [
        (
            f"{name}, {precision}",
            evidence(
                "Forward",
                model,
                size,
                batch,
                precision,
                statistics.median(times),
                limits.of(precision),
            ),
        )
        for (name, precision), times in seconds.items()
    ]


def page(
    common: dict,
    seconds: dict[tuple[str, str], list[float]],
    memory: dict[tuple[str, str], int],
    limits: Limits,
) -> str:
    """The table; `UserError` where a figure is impossible.

    Args:
        common: model, batch and size.
        seconds: of each call, by (name, precision), ours first.
        memory: bytes, by the same.
    """
    from inception_tf.benchmark.plausibility import refuse_suspect

    model, batch, size = (common[key] for key in ("model", "batch", "size"))
    medians = {key: statistics.median(times) for key, times in seconds.items()}
    refuse_suspect(figures(common, seconds, limits))
    first = next(iter(medians.values()))
    lines = [f"{model}, batch {batch}, {size}x{size}", "", HEAD]
    for (name, precision), median in medians.items():
        cells = (
            name,
            precision,
            f"{median:.4f}",
            f"{batch / median:.1f}",
            f"{median / first:.2f}",
            f"{memory[name, precision] / 2**20:,.0f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


@click.command()
@click.option("--model", default="inception_v3", show_default=True)
@click.option("--batch-size", default=32, show_default=True)
@click.option("--size", type=int, help="[default: the published size]")
@click.option("--steps", default=5, show_default=True, help="Timed calls per round.")
@click.option("--rounds", default=3, show_default=True)
@click.option(
    "--torch-python", default=sys.executable, help="A Python interpreter with torch and timm."
)
@click.option("--only", help="Only peers whose name contains this.")
@click.option(
    "--json", "json_file", metavar="FILE", help="Write the seconds of every call, after each peer."
)
def main(model, batch_size, size, steps, rounds, torch_python, only, json_file):
    from inception_tf import models
    from inception_tf.arch import counting
    from inception_tf.benchmark.plausibility import suspicions
    from inception_tf.benchmark.report import least_bytes

    with one_sentence():
        network = models.find_network(model)
        side = size or network.size
        common = {"model": model, "batch": batch_size, "size": side, "steps": steps}
        weights = counting.total(counting.layer_costs(network, side), "params")
        working_set = least_bytes("Forward", "bfloat16", weights, 3 * side**2 * batch_size)
        limits = Limits(("float32", "bfloat16"), working_set)
        limits.measure()
        seconds, memory = {}, {}
        chosen = {key: peer for key, peer in peers(model).items() if not only or only in key[0]}
        for number in range(rounds):
            for key, (program, settings, needs_torch) in list(chosen.items()):
                started = time.perf_counter()
                values = common | settings
                found = answer(
                    torch_python if needs_torch else sys.executable,
                    program.format(**values),
                    clock=CLOCK.format(**values, burn_in=BURN_IN),
                )
                if found is None:
                    click.echo(f"{', '.join(key)}: not installed", err=True)
                    del chosen[key]
                    continue
                seconds.setdefault(key, []).extend(found[0])
                memory[key] = max(memory.get(key, 0), found[1])
                if json_file:
                    rows = {", ".join(k): [times, memory[k]] for k, times in seconds.items()}
                    Path(json_file).write_text(json.dumps(rows, indent=2), encoding="utf-8")
                took = time.perf_counter() - started
                click.echo(f"round {number + 1}, {', '.join(key)}: {took:.0f} s", err=True)
                if any(suspicions(figure) for _, figure in figures(common, seconds, limits)):
                    limits.measure()  # the machine has become faster, or the figure is wrong
            limits.measure()
        if not seconds:
            raise click.ClickException("no peer is installed here, or none has this name")
        click.echo(page(common, seconds, memory, limits))


if __name__ == "__main__":
    main()
