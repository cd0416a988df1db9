# SPDX-License-Identifier: Apache-2.0
"""Records what torch-fidelity's and pytorch-fid's network computes from a rule's weights, into features.npz.

    python tests/fid/record.py SKLEARN/datasets/images

Recorded with torch-fidelity 0.4.0, pytorch-fid 0.3.0, torch 2.14.1.  No part of inception_tf runs here: the weights follow
`weights.py`, in the names and shapes of the published file.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "views")]

from photographs import photographs  # noqa: E402
from weights import state_dict  # noqa: E402

TAPS = ["64", "192", "768", "2048", "logits"]
FILE = Path(__file__).with_name("features.npz")


def by_torch_fidelity(file: str, images: torch.Tensor) -> dict[str, np.ndarray]:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    network = FeatureExtractorInceptionV3("fid", TAPS, feature_extractor_weights_path=file)
    return dict(zip(TAPS, (one.numpy() for one in network(images)), strict=True))


def by_pytorch_fid(file: str, images: torch.Tensor) -> dict[str, np.ndarray]:
    from pytorch_fid import inception

    inception.load_state_dict_from_url = lambda *arguments, **options: torch.load(file)
    network = inception.InceptionV3([3], resize_input=False, normalize_input=False)
    return {"2048": network.eval()(images)[0][:, :, 0, 0].numpy()}


def shapes() -> dict[str, tuple[int, ...]]:
    """The parameters of the published file: torchvision's, with 1,008 classes and without the auxiliary classifier."""
    from torchvision.models import inception_v3

    network = inception_v3(weights=None, num_classes=1008, init_weights=False, aux_logits=False)
    return {
        name: tuple(array.shape)
        for name, array in network.state_dict().items()
        if "num_batches" not in name
    }


def main(folder: str) -> None:
    """Records the features of one photograph, and of the input that its own resize gives."""
    image = photographs(Path(folder))["landscape"].transpose(2, 0, 1)[None].copy()
    found = {}
    with tempfile.TemporaryDirectory() as scratch, torch.no_grad():
        file = f"{scratch}/weights.pth"
        state = {name: torch.from_numpy(a) for name, a in state_dict(shapes()).items()}
        torch.save(state, file)
        found |= by_torch_fidelity(file, torch.from_numpy(image))
        from torch_fidelity.interpolate_compat_tensorflow import (
            interpolate_bilinear_2d_like_tensorflow1x as resized,
        )

        x = resized(torch.from_numpy(image).float(), size=(299, 299), align_corners=False)
        theirs = by_pytorch_fid(file, (x - 128) / 128)["2048"]
        print(
            "pytorch-fid differs by",
            np.abs(theirs - found["2048"]).max(),
            "of",
            np.abs(theirs).max(),
        )
        found["2048 of pytorch-fid"] = theirs
    np.savez_compressed(
        FILE, **{name: array[0].astype(np.float32) for name, array in found.items()}
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
