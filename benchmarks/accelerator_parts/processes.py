# SPDX-License-Identifier: Apache-2.0
"""The processes of `accelerator.py`: one for each group of tasks, each until its part's time is over."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from accelerator_parts.plan import groups, title

BENCHMARKS = Path(__file__).resolve().parents[1]
GRACE_S = 5  # that a part may take past its share before it is ended


def run_part(part: str, ends: float, options: dict) -> dict:
    """The part's record: seconds, results with their tasks, and what did not run with the reason."""
    started = time.monotonic()
    results, not_run = [], []
    for group in groups(part, options["tiny"]):
        found, over = {}, ends - time.monotonic() <= 0
        if not over:
            found, over, code = run_child(group, ends, options)
        for number, task in enumerate(group["tasks"]):
            result = found.get(number)
            if result is None:
                reason = "no time" if over else f"its process ended with {code}"
                not_run.append({"task": title(task), "reason": reason})
            elif "error" in result:
                not_run.append({"task": title(task), "reason": result["error"]})
            else:
                results.append({**task, **result, "task": title(task)})
    return {
        "seconds": time.monotonic() - started,
        "results": results,
        "not_run": not_run,
    }


def run_child(group: dict, ends: float, options: dict) -> tuple[dict, bool, int]:
    """What a group's process wrote by task number, whether it was ended for time, and its exit code."""
    work = Path(options["work"])
    plan, results = work / "group.json", work / "results.jsonl"
    plan.write_text(json.dumps(group | {"files": options["files"]}), encoding="utf-8")
    results.write_text("", encoding="utf-8")
    words = [
        sys.executable,
        str(BENCHMARKS / "accelerator.py"),
        "--group",
        str(plan),
        "--results",
        str(results),
    ]
    words += ["--tiny"] if options["tiny"] else []
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
    paths = [str(BENCHMARKS.parent), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "KERAS_BACKEND": group["backend"] or "torch",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "JAX_COMPILATION_CACHE_DIR": str(work / "jax"),
        # A network is initialized by a hundred programs of a tenth of a second each.
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "TORCHINDUCTOR_CACHE_DIR": str(work / "inductor"),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }


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
