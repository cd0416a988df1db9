# SPDX-License-Identifier: Apache-2.0
"""Records what the tools' own resizes and scales make of images by a rule, into resizes.npz.

    python tests/fid/record_resizes.py

Recorded with torch-fidelity 0.4.0, clean-fid 0.1.35, torchmetrics 1.9.0 (whose line with `antialias=True` is repeated
here), pytorch-fid 0.3.0 (likewise), torch 2.14.1 and Pillow 13.0.0.  No part of inception_tf runs here.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from resized_images import COLUMNS, ROWS, SIZES, image  # noqa: E402

FILE = Path(__file__).with_name("resizes.npz")


def main() -> None:
    """Records some rows of each result."""
    import torch
    from cleanfid.resize import build_resizer
    from torch.nn.functional import interpolate
    from torch_fidelity.interpolate_compat_tensorflow import (
        interpolate_bilinear_2d_like_tensorflow1x as like_tensorflow,
    )

    found = {}
    for height, width in SIZES:
        pixels = image(height, width)
        x = torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy()).float()
        options = {"size": (299, 299), "align_corners": False}
        torch_options = options | {"mode": "bilinear"}
        results = {
            "torch-fidelity": (like_tensorflow(x, **options) - 128) / 128,
            "pytorch-fid": 2 * interpolate(x / 255, **torch_options) - 1,
            "torchmetrics": (interpolate(x, antialias=True, **torch_options) - 128) / 128,
        }
        arrays = {tool: y[0].numpy().transpose(1, 2, 0) for tool, y in results.items()}
        arrays["clean-fid"] = (build_resizer("clean")(pixels) - 128) / 128
        for tool, array in arrays.items():
            found[f"{tool} {height}x{width}"] = array[ROWS][:, ::COLUMNS].astype(np.float32)
    np.savez_compressed(FILE, **found)


if __name__ == "__main__":
    main()
