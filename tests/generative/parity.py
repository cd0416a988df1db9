# SPDX-License-Identifier: Apache-2.0
"""FID and its relatives here and in each tool, of the same weights and images: the table of docs/fid.md.

    python tests/generative/parity.py --tools-python PYTHON [--trained FILE.npz] [--write]

PYTHON has torch and the four tools.  The weights follow the rule of `tests/fid/weights.py`, in the form of the published file;
with `--trained` they are those of `inception_v3_transfer_u8.npz` of the test data, under a classifier by the rule.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "fid"), str(HERE.parent / "views"), str(HERE)]

import numpy as np  # noqa: E402
import sklearn  # noqa: E402
import torch_file  # noqa: E402
from PIL import Image  # noqa: E402

import inception_tf  # noqa: E402
from inception_tf.generative import (  # noqa: E402
    CONVENTIONS,
    FeatureStatistics,
    frechet_distance,
    inception_score,
    kernel_distance,
    precision_recall,
)
from inception_tf.generative.extract import Wanted, extract_features  # noqa: E402
from inception_tf.generative.images import open_images  # noqa: E402
from inception_tf.generative.network import open_weights_for_features  # noqa: E402
from inception_tf.generative.resizing import ResizeLikeTool  # noqa: E402
from inception_tf.generative.statistics import Notes  # noqa: E402

PAGE = HERE.parents[1] / "docs" / "fid.md"
TAPS, LOGITS = ("64", "192", "768", "2048"), "logits_unbiased"
COUNTS = {"first": 24, "second": 22}  # images
SUBSETS = {"subsets": 10, "subset_size": 20}  # of KID, as in tools_on_images.py
WHAT = {"fid": "FID", "kid": "KID", "is": "IS", "precision": "precision", "recall": "recall"}


def write_images(folder: Path) -> dict[str, Path]:
    """Crops of scikit-learn's two photographs, of 40 to 400 pixels: smaller and larger than the network's view."""
    from photographs import photographs

    found = photographs(Path(sklearn.__file__).parent / "datasets/images")
    folders = {}
    for seed, (name, count) in enumerate(COUNTS.items()):
        random = np.random.RandomState(seed)
        folders[name] = folder / name
        folders[name].mkdir()
        for i in range(count):
            image = found[("landscape", "portrait")[(i + seed) % 2]]
            height, width = random.randint(40, 350, 2)
            top = random.randint(image.shape[0] - height)
            left = random.randint(image.shape[1] - width)
            crop = image[top : top + height, left : left + width]
            Image.fromarray(crop).save(folders[name] / f"{i:03}.png")
    return folders


def state_by_the_rule() -> dict[str, np.ndarray]:
    """The arrays of a file in the published form, by the rule."""
    from weights import state_dict

    model = inception_tf.InceptionV3(classes=1008, last_pool="max")
    state = torch_file.state_of(model, "inception_v3", last_pool="max")
    return state_dict({name: array.shape for name, array in state.items()})


def trained_state(path: Path) -> dict[str, np.ndarray]:
    """The trained convolutions in the published form, under a classifier by the rule."""
    import trained_v3

    backbone = trained_v3.build_backbone(trained_v3.read_arrays(path))
    trained = torch_file.state_of(backbone, "inception_v3")
    rule = state_by_the_rule()
    assert rule.keys() - trained.keys() == {"fc.weight", "fc.bias"}
    return rule | trained


def by_the_tools(python: str, weights: Path, folders: Mapping[str, Path], out: Path):
    """What the tools compute, in a process of their own."""
    script = str(HERE / "tools_on_images.py")
    names = [str(name) for name in (weights, folders["first"], folders["second"], out)]
    subprocess.run([python, script, *names], check=True, timeout=3600)
    with np.load(out) as found:
        arrays = {name: found[name] for name in found.files if name != "metrics"}
        return arrays, json.loads(str(found["metrics"]))


def by_us(weights: Path, folders: Mapping[str, Path]):
    """The same here: features by tool, tap and set, and metrics by tool."""
    opened = open_weights_for_features(str(weights))
    network = opened.network([*TAPS, LOGITS], batch_size=16)
    arrays, metrics = {}, {}
    for tool, convention in CONVENTIONS.items():
        step = ResizeLikeTool(convention.resize)
        wanted = Wanted((), (*TAPS, LOGITS))
        pair = [
            extract_features(open_images(str(folder)), network, step, wanted, Notes()).features
            for folder in folders.values()
        ]
        for name, one in zip(folders, pair, strict=True):
            arrays |= {f"{tool}/{tap}/{name}": values for tap, values in one.items()}
        metrics[tool] = _metrics(convention, *pair)
    return arrays, metrics


def _metrics(convention, first, second) -> dict[str, float]:
    found = {}
    for tap in TAPS:
        statistics = [FeatureStatistics(), FeatureStatistics()]
        for one, features in zip(statistics, (first, second), strict=True):
            one.update(features[tap])
        found[f"fid {tap}"] = frechet_distance(
            *statistics, form=convention.form, allow_singular=True
        )
        if convention.kernel:
            rule = replace(convention.kernel, **SUBSETS)
            found[f"kid {tap}"] = kernel_distance(first[tap], second[tap], rule).mean
        if convention.neighbors:
            both = precision_recall(first[tap], second[tap], convention.neighbors)
            found |= {f"precision {tap}": both.precision, f"recall {tap}": both.recall}
    if convention.inception_score:
        score = inception_score(first[LOGITS], convention.inception_score)
        found[f"is {LOGITS}"] = score.mean
    return found


def feature_errors(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]):
    """Tool → tap → the largest difference, as a fraction of the tap's largest value."""
    found: dict[str, dict[str, float]] = {}
    for name, expected in theirs.items():
        tool, tap, _ = name.split("/")
        if name not in ours:
            continue
        error = float(np.abs(ours[name] - expected).max() / np.abs(expected).max())
        row = found.setdefault(tool, {})
        row[tap] = max(row.get(tap, 0.0), error)
    return found


def compare(python: str, state: Mapping[str, np.ndarray], folder: Path):
    """Both sides on one set of images: features of ours and theirs, metrics of ours and theirs."""
    folders = write_images(folder)
    np.savez(folder / "weights.npz", **state)
    torch_file.write(folder / "weights.safetensors", state)
    theirs = by_the_tools(python, folder / "weights.npz", folders, folder / "tools.npz")
    ours = by_us(folder / "weights.safetensors", folders)
    return feature_errors(ours[0], theirs[0]), ours[1], theirs[1]


def table(errors, ours, theirs) -> str:
    """Markdown: tool x tap, with the features' error and each metric here and there."""
    lines = [
        "| tool | tap | features, of the largest | metric | here | there | difference |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for tool, found in theirs.items():
        for name, value in found.items():
            metric, tap = name.split(" ")
            mine = ours[tool][name]
            relative = abs(mine - value) / max(abs(value), 1e-12)
            error = f"{errors[tool][tap]:.1e}"
            lines.append(
                f"| {tool} | {tap} | {error} | {WHAT[metric]} | {mine:.8g} | {value:.8g} | {relative:.1e} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tools-python", required=True)
    parser.add_argument("--trained", type=Path)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    state = trained_state(given.trained) if given.trained else state_by_the_rule()
    with tempfile.TemporaryDirectory() as scratch:
        text = table(*compare(given.tools_python, state, Path(scratch)))
    print(text)
    if given.write:
        kind = "trained" if given.trained else "rule"
        begin, end = f"<!-- parity {kind} -->\n", f"<!-- end of parity {kind} -->"
        page = PAGE.read_text(encoding="utf-8")
        assert begin in page, f"{PAGE} has no {begin.strip()}"
        changed = re.sub(f"{begin}.*?{end}", lambda _: begin + text + end, page, flags=re.S)
        PAGE.write_text(changed, encoding="utf-8")


if __name__ == "__main__":
    main()
