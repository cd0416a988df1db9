# SPDX-License-Identifier: Apache-2.0
"""Logits of torch networks loaded from files: `python tests/torch_restore.py IMAGES.npy JOBS.json OUT.npz`.

Needs torch, torchvision and timm.  JOBS.json has, for each name, the line that `convert --to` prints, and the
constructor's own options that a test adds.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import safetensors.torch
import timm
import torch
import torchvision

if __name__ == "__main__":
    images = torch.tensor(np.load(sys.argv[1]).transpose(0, 3, 1, 2).copy())
    found = {}
    for name, line in json.loads(Path(sys.argv[2]).read_text()).items():
        scope = {
            "torchvision": torchvision,
            "timm": timm,
            "torch": torch,
            "safetensors": safetensors,
        }
        build, _, load = line.partition(".load_state_dict(")
        model = eval(build, scope)
        if load:  # strict, which torch's default is
            model.load_state_dict(eval(load.removesuffix(")"), scope))
        with torch.no_grad():
            found[name] = model.eval()(images).numpy()
    np.savez(sys.argv[3], **found)
