# SPDX-License-Identifier: Apache-2.0
"""Everything to measure on a GPU that is available for a few minutes, in one command.

Keras runs on JAX, or on torch where a row says so; neither TensorFlow nor internet access is needed.  Six
parts run in this order, each with a fraction of --minutes; later parts get the time that a part does not use:

    report      10 %  the documents' report: Inception V3, 100 steps of 32 images, in each precision
    networks    30 %  the forward pass of all networks: batch 256, 32 and 1, bfloat16 and float16
    train-step  20 %  forward, backward and the optimizer's update, with loss scaling in float16
    peers       15 %  timm's and torchvision's networks on the same GPU, timed the same way
    training    15 %  a real training: handwritten digits with `model.fit` in mixed_float16
    memory      10 %  the peak GPU memory of V3

Each part starts with what matters most and is saved when it ends: `accelerator.json` has every step,
`accelerator.md` the tables.  Whatever failed, or had no time left, is listed with the reason.  An
impossible figure is marked in the JSON file and listed instead of its row.

The clock includes one call, from the batch in GPU memory to the result in NumPy; building, compiling and
ten calls are not included.  The cases of one network are compiled in parallel.

    python benchmarks/accelerator.py --out results
    python benchmarks/accelerator.py --out results --tiny     # tries every part, on a CPU
    python benchmarks/accelerator.py --write-digits digits.npz   # for a machine without scikit-learn
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # works from a checkout that nobody has installed

SHARES = {
    "report": 0.10,
    "networks": 0.30,
    "train-step": 0.20,
    "peers": 0.15,
    "training": 0.15,
    "memory": 0.10,
}
SMALL = "googlenet"  # for rehearsals: the network of the family that compiles soonest
DOCUMENTS = 0.168  # seconds a batch: the documents' figure for V3, batch 32
GRACE_S = 5  # that a part may take past its share before it is ended
NETWORKS = (
    *("inception_v3", "inception_v4", "inception_resnet_v2", "inception_v1", "bn_inception"),
    *("googlenet", "inception_v2", "inception", "inception_resnet_v1", "vgg16", "alexnet"),
)
TRAINED = ("inception_v3", "bn_inception", "inception_v4", "inception_resnet_v2")
# Their network: (module, name there, our network of the same operations, size in pixels).
PEERS = {
    "timm inception_v3": ("timm", "inception_v3", "inception_v3", 299),
    "torchvision googlenet": ("torchvision", "googlenet", "inception_v1", 224),
    "timm inception_v4": ("timm", "inception_v4", "inception_v4", 299),
    "timm inception_resnet_v2": ("timm", "inception_resnet_v2", "inception_resnet_v2", 299),
}
DIGITS_TRAINED = 1437  # images of 1,797; the others are tested on
DIGITS_SIZE = 48  # pixels
SHIFT = 6  # pixels, one of the 8 x 8 originals


# ---- what each part does: a list of groups, and each group's tasks share a process ----


def groups(part: str, tiny: bool) -> list[dict]:
    """Groups of a part in the order of their worth.

    Returns:
        Dicts with `backend` (of Keras, or "" for torch alone) and `tasks`, dicts that `run_task` takes.
    """
    return {
        "report": _report_groups,
        "networks": _network_groups,
        "train-step": _train_step_groups,
        "peers": _peer_groups,
        "training": _training_groups,
        "memory": _memory_groups,
    }[part](tiny)


def _case(kind: str, model: str, batch: int, precision: str, tiny: bool, **more) -> dict:
    from inception_tf.models import find_network

    case = {"kind": kind, "model": model, "batch_size": batch, "precision": precision, **more}
    if tiny:
        case |= {"size": find_network(model).min_size, "batch_size": min(batch, 3), "steps": 2}
    return {"do": "time", "case": {"backend": "keras", **case}}


def _report_groups(tiny: bool) -> list[dict]:
    model = SMALL if tiny else "inception_v3"
    case = partial(_case, "forward", model, 32, tiny=tiny)
    tasks = [case(p) for p in ("bfloat16", "float16", "float32")]
    tasks.append(case("float32") | {"exact": True})
    return [{"backend": "jax", "tasks": tasks}]


def _network_groups(tiny: bool) -> list[dict]:
    names = (SMALL, "alexnet") if tiny else NETWORKS
    batches = (2, 1) if tiny else (256, 32, 1)
    tasks = [
        _case("forward", name, batch, precision, tiny, steps=2 if tiny else 30)
        for name in names
        for batch in batches
        for precision in ("bfloat16", "float16")
    ]
    return [{"backend": "jax", "tasks": tasks}]


def _train_step_groups(tiny: bool) -> list[dict]:
    names = (SMALL,) if tiny else TRAINED
    tasks = [
        _case("train-step", name, batch, precision, tiny, steps=2 if tiny else 20)
        for name in names
        for batch in ((2,) if tiny else (256, 64))
        for precision in ("bfloat16", "float16")
    ]
    return [{"backend": "jax", "tasks": tasks}]


def _peer_groups(tiny: bool) -> list[dict]:
    def peer(name, kind="forward", precision="bfloat16", compiled=True, batch=256):
        task = {"do": "peer", "name": name, "kind": kind, "precision": precision}
        task |= {"compiled": compiled, "batch_size": batch, "steps": 30}
        return task | ({"batch_size": 2, "steps": 2, "size": 80} if tiny else {})

    if tiny:
        ours = _case("forward", "alexnet", 2, "bfloat16", tiny, compile="graph")
        theirs = [
            peer("torchvision googlenet", compiled=False),
            peer("torchvision googlenet"),
            peer("timm inception_v3", "train-step", compiled=False),
        ]
        return [{"backend": "", "tasks": theirs}, {"backend": "torch", "tasks": [ours]}]
    first, *others = PEERS
    ours = _case("forward", "inception_v3", 256, "bfloat16", tiny, steps=30, compile="graph")
    return [
        {
            "backend": "",
            "tasks": [
                peer(first, compiled=False),
                peer(first, "train-step", compiled=False, batch=64),
                *(peer(name, compiled=False) for name in others),
                peer(first),
            ],
        },
        {"backend": "torch", "tasks": [ours]},
        {
            "backend": "",
            "tasks": [
                peer(first, "train-step", batch=64),
                *(peer(name) for name in others),
                peer(first, precision="float16"),
            ],
        },
    ]


def _training_groups(tiny: bool) -> list[dict]:
    task = {"do": "train", "model": "inception_v1", "epochs": 20, "batch_size": 32, "width": 1.0}
    return [{"backend": "jax", "tasks": [task | ({"epochs": 2, "width": 0.25} if tiny else {})]}]


def _memory_groups(tiny: bool) -> list[dict]:
    model = "alexnet" if tiny else "inception_v3"
    cases = [
        _case("forward", model, 256, "bfloat16", tiny, steps=2),
        _case("train-step", model, 64, "bfloat16", tiny, steps=2),
        _case("train-step", model, 256, "bfloat16", tiny, steps=2),
        _case("forward", model, 32, "bfloat16", tiny, steps=2),
    ]
    # A process each: a peak does not fall again.
    return [
        {"backend": "jax", "tasks": [case | {"do": "memory"}]}
        for case in cases[: 2 if tiny else None]
    ]


def title(task: dict) -> str:
    """What a task is called in lists and errors."""
    if task["do"] == "peer":
        how = "torch.compile" if task["compiled"] else "eager"
        return f"{task['name']}, {task['kind']}, batch {task['batch_size']}, {task['precision']}, {how}"
    if task["do"] == "train":
        return f"{task['model']} on the digits, {task['epochs']} epochs, mixed_float16"
    case = task["case"]
    precision = case["precision"] + (" without TF32" if task.get("exact") else "")
    what = "memory of " if task["do"] == "memory" else ""
    return f"{what}{case['model']}, {case['kind']}, batch {case['batch_size']}, {precision}"


# ---- a child: the tasks of one group, one line of JSON for each that is done ----


def run_group(group: dict, results: Path, tiny: bool, digits: str | None) -> None:
    """Runs a group's tasks and appends `{"task": number, ...}` to `results` as each ends."""
    if tiny:
        _rehearse()
    with open(results, "a", encoding="utf-8") as file:

        def done(number: int, **found) -> None:
            file.write(json.dumps({"task": number, **found}) + "\n")
            file.flush()

        if group["tasks"][0]["do"] == "time":
            _time_all(group["tasks"], done)
            return
        for number, task in enumerate(group["tasks"]):
            run = {"peer": _peer, "train": partial(_train, digits=digits), "memory": _memory}
            _guarded(done, number, partial(run[task["do"]], task))


def _rehearse() -> None:
    """torch.compile without its code generator, which takes minutes of a processor."""
    try:
        import torch
    except ImportError:
        return
    torch.compile = partial(torch.compile, backend="aot_eager")


def _guarded(done: Callable, number: int, run: Callable[[], dict]) -> None:
    """A task's result, or its error in one line: the next task is to run all the same."""
    try:
        found = run()
    except Exception as error:  # whatever a card may say, such as that its memory is full
        done(number, error=_sentence(error))
    else:
        done(number, **found)


def _sentence(error: Exception) -> str:
    """An error's kind and first line; its traceback goes to stderr."""
    traceback.print_exception(error)
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}"[:300]


def _time_all(tasks: list[dict], done: Callable) -> None:
    """Times cases, those of one network compiled side by side; the peak is measured before and after."""
    from inception_tf.benchmark.peak import measure_flops
    from inception_tf.benchmark.plausibility import Peak

    def kind(number: int) -> tuple[str, bool]:
        return tasks[number]["case"]["precision"], bool(tasks[number].get("exact"))

    peaks: dict[tuple, Peak] = {}

    def measure_peaks() -> None:
        for precision, exact in dict.fromkeys(map(kind, range(len(tasks)))):
            with _float32(exact):
                found = Peak(measure_flops(precision))
            peaks[precision, exact] = peaks.get((precision, exact), Peak()).better(found)

    def save(number: int, timing, lines: list[str]) -> None:
        figures = dataclasses.replace(timing, peak=peaks[kind(number)]).as_dict()
        done(number, timing=figures | {"lines": lines})

    measure_peaks()
    timed = []
    for numbers in _by_network(tasks):
        for found in _time_network(numbers, tasks, done):
            timed.append(found)
            save(*found)
    measure_peaks()
    for found in timed:
        save(*found)


def _by_network(tasks: list[dict]) -> Iterator[list[int]]:
    """Numbers of consecutive tasks of the same network and kind."""
    batch: list[int] = []
    for number, task in enumerate(tasks):
        if batch and task["case"]["model"] != tasks[batch[-1]]["case"]["model"]:
            yield batch
            batch = []
        batch.append(number)
    yield batch


def _time_network(numbers: list[int], tasks: list[dict], done: Callable) -> Iterator[tuple]:
    """(number, Timing, lines of the report) of each task: built one after another, compiled side by side, timed one after another."""
    from inception_tf.applications import create_model
    from inception_tf.benchmark.case import Case
    from inception_tf.benchmark.run import time_prepared
    from inception_tf.benchmark.steps import prepare, resolved

    cases = {n: resolved(Case(**tasks[n]["case"]).checked()) for n in numbers}
    network, prepared, seconds = None, {}, {}
    for number, case in cases.items():
        started = time.perf_counter()
        try:
            if case.kind == "forward" and network is None:
                network = create_model(case.model, input_shape=(case.size, case.size, 3))
            prepared[number] = prepare(case, network)
        except Exception as error:
            done(number, error=_sentence(error))
        seconds[number] = time.perf_counter() - started

    def compile_one(number: int) -> None:
        started = time.perf_counter()
        with _float32(bool(tasks[number].get("exact"))):
            prepared[number].step()
            seconds[number] += time.perf_counter() - started
            if prepared[number].forward:
                prepared[number].forward()

    with ThreadPoolExecutor(len(prepared) or 1) as pool:
        waiting = {number: pool.submit(compile_one, number) for number in prepared}
    for number, compiled in waiting.items():
        try:
            compiled.result()
            lines: list[str] = []
            with _float32(bool(tasks[number].get("exact"))):
                timing = time_prepared(
                    cases[number], prepared.pop(number), seconds[number], lines.append
                )
            _say("\n".join(lines))
            yield number, timing, lines
        except Exception as error:
            done(number, error=_sentence(error))


def _say(line: str) -> None:
    print(line, flush=True)


def _float32(exact: bool):
    """Inside, float32 products of JAX are computed in float32 where `exact`, else as JAX has them by default."""
    if not exact:
        return contextlib.nullcontext()
    import jax

    return jax.default_matmul_precision("highest")


def _peer(task: dict) -> dict:
    """A network of timm or torchvision: channels last, autocast, and Adam's update for a train-step."""
    import numpy as np
    import torch

    from inception_tf.benchmark.run import clocked

    module, name, _, size = PEERS[task["name"]]
    size, batch = task.get("size", size), task["batch_size"]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = getattr(torch, task["precision"])
    started = time.perf_counter()
    if module == "timm":
        import timm

        model = timm.create_model(name, pretrained=False)
    else:
        import torchvision

        model = torchvision.models.googlenet(
            weights=None, aux_logits=False, transform_input=False, init_weights=False
        )
    model = model.to(device, memory_format=torch.channels_last)
    images = torch.rand(batch, 3, size, size, device=device) * 2 - 1
    images = images.to(memory_format=torch.channels_last)
    model.train(task["kind"] == "train-step")
    call = torch.compile(model) if task["compiled"] else model

    def forward():
        with torch.no_grad(), torch.autocast(device, dtype):
            return call(images).float().softmax(-1).cpu().numpy()

    labels = torch.arange(batch, device=device) % 1000
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=device == "cuda")
    scaler = torch.amp.GradScaler(device, enabled=task["precision"] == "float16")

    def train():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, dtype):
            loss = torch.nn.functional.cross_entropy(call(images).float(), labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return np.asarray(loss.item())

    step = forward if task["kind"] == "forward" else train
    step()
    compile_seconds = time.perf_counter() - started
    durations = clocked(step, task["steps"], lambda line: None)
    version = f"torch {torch.__version__}, {'torch.compile' if task['compiled'] else 'eager'}"
    return {
        "peer": {"size": size, "compile_seconds": compile_seconds, "durations": durations}
        | {"median": statistics.median(durations), "backend": version}
    }


def write_digits(path: Path) -> None:
    """scikit-learn's 1,797 handwritten digits as one file: `images` (N, 8, 8) 0..16, `labels` (N,)."""
    import numpy as np
    from sklearn.datasets import load_digits

    digits = load_digits()
    np.savez_compressed(path, images=digits.images.astype("uint8"), labels=digits.target)


def read_digits(path: str | None) -> tuple:
    """Images (N, 48, 48, 3) float32 -1..1 and labels (N, 10) float32, from a file or from scikit-learn."""
    import numpy as np

    if path is None:
        from sklearn.datasets import load_digits

        digits = load_digits()
        images, labels = digits.images, digits.target
    else:
        with np.load(path) as file:
            images, labels = file["images"], file["labels"]
    factor = DIGITS_SIZE // 8
    pixels = images.astype("float32").repeat(factor, 1).repeat(factor, 2)[..., None] / 8 - 1
    return pixels.repeat(3, 3), np.eye(10, dtype="float32")[labels]


def _train(task: dict, digits: str | None) -> dict:
    """`model.fit` of the network as `compiled_model` has it, in mixed_float16 with loss scaling."""
    import keras
    import numpy as np

    from inception_tf.host.hardware import Precision
    from inception_tf.models import find_network
    from inception_tf.training.compile import compiled_model
    from inception_tf.training.model_plan import ModelPlan
    from inception_tf.training.recipes import read_recipe

    images, labels = read_digits(digits)
    batch = task["batch_size"]
    # Whole batches alone: another shape would be compiled apart.
    count = DIGITS_TRAINED // batch * batch
    words = [f"model.name={task['model']}", f"model.width_multiplier={task['width']}"]
    words += [f"training.epochs={task['epochs']}", f"model.size={DIGITS_SIZE}"]
    config = read_recipe("digits").override(words)
    keras.utils.set_random_seed(config.training.seed)
    plan = ModelPlan(
        config,
        find_network(task["model"]),
        10,
        DIGITS_SIZE,
        count // batch,
        Precision("mixed_float16", "as asked for"),
    )
    model = compiled_model(plan)
    model.jit_compile = True
    marks = [time.perf_counter()]

    class Mark(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            marks.append(time.perf_counter())
            _say(f"epoch {epoch + 1}: " + ", ".join(f"{k} {v:.4f}" for k, v in logs.items()))

    class Shifted(keras.utils.PyDataset):
        """The training images in a new order each epoch, each shifted by up to a pixel of the original."""

        def __init__(self):
            super().__init__()
            self.random = np.random.default_rng(config.training.seed)
            self.on_epoch_end()

        def __len__(self):
            return count // batch

        def __getitem__(self, number):
            chosen = self.order[number * batch : (number + 1) * batch]
            shifts = self.random.integers(-SHIFT, SHIFT + 1, (batch, 2))
            moved = [
                np.roll(images[i], shift, (0, 1)) for i, shift in zip(chosen, shifts, strict=True)
            ]
            return np.stack(moved), {"predictions": labels[chosen]}

        def on_epoch_end(self):
            self.order = self.random.permutation(DIGITS_TRAINED)

    history = model.fit(
        Shifted(),
        epochs=task["epochs"],
        validation_data=(images[DIGITS_TRAINED:], {"predictions": labels[DIGITS_TRAINED:]}),
        validation_batch_size=len(images) - DIGITS_TRAINED,
        callbacks=[Mark()],
        verbose=0,
    ).history
    epochs = np.diff(marks)
    return {
        "training": {
            "accuracy": history["val_top1"],
            "loss": history["loss"],
            "seconds": float(marks[-1] - marks[0]),
            "first_epoch": float(epochs[0]),
            "epoch": float(np.median(epochs[1:])),
            "loss_scale": float(keras.ops.convert_to_numpy(model.optimizer.dynamic_scale)),
            "images": count,
            "tested": len(images) - DIGITS_TRAINED,
        }
    }


def _memory(task: dict) -> dict:
    """The most memory of the card, or of the process on a processor, after two steps of a case."""
    import jax

    from inception_tf.benchmark.case import Case
    from inception_tf.benchmark.steps import prepare, resolved
    from inception_tf.host.hardware import peak_memory

    prepared = prepare(resolved(Case(**task["case"]).checked()))
    for _ in range(2):
        prepared.step()
    found = jax.devices()[0].memory_stats() or {}
    peak = found.get("peak_bytes_in_use")
    return {"memory": {"bytes": peak or peak_memory(), "of": "card" if peak else "process"}}


# ---- the parent: children one after another, each until its part's time is over ----


def run_part(part: str, ends: float, options: dict) -> dict:
    """The part's record: seconds, results with their tasks, and what was left out with the reason."""
    started = time.monotonic()
    results, left_out = [], []
    for group in groups(part, options["tiny"]):
        found, over = {}, ends - time.monotonic() <= 0
        if not over:
            found, over, code = run_child(group, ends, options)
        for number, task in enumerate(group["tasks"]):
            result = found.get(number)
            if result is None:
                reason = "no time" if over else f"its process ended with {code}"
                left_out.append({"task": title(task), "reason": reason})
            elif "error" in result:
                left_out.append({"task": title(task), "reason": result["error"]})
            else:
                results.append({**task, **result, "task": title(task)})
    return {
        "seconds": time.monotonic() - started,
        "results": results,
        "left_out": left_out,
    }


def run_child(group: dict, ends: float, options: dict) -> tuple[dict, bool, int]:
    """What a group's process wrote by task number, whether it was ended for time, and its exit code."""
    work = Path(options["work"])
    plan, results = work / "group.json", work / "results.jsonl"
    plan.write_text(json.dumps(group), encoding="utf-8")
    results.write_text("", encoding="utf-8")
    words = [sys.executable, __file__, "--group", str(plan), "--results", str(results)]
    words += ["--tiny"] if options["tiny"] else []
    words += ["--digits", options["digits"]] if options["digits"] else []
    # A session of its own: compilers are processes too, and all of them end with it.
    child = subprocess.Popen(words, env=_environment(group, work), start_new_session=True)
    over = False
    try:
        left = max(0.0, ends - time.monotonic()) + GRACE_S
        child.wait(left if math.isfinite(left) else None)
    except subprocess.TimeoutExpired:
        over = True
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    # The last line of a process that was killed may be torn.
    lines = results.read_text(encoding="utf-8").splitlines(keepends=True)
    found = [json.loads(line) for line in lines if line.endswith("\n")]
    return {one.pop("task"): one for one in found}, over, child.returncode


def _environment(group: dict, work: Path) -> dict:
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "KERAS_BACKEND": group["backend"] or "torch",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "JAX_COMPILATION_CACHE_DIR": str(work / "jax"),
        "TORCHINDUCTOR_CACHE_DIR": str(work / "inductor"),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }


def judge(record: dict) -> None:
    """Gives every timed result its fraction of the best rate that any process measured, and marks the impossible."""
    from inception_tf.arch import counting
    from inception_tf.benchmark.plausibility import Evidence, Peak, suspicions
    from inception_tf.models import find_network

    results = [r for part in record["parts"].values() for r in part["results"]]
    peaks: dict[str, float] = {}
    for result in results:
        timing = result.get("timing")
        if timing and timing["peak_flops_per_second"]:
            key = _precision(result)
            peaks[key] = max(peaks.get(key, 0.0), timing["peak_flops_per_second"])
    record["peak_flops_per_second"] = peaks
    for result in results:
        peak = Peak(peaks.get(_precision(result)))
        if "timing" in result:
            timing = result["timing"]
            flops = timing["flops_per_second"]
            forward, compiling = timing["forward_seconds"], timing["compile_seconds"]
        elif isinstance(result.get("peer"), dict):
            timing, peer = result["peer"], result["name"]
            fields = (
                "multiply_adds",
                *(("backward_multiply_adds",) * (result["kind"] != "forward")),
            )
            costs = counting.layer_costs(find_network(PEERS[peer][2]), timing["size"])
            flops = 2 * result["batch_size"] * sum(counting.total(costs, f) for f in fields)
            flops /= timing["median"]
            forward, compiling = None, timing["compile_seconds"]
        else:
            continue
        share = flops / peak.flops if peak.flops else None
        found = Evidence(
            timing["median"],
            flops * timing["median"],
            peak=peak,
            compile_seconds=compiling,
            forward_seconds=forward,
        )
        timing |= {"flops_per_second": flops, "share_of_peak": share}
        timing["suspect"] = list(suspicions(found))


def _precision(result: dict) -> str:
    precision = result["case"]["precision"] if "case" in result else result.get("precision", "")
    return f"{precision} without TF32" if result.get("exact") else precision


# ---- the page ----


def render(record: dict) -> str:
    """The Markdown page of a record that `judge` has seen; suspect figures are listed, not shown."""
    lines = [f"# Inception on {record['device']}", "", f"    {record['command']}", ""]
    if record.get("tiny"):
        lines += [
            "A rehearsal: small images, few steps, torch.compile without its code generator.",
            "",
        ]
    lines += [record["about"], ""]
    if record["peak_flops_per_second"]:
        best = ", ".join(
            f"{v / 1e12:.3g} in {k}" for k, v in record["peak_flops_per_second"].items()
        )
        lines += [f"At best, by one large matrix product or convolution, TFLOP/s: {best}.", ""]
    for name, part in record["parts"].items():
        lines += [f"## {name}", "", f"{part['seconds']:.0f} s.", ""]
        good = [r for r in part["results"] if not _suspect(r)]
        lines += [*RENDER[name](good), ""] if good else []
        wrong = [
            {"task": r["task"], "reason": f"impossible: {'; '.join(_suspect(r))}"}
            for r in part["results"]
            if _suspect(r)
        ]
        left = [*part["left_out"], *wrong]
        if left:
            lines += ["Left out:", "", *(f"- {one['task']}: {one['reason']}" for one in left), ""]
    return "\n".join(lines)


def _suspect(result: dict) -> list[str]:
    timing = result.get("timing") or result.get("peer")
    return timing["suspect"] if timing else []


def _table(header: tuple[str, ...], rows: list[tuple]) -> list[str]:
    return [
        f"| {' | '.join(header)} |",
        f"|{'---|' * len(header)}",
        *(f"| {' | '.join(map(str, row))} |" for row in rows),
    ]


def _rates(timing: dict, batch: int) -> tuple[str, ...]:
    share = timing["share_of_peak"]
    return (
        f"{1e3 * timing['median']:.2f}",
        f"{batch / timing['median']:,.0f}",
        f"{timing['flops_per_second'] / 1e9:,.0f}",
        f"{share:.0%}" if share else "",
    )


RATES = ("ms / step", "images / s", "GFLOP/s", "of the peak")


def _render_report(results: list[dict]) -> list[str]:
    rows = [
        (
            *(r["timing"]["model"], r["timing"]["batch_size"], _precision(r)),
            *("TF32" if r["timing"]["tf32"] else "",),
            *(f"{r['timing']['mean']:.4f} +/- {r['timing']['standard_deviation']:.4f}",),
            # The documents' figure is of this network and batch alone.
            f"{DOCUMENTS / r['timing']['mean']:.1f}" if _is_documents(r["timing"]) else "",
        )
        for r in results
    ]
    header = (
        "network",
        "batch",
        "precision",
        "",
        "sec / batch",
        "times as fast as the documents' 0.168",
    )
    first = results[0]["timing"]
    return [
        "```text",
        *first["lines"],
        "```",
        "",
        *_table(header, rows),
    ]


def _is_documents(timing: dict) -> bool:
    return (timing["model"], timing["batch_size"], timing["size"]) == ("inception_v3", 32, 299)


def _render_timings(results: list[dict]) -> list[str]:
    rows = [
        (
            *(r["timing"][key] for key in ("model", "batch_size", "size", "precision")),
            *_rates(r["timing"], r["timing"]["batch_size"]),
            f"{r['timing']['compile_seconds']:.1f}",
        )
        for r in results
    ]
    return _table(("network", "batch", "pixels", "precision", *RATES, "compiling, s"), rows)


def _render_peers(results: list[dict]) -> list[str]:
    rows = []
    for r in results:
        timing = r.get("timing") or r["peer"]
        name = f"ours, {timing['model']}" if "timing" in r else r["name"]
        batch = timing["batch_size"] if "timing" in r else r["batch_size"]
        kind = timing["what"].lower() if "timing" in r else r["kind"]
        rows.append((name, kind, batch, _precision(r), timing["backend"], *_rates(timing, batch)))
    return _table(("network", "what", "batch", "precision", "by", *RATES), rows)


def _render_training(results: list[dict]) -> list[str]:
    rows = []
    for r in results:
        t = r["training"]
        best = max(t["accuracy"])
        rows.append(
            (
                r["model"],
                *(r["epochs"], f"{t['accuracy'][-1]:.2%}", f"{best:.2%}", f"{t['seconds']:.0f}"),
                *(f"{t['first_epoch']:.1f}", f"{t['epoch']:.2f}", f"{t['loss_scale']:.0f}"),
            )
        )
    header = (
        "network",
        "epochs",
        "top-1",
        "best top-1",
        "s",
        "first epoch, s",
        "s per epoch",
        "loss scale",
    )
    return _table(header, rows)


def _render_memory(results: list[dict]) -> list[str]:
    rows = [
        (
            *(
                r["case"]["model"],
                r["case"]["kind"],
                r["case"]["batch_size"],
                r["case"]["precision"],
            ),
            f"{r['memory']['bytes'] / 2**20:,.0f}",
            r["memory"]["of"],
        )
        for r in results
    ]
    return _table(("network", "what", "batch", "precision", "peak, MiB", "of the"), rows)


RENDER = {
    "report": _render_report,
    "networks": _render_timings,
    "train-step": _render_timings,
    "peers": _render_peers,
    "training": _render_training,
    "memory": _render_memory,
}


def save(record: dict, out: Path) -> None:
    from inception_tf.host.atomic_io import atomic_write_text

    judge(record)
    atomic_write_text(out / "accelerator.json", json.dumps(record, indent=1) + "\n")
    atomic_write_text(out / "accelerator.md", render(record))


def about() -> tuple[str, str]:
    """The card's or processor's name, and one line of versions, by a process of its own."""
    program = (
        "import json, jax, sys; from inception_tf.host.hardware import device_name, processor_name;"
        " from inception_tf.host.environment import environment; from inception_tf.host.devices import nvidia_driver;"
        " print(json.dumps([device_name(), processor_name(), environment(), nvidia_driver()]))"
    )
    words = [sys.executable, "-c", program]
    with tempfile.TemporaryDirectory() as work:
        variables = _environment({"backend": "jax"}, Path(work))
        told = subprocess.run(words, env=variables, capture_output=True, text=True)
    if told.returncode:
        raise click.ClickException(
            f"Keras does not run on JAX here: {(told.stderr.strip().splitlines() or [''])[-1]}"
        )
    device, processor, versions, driver = json.loads(told.stdout.splitlines()[-1])
    parts = [f"{name} {version}" for name, version in versions.items()]
    parts.append(
        f"NVIDIA driver {driver['driver']}" if driver and "driver" in driver else processor
    )
    return device, f"{time.strftime('%Y-%m-%d')}; {', '.join(parts)}."


@click.command()
@click.option(
    "--out", type=click.Path(file_okay=False), help="A folder for the JSON file and the page."
)
@click.option(
    "--minutes",
    default=8.0,
    show_default=True,
    help="For all parts together; a rehearsal runs to its end.",
)
@click.option("--tiny", is_flag=True, help="Every part on small images and few steps: a rehearsal.")
@click.option("--only", type=click.Choice(tuple(SHARES)), multiple=True, help="These parts alone.")
@click.option("--digits", type=click.Path(dir_okay=False), help="What --write-digits wrote.")
@click.option("--write-digits", "write_to", type=click.Path(dir_okay=False), metavar="FILE.npz")
@click.option("--group", type=click.Path(), hidden=True)
@click.option("--results", type=click.Path(), hidden=True)
def main(out, minutes, tiny, only, digits, write_to, group, results):
    """Measures everything on the card that is at hand, within --minutes."""
    if group:
        plan = json.loads(Path(group).read_text(encoding="utf-8"))
        run_group(plan, Path(results), tiny, digits)
        return
    if write_to:
        write_digits(Path(write_to))
        return
    if not out or minutes <= 0:
        raise click.UsageError("needs --out FOLDER, and --minutes above 0")
    if digits and not Path(digits).is_file():
        raise click.UsageError(f"there is no file {digits}; --write-digits makes one")
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    device, versions = about()
    command = " ".join(["python benchmarks/accelerator.py", *(arg for arg in sys.argv[1:])])
    record = {
        "device": device,
        "about": versions,
        "command": command,
        "minutes": minutes,
        "tiny": tiny,
        "parts": {},
    }
    parts = {name: share for name, share in SHARES.items() if not only or name in only}
    work = tempfile.mkdtemp(prefix="accelerator-")
    options = {"tiny": tiny, "digits": digits and os.path.abspath(digits), "work": work}
    began, share = time.monotonic(), 0.0
    try:
        for name, own in parts.items():
            share += own / sum(parts.values())
            _say(f"== {name}")
            ends = math.inf if tiny else began + 60 * minutes * share
            record["parts"][name] = run_part(name, ends, options)
            save(record, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    _say(render(record))


if __name__ == "__main__":
    main()
