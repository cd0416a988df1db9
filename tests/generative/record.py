# SPDX-License-Identifier: Apache-2.0
"""Records what each tool's own functions make of the sets of `feature_sets.py`, into tools.json.

    python tests/generative/record.py          # writes
    python tests/generative/record.py --print  # prints, for the test that compares with the installed tools

Recorded with torch-fidelity 0.4.0, pytorch-fid 0.3.0, clean-fid 0.1.35, torchmetrics 1.9.0, SciPy 1.17.1.
No part of inception_tf runs here.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))

from feature_sets import FEATURES, sets, wide_sets

FILE = Path(__file__).with_name("tools.json")
SEED, SUBSETS, SUBSET_SIZE = 2020, 5, 100


class Passed(torch.nn.Module):
    """In place of torchmetrics' network: what it is given are features."""

    num_features = FEATURES

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


def torch_fidelity(data: dict[str, np.ndarray]) -> dict:
    from torch_fidelity import metric_fid, metric_isc, metric_kid, metric_prc
    from torch_fidelity.defaults import DEFAULTS

    tensors = {name: torch.from_numpy(array) for name, array in data.items()}
    quiet = {"verbose": False}

    def fid(first: str, second: str) -> float:
        both = [metric_fid.fid_features_to_statistics(tensors[name]) for name in (first, second)]
        return metric_fid.fid_statistics_to_metric(*both, False)[metric_fid.KEY_METRIC_FID]

    kid = {"kid_subsets": SUBSETS, "kid_subset_size": SUBSET_SIZE}
    pair = tensors["first"], tensors["second"]
    return {
        "fid": fid("first", "second"),
        "fid of few": fid("few of first", "few of second"),
        "inception score": metric_isc.isc_features_to_metric(tensors["logits"]),
        "kid": metric_kid.kid_features_to_metric(*pair, **kid, **quiet),
        "precision and recall": metric_prc.prc_features_to_metric(*pair, **quiet),
        "defaults": {
            name: DEFAULTS[name]
            for name in (
                "isc_splits",
                "kid_subsets",
                "kid_subset_size",
                "kid_kernel",
                "kid_kernel_poly_degree",
                "kid_kernel_poly_gamma",
                "kid_kernel_poly_coef0",
                "prc_neighborhood",
                "rng_seed",
                "samples_find_deep",
                "samples_find_ext",
            )
        },
    }


def pytorch_fid(data: dict[str, np.ndarray]) -> dict:
    from pytorch_fid.fid_score import IMAGE_EXTENSIONS, calculate_frechet_distance

    def fid(first: str, second: str) -> float:
        both = [data[name].astype(np.float64) for name in (first, second)]
        statistics = [
            part for one in both for part in (one.mean(axis=0), np.cov(one, rowvar=False))
        ]
        return float(calculate_frechet_distance(*statistics))

    return {
        "fid": fid("first", "second"),
        "fid of few": fid("few of first", "few of second"),
        "defaults": {"endings": sorted(IMAGE_EXTENSIONS)},
    }


def clean_fid(data: dict[str, np.ndarray]) -> dict:
    from cleanfid import fid
    from cleanfid.utils import EXTENSIONS

    def kid(first: str, second: str) -> float:
        np.random.seed(SEED)
        return fid.kernel_distance(data[first], data[second], SUBSETS, SUBSET_SIZE)

    return {
        "fid": float(fid.fid_from_feats(data["first"], data["second"])),
        "fid of few": float(fid.fid_from_feats(data["few of first"], data["few of second"])),
        "kid": kid("first", "second"),
        "kid of few": kid("few of first", "second"),
        "defaults": {
            "kid": list(fid.kernel_distance.__defaults__),
            "endings": sorted(EXTENSIONS),
        },
    }


def torchmetrics(data: dict[str, np.ndarray]) -> dict:
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.inception import InceptionScore
    from torchmetrics.image.kid import KernelInceptionDistance

    tensors = {name: torch.from_numpy(array) for name, array in data.items()}

    def computed(metric, real: str, fake: str):
        metric.update(tensors[real], real=True)
        metric.update(tensors[fake], real=False)
        torch.manual_seed(SEED)
        return metric.compute()

    def fid(real: str, fake: str) -> float:
        return float(computed(FrechetInceptionDistance(Passed()), real, fake))

    kid = KernelInceptionDistance(Passed(), subsets=SUBSETS, subset_size=SUBSET_SIZE)
    score = InceptionScore(Passed())
    score.update(tensors["logits"])
    torch.manual_seed(SEED)
    default = KernelInceptionDistance(Passed())
    return {
        "fid": fid("first", "second"),
        "fid of few": fid("few of first", "few of second"),
        "inception score": [float(value) for value in score.compute()],
        "kid": [float(value) for value in computed(kid, "first", "second")],
        "defaults": {
            "kid": [
                default.subsets,
                default.subset_size,
                default.degree,
                default.gamma,
                default.coef,
            ],
            "splits": score.splits,
        },
    }


TOOLS = {
    "torch-fidelity": torch_fidelity,
    "pytorch-fid": pytorch_fid,
    "clean-fid": clean_fid,
    "torchmetrics": torchmetrics,
}


def fid_of_wide(data: dict[str, np.ndarray]) -> dict:
    """FID of as many features as the tap before the auxiliary classifier has."""
    tensors = [torch.from_numpy(data[name]) for name in ("wide first", "wide second")]
    from cleanfid.fid import fid_from_feats
    from torch_fidelity import metric_fid

    statistics = [metric_fid.fid_features_to_statistics(one) for one in tensors]
    return {
        "torch-fidelity": metric_fid.fid_statistics_to_metric(*statistics, False)[
            metric_fid.KEY_METRIC_FID
        ],
        "clean-fid": float(fid_from_feats(data["wide first"], data["wide second"])),
    }


def main(*words: str) -> None:
    data = sets()
    found = {}
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, computed in TOOLS.items():
            found[name] = {"version": importlib.metadata.version(name)} | computed(data)
        if words:
            found["wide"] = fid_of_wide(wide_sets())
    text = json.dumps(found, indent=1) + "\n"
    if words:
        print(text)
    else:
        FILE.write_text(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
