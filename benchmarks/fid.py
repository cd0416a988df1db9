# SPDX-License-Identifier: Apache-2.0
"""Images per second of the whole `inception-tf fid`, against torch-fidelity and pytorch-fid, in float32.

    python benchmarks/fid.py --torch-python PYTHON --images 2000 --rounds 3
    python benchmarks/fid.py --formula

Every program is a process of its own that compares two folders of JPEGs of 256 pixels by 2,048 features, from its start
to its number: imports, weights, decoding, the network and the distance are all in the clock.  The programs take turns,
so that what else the machine does hits all of them alike.  The weights follow a rule (tests/fid/weights.py), in the
published file's form: time does not depend on their values.  PYTHON needs torch, torchvision, torch-fidelity,
pytorch-fid, SciPy below 1.18 and safetensors.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

ROOT = Path(__file__).parents[1]
SIDE, QUALITY = 256, 92
FEATURES = 2048

WEIGHTS = """
import sys
sys.path[:0] = [{fid!r}, {tests!r}]
import torch
from safetensors.torch import save_file
from torchvision.models import inception_v3
from weights import state_dict
network = inception_v3(weights=None, num_classes=1008, init_weights=False, aux_logits=False)
shapes = {{k: tuple(v.shape) for k, v in network.state_dict().items() if "num_batches" not in k}}
state = {{k: torch.from_numpy(v) for k, v in state_dict(shapes).items()}}
torch.save(state, {pth!r})
save_file(state, {safetensors!r})
"""
TORCH_FIDELITY = """
import torch_fidelity
found = torch_fidelity.calculate_metrics(
    input1={a!r}, input2={b!r}, cuda=False, fid=True, verbose=False, cache=False,
    feature_extractor="inception-v3-compat", feature_extractor_weights_path={pth!r})
print(found["frechet_inception_distance"])
"""
PYTORCH_FID = """
import torch
from pytorch_fid import fid_score, inception
inception.load_state_dict_from_url = lambda *arguments, **options: torch.load({pth!r})
print(fid_score.calculate_fid_given_paths([{a!r}, {b!r}], 50, "cpu", 2048, 2))
"""


@dataclass
class Timing:
    """One run of one program."""

    wall: float  # seconds
    processor: float  # seconds of all its threads, and of the workers that it waited for
    peak: float  # MiB of its largest process
    fid: float


def measured(command: list[str], environment: dict[str, str]) -> Timing:
    """Runs a program to its end."""
    started = time.monotonic()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        out = process.stdout.read()
        assert process.stderr is not None
        err = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)[:200]} failed: {err.strip()[-1000:]}")
    value = json.loads(out)["fid"] if out.startswith("{") else float(out.split()[-1])
    wall = time.monotonic() - started
    return Timing(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, value)


def write_images(folder: Path, count: int, seed: int) -> None:
    """JPEGs cut out of scikit-learn's two photographs, each place once."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    photographs = load_sample_images().images
    random = np.random.RandomState(seed)
    folder.mkdir()
    for number in range(count):
        photograph = photographs[number % len(photographs)]
        top = random.randint(photograph.shape[0] - SIDE)
        left = random.randint(photograph.shape[1] - SIDE)
        cut = Image.fromarray(photograph[top : top + SIDE, left : left + SIDE])
        cut.save(folder / f"{number:05}.jpg", quality=QUALITY)


def compare(
    torch_python: str, images: int, rounds: int, threads: int | None, chosen: Sequence[str]
) -> None:
    """Times all programs in turns, and prints a table."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        for seed, name in enumerate(("a", "b")):
            write_images(root / name, images // 2, seed)
        values = {
            "a": str(root / "a"),
            "b": str(root / "b"),
            "pth": str(root / "weights.pth"),
            "safetensors": str(root / "weights.safetensors"),
            "fid": str(ROOT / "tests/fid"),
            "tests": str(ROOT / "tests"),
        }
        subprocess.run([torch_python, "-c", WEIGHTS.format(**values)], check=True)
        ours = [sys.executable, "-m", "inception_tf", "fid", values["a"], values["b"]]
        ours += ["--weights", values["safetensors"], "--no-cache", "--allow-singular", "--json"]
        programs = {
            "inception_tf, tensorflow": ours,
            "inception_tf, openvino": [*ours, "--backend", "openvino"],
            "torch-fidelity": [torch_python, "-c", TORCH_FIDELITY.format(**values)],
            "pytorch-fid": [torch_python, "-c", PYTORCH_FID.format(**values)],
        }
        programs = {name: programs[name] for name in chosen or programs}
        environment = dict(os.environ)
        if threads:
            names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "MKL_NUM_THREADS")
            environment |= dict.fromkeys(names, str(threads))
        found: dict[str, list[Timing]] = {name: [] for name in programs}
        for turn in range(rounds):
            for name, command in programs.items():
                found[name].append(measured(command, environment))
                print(f"{turn + 1}: {name}: {found[name][-1]}", file=sys.stderr, flush=True)
    print("| program | s | images / s | processor s | peak memory, MiB | FID |")
    print("|---|---|---|---|---|---|")
    for name, timings in found.items():
        wall = statistics.median(one.wall for one in timings)
        processor = statistics.median(one.processor for one in timings)
        peak = max(one.peak for one in timings)
        print(
            f"| {name} | {wall:.1f} | {images / wall:.2f} | {processor:.1f} | {peak:,.0f}"
            f" | {timings[-1].fid:.6f} |"
        )


def time_formula(images: int) -> None:
    """Times the statistics and the distance of random features, without a network."""
    from inception_tf.generative import FeatureStatistics, frechet_distance

    random = np.random.default_rng(0)
    features = random.normal(size=(images, FEATURES)).astype(np.float32)
    pair, clocks = [], []
    for shift in (0.0, 0.1):
        started = time.monotonic(), time.process_time()
        one = FeatureStatistics()
        for start in range(0, images, 1000):
            one.update(features[start : start + 1000] + np.float32(shift))
        pair.append(one)
        clocks.append((time.monotonic() - started[0], time.process_time() - started[1]))
    started = time.monotonic(), time.process_time()
    value = frechet_distance(*pair)
    clocks.append((time.monotonic() - started[0], time.process_time() - started[1]))
    for what, (wall, processor) in zip(
        ("statistics", "statistics", "distance"), clocks, strict=True
    ):
        print(f"{what}: {wall:.1f} s, {processor:.1f} s of processor time")
    print(f"{images:,} features of {FEATURES:,} in each of two sets: FID {value:.6f}")


@click.command(help=__doc__)
@click.option("--torch-python", metavar="PYTHON", help="A Python with torch and the two tools.")
@click.option("--images", default=2000, show_default=True, help="Of both folders together.")
@click.option("--rounds", default=3, show_default=True, help="Turns of every program.")
@click.option("--threads", type=int, help="Of each program.  [default: its own choice]")
@click.option("--program", "chosen", multiple=True, help="One of the programs; may be repeated.")
@click.option("--formula", is_flag=True, help="Time the statistics and the distance alone.")
def main(torch_python, images, rounds, threads, chosen, formula):
    """Parses the command line."""
    if formula:
        time_formula(50_000)
    elif torch_python:
        compare(torch_python, images, rounds, threads, chosen)
    else:
        raise click.UsageError("give --torch-python PYTHON or --formula")


if __name__ == "__main__":
    main()
