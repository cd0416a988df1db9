# SPDX-License-Identifier: Apache-2.0
"""What the four tools make of two folders of images, by their own readers, resizes, networks and metrics.

    python tests/generative/tools_on_images.py WEIGHTS.npz FIRST SECOND OUT.npz

WEIGHTS.npz has the arrays of the published file by its names.  OUT.npz gets the features of each tool, tap and set, and
the metrics as JSON under "metrics".  Needs torch, torch-fidelity, pytorch-fid with SciPy below 1.18, clean-fid and
torchmetrics; no part of inception_tf runs here.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

TAPS = ("64", "192", "768", "2048")
LOGITS = "logits_unbiased"
SEED, SUBSETS, SUBSET_SIZE = 2020, 10, 20
Features = dict[str, np.ndarray]


def files_of(folder: str) -> list[str]:
    return sorted(map(str, Path(folder).glob("*.png")))


def by_torch_fidelity(weights: str, folder: str) -> Features:
    from torch_fidelity.datasets import ImagesPathDataset
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    from torch_fidelity.utils import get_featuresdict_from_dataset, glob_samples_paths

    network = FeatureExtractorInceptionV3(
        "tool", [*TAPS, LOGITS, "logits"], feature_extractor_weights_path=weights
    )
    files = glob_samples_paths(folder, False, "png,jpg,jpeg", verbose=False)
    # Images of several sizes: one by one.
    found = get_featuresdict_from_dataset(ImagesPathDataset(files), network, 1, False, True, False)
    return {tap: values.numpy() for tap, values in found.items()}


def by_pytorch_fid(weights: str, folder: str) -> Features:
    from pytorch_fid import fid_score, inception

    inception.load_state_dict_from_url = lambda *arguments, **options: torch.load(weights)
    network = inception.InceptionV3([0, 1, 2, 3])
    files = files_of(folder)
    found = {}
    for place, tap in enumerate(TAPS):

        def one_tap(batch, place=place):
            return [network(batch)[place]]

        one_tap.eval = network.eval
        if tap == TAPS[0]:  # their own loop is over one tap; the other taps take the same outputs
            outputs = []
            network.register_forward_hook(lambda module, given, made, to=outputs: to.append(made))
            found[tap] = fid_score.get_activations(files, one_tap, 1, int(tap), num_workers=0)
        else:
            maps = [made[place] for made in outputs]
            pooled = [torch.nn.functional.adaptive_avg_pool2d(one, (1, 1)) for one in maps]
            found[tap] = torch.cat(pooled)[:, :, 0, 0].double().numpy()
    return found


def by_clean_fid(weights: str, folder: str) -> Features:
    """Its network is a download; the same weights are in the class of torch-fidelity, which `forward` enters resized."""
    from cleanfid.utils import ResizeDataset
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    network = FeatureExtractorInceptionV3(
        "tool", list(TAPS), feature_extractor_weights_path=weights
    )
    resized = [image[None] for image in ResizeDataset(files_of(folder), mode="clean")]
    with entered_with_floats(), torch.no_grad():
        rows = [network(image) for image in resized]
    return {tap: torch.cat([row[i] for row in rows]).numpy() for i, tap in enumerate(TAPS)}


@contextlib.contextmanager
def entered_with_floats():
    """torch-fidelity's network takes bytes; clean-fid's pixels are between them.  Its resize to one size changes none."""
    from torch_fidelity import feature_extractor_inceptionv3 as module

    check, module.vassert = module.vassert, lambda truth, message: None
    try:
        yield
    finally:
        module.vassert = check


def by_torchmetrics(weights: str, folder: str) -> Features:
    from PIL import Image
    from torchmetrics.image.fid import NoTrainInceptionV3

    network = NoTrainInceptionV3("inception-v3-compat", [*TAPS, LOGITS], weights)
    rows = []
    with torch.no_grad():
        for file in files_of(folder):
            image = np.asarray(Image.open(file).convert("RGB")).transpose(2, 0, 1)[None]
            # Of `FrechetInceptionDistance(feature=tap)`: its only output there is the first.
            rows.append(network._torch_fidelity_forward(torch.from_numpy(image.copy())))
    names = [*TAPS, LOGITS]
    return {tap: torch.cat([row[i] for row in rows]).numpy() for i, tap in enumerate(names)}


def metrics_of_torch_fidelity(first: Features, second: Features) -> dict[str, float]:
    from torch_fidelity import metric_fid, metric_isc, metric_kid, metric_prc

    found = {}
    for tap in TAPS:
        pair = torch.from_numpy(first[tap]), torch.from_numpy(second[tap])
        statistics = [metric_fid.fid_features_to_statistics(one) for one in pair]
        values = metric_fid.fid_statistics_to_metric(*statistics, False)
        found[f"fid {tap}"] = values[metric_fid.KEY_METRIC_FID]
        kid = {"kid_subsets": SUBSETS, "kid_subset_size": SUBSET_SIZE, "verbose": False}
        values = metric_kid.kid_features_to_metric(*pair, **kid)
        found[f"kid {tap}"] = values[metric_kid.KEY_METRIC_KID_MEAN]
        values = metric_prc.prc_features_to_metric(*pair, verbose=False)
        found[f"precision {tap}"], found[f"recall {tap}"] = values["precision"], values["recall"]
    score = metric_isc.isc_features_to_metric(torch.from_numpy(first[LOGITS]))
    return found | {f"is {LOGITS}": score[metric_isc.KEY_METRIC_ISC_MEAN]}


def metrics_of_pytorch_fid(first: Features, second: Features) -> dict[str, float]:
    from pytorch_fid.fid_score import calculate_frechet_distance

    def statistics(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return values.mean(axis=0), np.cov(values, rowvar=False)

    return {
        f"fid {tap}": float(
            calculate_frechet_distance(*statistics(first[tap]), *statistics(second[tap]))
        )
        for tap in TAPS
    }


def metrics_of_clean_fid(first: Features, second: Features) -> dict[str, float]:
    from cleanfid import fid

    found = {}
    for tap in TAPS:
        found[f"fid {tap}"] = float(fid.fid_from_feats(first[tap], second[tap]))
        np.random.seed(SEED)
        found[f"kid {tap}"] = fid.kernel_distance(first[tap], second[tap], SUBSETS, SUBSET_SIZE)
    return found


def metrics_of_torchmetrics(first: Features, second: Features) -> dict[str, float]:
    from record import Passed
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.inception import InceptionScore
    from torchmetrics.image.kid import KernelInceptionDistance

    found = {}
    for tap in TAPS:
        passed = Passed()
        passed.num_features = int(tap)
        for kind, metric in (
            ("fid", FrechetInceptionDistance(passed)),
            ("kid", KernelInceptionDistance(passed, subsets=SUBSETS, subset_size=SUBSET_SIZE)),
        ):
            metric.update(torch.from_numpy(first[tap]), real=True)
            metric.update(torch.from_numpy(second[tap]), real=False)
            torch.manual_seed(SEED)
            value = metric.compute()
            found[f"{kind} {tap}"] = float(value[0] if kind == "kid" else value)
    score = InceptionScore(Passed())
    score.update(torch.from_numpy(first[LOGITS]))
    torch.manual_seed(SEED)
    return found | {f"is {LOGITS}": float(score.compute()[0])}


TOOLS: dict[str, tuple[Callable, Callable]] = {
    "torch-fidelity": (by_torch_fidelity, metrics_of_torch_fidelity),
    "pytorch-fid": (by_pytorch_fid, metrics_of_pytorch_fid),
    "clean-fid": (by_clean_fid, metrics_of_clean_fid),
    "torchmetrics": (by_torchmetrics, metrics_of_torchmetrics),
}


def main(weights: str, first: str, second: str, out: str) -> None:
    """Writes what each tool computes."""
    arrays, metrics = {}, {}
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = f"{scratch}/weights.pth"
        torch.save({name: torch.from_numpy(a) for name, a in np.load(weights).items()}, file)
        for tool, (features, computed) in TOOLS.items():
            pair = [features(file, folder) for folder in (first, second)]
            for name, one in zip(("first", "second"), pair, strict=True):
                arrays |= {f"{tool}/{tap}/{name}": values for tap, values in one.items()}
            metrics[tool] = computed(*pair)
            print(tool, "is done", file=sys.stderr, flush=True)
    np.savez(out, metrics=np.array(json.dumps(metrics)), **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
