# SPDX-License-Identifier: Apache-2.0
"""torchvision's and timm's networks for one training step: `python tests/parity_torch.py FOLDER DTYPE JOB...`.

Needs torch, torchvision and timm, and neither TensorFlow nor Keras.  For each job it leaves FOLDER/<job>.safetensors,
the weights by a fixed rule, and FOLDER/<job>.npz with what `Step` lists.  Where FOLDER is `--record`, it writes
tests/parity_torch.npz again: of each array its norm and its product with a fixed one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import ramps

RECORDED = Path(__file__).with_suffix(".npz")
MOMENTUM = 0.1  # torch's default, of the new statistics; Keras' is of the old ones
CLASSES = 7
EVAL, LOGITS, GRADIENT, AFTER = "eval/", "train/", "gradient/", "after/"


class Job(NamedTuple):
    """One network of one project, and what it is called here."""

    source: str
    network: str  # ours
    switches: dict  # of ours
    size: int  # pixels
    batch: int
    auxiliaries: tuple[float, ...]  # the weights of their losses
    build: Callable  # of (torchvision.models, timm)


NONE = {"weights": None, "init_weights": False, "num_classes": CLASSES}
# torchvision's V3 needs its published size: the kernel of its auxiliary classifier is 5x5.
JOBS = {
    "googlenet": Job(
        *("torchvision", "inception_v1", {"torch_padding": True}, 75, 4, (0.3, 0.3)),
        lambda models, timm: models.googlenet(**NONE, dropout=0.0, dropout_aux=0.0),
    ),
    "inception_v3": Job(
        *("torchvision", "inception_v3", {"count_padding": True}, 299, 2, (0.4,)),
        lambda models, timm: models.inception_v3(**NONE, dropout=0.0),
    ),
    "timm_v3": Job(
        *("timm", "inception_v3", {"count_padding": True}, 107, 4, ()),
        lambda models, timm: timm.create_model("inception_v3", num_classes=CLASSES),
    ),
    "timm_v4": Job(
        *("timm", "inception_v4", {}, 107, 4, ()),
        lambda models, timm: timm.create_model("inception_v4", num_classes=CLASSES),
    ),
    "timm_resnet": Job(
        *("timm", "inception_resnet_v2", {}, 107, 4, ()),
        lambda models, timm: timm.create_model("inception_resnet_v2", num_classes=CLASSES),
    ),
}


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A parameter as a trained network might have it, in torch's layout: gammas from 0.25 to 1.75."""
    u = ramps.uniform(name, shape)
    if name.endswith(".bn.weight"):
        return 1 + 0.75 * u
    if name.endswith("running_var"):
        return 1 + u / 2
    if len(shape) == 1:
        return u / 4
    return u * np.float32(np.sqrt(6 / np.prod(shape[1:])))


def images(job: Job) -> np.ndarray:
    """(N, H, W, C) float32."""
    return ramps.images(job.batch, job.size, job.size, 3)


def labels(job: Job) -> np.ndarray:
    """(N,) int64."""
    return np.arange(job.batch) % CLASSES


def digest(name: str, array: np.ndarray) -> np.ndarray:
    """Two numbers of an array: its norm, and its product with an array that its name decides."""
    array = np.asarray(array, np.float64)
    return np.array([np.linalg.norm(array), np.sum(array * ramps.uniform(name, array.shape))])


def step(job: Job, dtype: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The state dict before a training step, and by a prefix: logits in evaluation and training, gradients, statistics after."""
    import timm
    import torch
    import torchvision

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    model = job.build(torchvision.models, timm)
    state = {
        name: tensor.numpy() if tensor.ndim == 0 else weight(name, tuple(tensor.shape))
        for name, tensor in model.state_dict().items()
    }
    model.load_state_dict({name: torch.tensor(array) for name, array in state.items()})
    model.to(getattr(torch, dtype))
    x = torch.tensor(images(job).transpose(0, 3, 1, 2).copy(), dtype=getattr(torch, dtype))
    found = {}
    with torch.no_grad():
        found[f"{EVAL}0"] = model.eval()(x)
    outputs = model.train()(x)
    # torchvision's tuples are (logits, aux2, aux1), or (logits, aux).
    ends = [outputs[0], *reversed(outputs[1:])] if isinstance(outputs, tuple) else [outputs]
    target = torch.tensor(labels(job))
    factors = (1.0, *job.auxiliaries)
    loss = sum(
        factor * torch.nn.functional.cross_entropy(end, target)
        for factor, end in zip(factors, ends, strict=True)
    )
    loss.backward()
    found |= {f"{LOGITS}{number}": end for number, end in enumerate(ends)}
    found |= {f"{GRADIENT}{name}": p.grad for name, p in model.named_parameters()}
    found |= {f"{AFTER}{name}": b for name, b in model.named_buffers() if "running" in name}
    return state, {name: tensor.detach().numpy() for name, tensor in found.items()}


def main(folder: str, dtype: str, *jobs: str) -> None:
    from safetensors.numpy import save_file

    recorded = {}
    for name in jobs or JOBS:
        state, found = step(JOBS[name], dtype)
        if folder == "--record":
            recorded |= {f"{name}/{key}": digest(key, array) for key, array in found.items()}
            continue
        save_file(
            {key: np.ascontiguousarray(array) for key, array in state.items()},
            os.path.join(folder, f"{name}.safetensors"),
        )
        np.savez(os.path.join(folder, f"{name}.npz"), **found)
    if recorded:
        np.savez_compressed(
            RECORDED, names=list(recorded), digests=np.float32([*recorded.values()])
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
