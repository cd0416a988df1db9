# SPDX-License-Identifier: Apache-2.0
"""Converts a checkpoint of torchvision or timm, and writes it back as that package loads it.

    python examples/torch_and_back.py googlenet.safetensors --model inception_v1 --source torchvision --out converted

The folder then has the network for Keras and the checkpoint again.  The script compares the two checkpoints array by
array: they are equal to the last bit, with torch's gammas, its padding and its auxiliary classifiers.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from folder_features import one_sentence
from safetensors.numpy import load_file

from inception_tf.weights.convert import convert
from inception_tf.weights.foreign import write_foreign

COUNTER = ".num_batches_tracked"  # of torch's batch normalization, which no network here uses


@click.command(help=__doc__.partition("\n")[0])
@click.argument("checkpoint", type=click.Path(exists=True, dir_okay=False))
@click.option("--model", default="inception_v3", show_default=True)
@click.option(
    "--source", default="timm", show_default=True, type=click.Choice(("torchvision", "timm"))
)
@click.option("--out", default="converted", show_default=True, type=click.Path(file_okay=False))
@one_sentence()
def main(checkpoint, model, source, out):
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    done = convert(model, source, checkpoint)
    print(done.report)
    ours, theirs = folder / f"{model}.weights.h5", folder / f"{model}.safetensors"
    done.save(ours)
    written = write_foreign(done.model, model, done.switches, source, theirs)
    print(f"{ours} for Keras, {theirs} for {source}: {written.use}")
    before, after = load_file(checkpoint), load_file(theirs)
    equal = sum(np.array_equal(array, after.get(name)) for name, array in before.items())
    more = [name for name in after.keys() - before.keys() if not name.endswith(COUNTER)]
    print(f"{equal} of {len(before)} arrays came back bit for bit, {len(more)} more")


if __name__ == "__main__":
    main()
