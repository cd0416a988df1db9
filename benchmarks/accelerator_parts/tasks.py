# SPDX-License-Identifier: Apache-2.0
"""The tasks of `accelerator.py`, run by a process for each group: a line of JSON for each that is done."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import statistics
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from accelerator_parts.plan import PEERS, title
from accelerator_parts.training import train


def run_group(group: dict, results: Path, tiny: bool) -> None:
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
            run = {"peer": _peer, "train": partial(train, files=group["files"]), "memory": _memory}
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
        done(number, timing=figures | {"lines": lines, "fit_seconds": fitted.get(number)})

    measure_peaks()
    timed: list[tuple] = []
    fitted: dict[int, float] = {}
    for numbers in _by_network(tasks):
        for *found, fit_seconds in _time_network(numbers, tasks, done):
            timed.append(found)
            if fit_seconds:
                fitted[found[0]] = fit_seconds
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
    """Builds the networks of tasks one after another, compiles them side by side, times them one after another.

    Yields:
        The task's number, its Timing, the lines of its report, and for a train-step the seconds of a step of `fit`.
    """
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
            # The forward pass of a train-step is one more program to compile.
            prepared[number] = dataclasses.replace(prepare(case, network), forward=None)
        except Exception as error:
            done(number, error=_sentence(error))
        seconds[number] = time.perf_counter() - started
        _say(f"{title(tasks[number])}: built in {seconds[number]:.1f} s")
    _use_compilation_cache(False)  # it would hide how long the networks take

    def compile_one(number: int) -> None:
        started = time.perf_counter()
        with _float32(bool(tasks[number].get("exact"))):
            prepared[number].step()
            seconds[number] += time.perf_counter() - started
        _say(f"{title(tasks[number])}: compiled after {seconds[number]:.1f} s")

    with ThreadPoolExecutor(len(prepared) or 1) as pool:
        waiting = {number: pool.submit(compile_one, number) for number in prepared}
    for number, compiled in waiting.items():
        try:
            compiled.result()
            lines: list[str] = []
            trained, fitted = prepared[number].model, None
            with _float32(bool(tasks[number].get("exact"))):
                timing = time_prepared(
                    cases[number], prepared.pop(number), seconds[number], lines.append
                )
            if trained:
                fitted = _time_fit(trained(), cases[number])
            _say("\n".join(lines))
            yield number, timing, lines, fitted
        except Exception as error:
            done(number, error=_sentence(error))
    _use_compilation_cache(True)


def _time_fit(model, case) -> float:
    """Seconds of a step of `model.fit` on a batch in the host's memory: of the second of two epochs."""
    import keras
    import numpy as np

    shape = (case.batch_size, case.pixels, case.pixels, 3)
    images = np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")
    labels = np.eye(model.output["predictions"].shape[-1], dtype="float32")[: case.batch_size]
    batch = images, dict.fromkeys(model.output, labels)

    class Ready(keras.utils.PyDataset):
        def __len__(self):
            return case.steps

        def __getitem__(self, number):
            return batch

    marks = []
    mark = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: marks.append(time.perf_counter()))
    model.fit(Ready(), epochs=2, callbacks=[mark], verbose=0)
    return (marks[1] - marks[0]) / case.steps


def _use_compilation_cache(use: bool) -> None:
    """Switches JAX's cache on disk, which all processes of a call share."""
    import keras

    if keras.backend.backend() == "jax":
        import jax
        from jax.experimental.compilation_cache import compilation_cache

        jax.config.update("jax_enable_compilation_cache", use)
        compilation_cache.reset_cache()  # a process decides once whether it uses the cache


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
