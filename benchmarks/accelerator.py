# SPDX-License-Identifier: Apache-2.0
"""Everything to measure on a GPU that is available for a few minutes, in one command.

Keras runs on JAX, or on torch where a row says so; neither TensorFlow nor internet access is needed.  Six
parts run in this order, each with a fraction of --minutes; later parts get the time that a part does not use:

    report      20 %  the documents' report: Inception V3, 100 steps of 32 images, in each precision
    train-step  20 %  forward, backward and the optimizer's update, with loss scaling in float16, and the same
                      step in `model.fit` with a batch that is ready
    peers        6 %  timm's and torchvision's networks on the same GPU, timed the same way
    training    38 %  real trainings with `model.fit` in mixed_float16: handwritten digits, and photographs
                      (--photos) from the weights of a trained V3 (--weights)
    networks    10 %  the forward pass of all networks: batch 256, 32 and 1, bfloat16 and float16
    memory       6 %  the peak GPU memory of V3

Each part starts with what matters most and is saved when it ends: `accelerator.json` has every step,
`accelerator.md` the tables.  Whatever failed, or had no time left, is listed with the reason.  An
impossible figure is marked in the JSON file and listed instead of its row.

The clock includes one call, from the batch in GPU memory to the result in NumPy; building, compiling and
ten calls are not included.  The cases of one network are compiled in parallel.

    python benchmarks/accelerator.py --out results
    python benchmarks/accelerator.py --out results --tiny     # tries every part, on a CPU
    python benchmarks/accelerator.py --write-digits digits.npz   # for a machine without scikit-learn
"""

import json
import math
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]  # works from a checkout that is not installed

from accelerator_parts.page import judge, render  # noqa: E402
from accelerator_parts.plan import SHARES  # noqa: E402
from accelerator_parts.processes import about, run_part  # noqa: E402
from accelerator_parts.tasks import run_group  # noqa: E402
from accelerator_parts.training import write_digits, write_photos  # noqa: E402
from accelerator_parts.variants import command as variants  # noqa: E402

FILE = click.Path(exists=True, dir_okay=False)


def save(record: dict, out: Path) -> None:
    from inception_tf.host.atomic_io import atomic_write_text

    judge(record)
    atomic_write_text(out / "accelerator.json", json.dumps(record, indent=1) + "\n")
    atomic_write_text(out / "accelerator.md", render(record))


@click.group(invoke_without_command=True)
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
@click.option("--digits", type=FILE, help="What --write-digits wrote.")
@click.option("--photos", type=FILE, help="What --write-photos wrote.")
@click.option("--weights", type=FILE, help="Of inception_v3, to fine-tune on --photos.")
@click.option(
    "--write-photos",
    "photos_to",
    nargs=2,
    metavar="FOLDER FILE.npz",
    help="FOLDER: train and test.",
)
@click.option("--write-digits", "write_to", type=click.Path(dir_okay=False), metavar="FILE.npz")
@click.option("--group", type=click.Path(), hidden=True)
@click.option("--results", type=click.Path(), hidden=True)
@click.pass_context
def main(context, out, minutes, tiny, only, write_to, photos_to, group, results, **files):
    """Measures everything on the card that is at hand, within --minutes."""
    if context.invoked_subcommand:
        return
    if group:
        plan = json.loads(Path(group).read_text(encoding="utf-8"))
        run_group(plan, Path(results), tiny)
        return
    if write_to:
        write_digits(Path(write_to))
        return
    if photos_to:
        write_photos(*map(Path, photos_to))
        return
    if not out or minutes <= 0:
        raise click.UsageError("needs --out FOLDER, and --minutes above 0")
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
    options = {
        "tiny": tiny,
        "files": {k: v and os.path.abspath(v) for k, v in files.items()},
        "work": work,
    }
    began, share = time.monotonic(), 0.0
    try:
        for name, own in parts.items():
            share += own / sum(parts.values())
            click.echo(f"== {name}")
            ends = math.inf if tiny else began + 60 * minutes * share
            record["parts"][name] = run_part(name, ends, options)
            save(record, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    click.echo(render(record))


main.add_command(variants)

if __name__ == "__main__":
    main()
