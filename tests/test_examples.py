# SPDX-License-Identifier: Apache-2.0
"""The scripts in examples/: what they find on a few images, and on flowers with a trained Inception V3."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys

import forked
import keras
import nbformat
import numpy as np
import parity
import parity_torch
import pytest
import ramps
import torch_file
import trained_v3
from click.testing import CliRunner
from PIL import Image
from test_without_tensorflow import environment

import inception_tf
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.data.sources.splits import Split
from inception_tf.export.savedmodel import export
from inception_tf.weights.metadata import WeightsMetadata, write_metadata

pytestmark = pytest.mark.usefixtures("short_networks")

COLORS = {"blue": (30, 60, 220), "green": (30, 200, 60), "red": (220, 40, 30)}


@pytest.fixture
def script(monkeypatch, root):
    """A function that imports one of the scripts, which import each other."""
    monkeypatch.syspath_prepend(root / "examples")
    return importlib.import_module


@pytest.fixture
def colored(tmp_path):
    """Three classes of noise around a color, 3 training and 2 test images of each; one more image is broken."""
    random = np.random.default_rng(0)
    for split, count in (("train", 3), ("test", 2)):
        for name, color in COLORS.items():
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = np.clip(random.normal(color, 20, (40, 30, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.jpg", quality=95)
    (tmp_path / "images" / "test" / "red" / "broken.png").write_bytes(b"broken")
    return tmp_path / "images"


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """A weights file of a network without a classifier."""
    keras.utils.set_random_seed(0)
    file = tmp_path_factory.mktemp("weights") / "backbone.weights.h5"
    inception_tf.InceptionV1(include_top=False, input_shape=(32, 32, 3)).save_weights(file)
    write_metadata(file, WeightsMetadata("inception_v1", {}, Preprocessing(32, None)))
    return str(file)


def test_a_few_images_of_each_class_are_enough_for_colors(script, colored, backbone, pytestconfig):
    words = [str(colored), backbone, "--per-class", "2", "--endpoint", "MaxPool_2a_3x3"]
    words += [] if pytestconfig.option.markexpr != "not slow" else ["--no-random"]
    result = CliRunner().invoke(script("few_images").main, words)
    assert result.exit_code == 0, result.output
    assert "6 training and 6 test images of 3 classes, 64 features of each" in result.stdout
    for way in ("plain", "whitened"):
        assert re.search(rf"weights.h5 +{way} +100.0% +100.0%\n", result.stdout), result.stdout
        row = rf"random weights +{way} +\d+\.\d% +\d+\.\d%\n"
        assert bool(re.search(row, result.stdout)) == ("--no-random" not in words)
    assert "broken.png: not a" in result.stderr


def test_the_neighbors_of_a_color_are_of_that_color(script, colored, backbone, tmp_path):
    picture = tmp_path / "neighbors.png"
    words = [str(colored), backbone, str(picture), "--neighbors", "2", "--endpoint"]
    result = CliRunner().invoke(script("neighbors").main, [*words, "MaxPool_3a_3x3"])
    assert result.exit_code == 0, result.output
    assert result.stdout == f"100% of the neighbors are of the same class: {picture}\n"
    with Image.open(picture) as image:
        assert np.array(image).std() > 20


def test_accuracies_are_those_of_the_nearest_mean_and_of_the_probe(script):
    images = script("folder_features").Images
    features = np.array([[1, 0], [3, 0], [0, 1], [0, 5]], np.float32)
    known = images(tuple("abcd"), features, np.array([0, 0, 7, 7]))
    asked = images(tuple("efg"), np.float32([[9, 1], [1, 8], [8, 1]]), np.array([0, 7, 7]))
    few = script("few_images")
    assert few.nearest_class_mean(known, asked) == pytest.approx(2 / 3)
    assert few.linear_probe(known, asked) == pytest.approx(2 / 3)
    nearest, cosines = script("neighbors").most_similar(known, asked, 2)
    np.testing.assert_array_equal(nearest, [[0, 1], [2, 3], [0, 1]])
    np.testing.assert_allclose(cosines[0], 9 / np.sqrt(82), rtol=1e-5)


def test_whitened_distances_ignore_what_varies_inside_the_classes(script):
    few, images = script("few_images"), script("folder_features").Images
    random = np.random.default_rng(0)

    def drawn(count):
        classes = np.repeat([0, 1], count)
        large = random.normal(0, 2, 2 * count)  # in both features, and of no use
        small = classes + random.normal(0, 0.1, 2 * count)
        return images(("",) * 2 * count, np.stack([large, large + small], 1), classes)

    known, asked = (drawn(50), drawn(50)), (drawn(200),) * 2
    assert few.nearest_class_mean(*few.standardized(known[0], asked[0])) < 0.8
    whitened = few.whitened(known, asked)
    assert few.nearest_class_mean(*whitened) > 0.95
    assert few.linear_probe(*whitened) > 0.95


def test_the_images_of_a_class_are_spread_over_their_names(script):
    some = script("folder_features").some_of_each
    paths = np.array([f"{one}/{number:02}" for one in "ba" for number in range(10)])
    split = Split(paths, np.repeat([1, 0], 10))
    assert some(split, 3).images.tolist() == ["b/00", "b/04", "b/09", "a/00", "a/04", "a/09"]
    assert len(some(split, 99)) == 20


@pytest.mark.parametrize("name", ["few_images", "neighbors"])
def test_a_mistake_is_one_sentence(script, name, tmp_path, backbone):
    picture = [str(tmp_path / "a.png")] if name == "neighbors" else []
    result = CliRunner().invoke(script(name).main, [str(tmp_path / "none"), backbone, *picture])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "none" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_features_of_a_trained_network_tell_flowers_apart(test_data, root, tmp_path):
    weights = tmp_path / "v3.weights.h5"
    trained_v3.save_backbone(weights, trained_v3.read_arrays(test_data / trained_v3.FILE))
    flowers, endpoint = str(tmp_path / "flowers12"), ("--endpoint", "Mixed_6e")
    for split, count in (("train", 8), ("test", 4)):
        for kind in sorted((test_data / "flowers12" / split).iterdir())[::2]:
            (tmp_path / "flowers12" / split / kind.name).mkdir(parents=True)
            for image in sorted(kind.iterdir())[:count]:
                (tmp_path / "flowers12" / split / kind.name / image.name).symlink_to(image)
    variables = os.environ | {"PYTHONPATH": str(root)}

    def run(name, *words):
        command = [root / "examples" / name, flowers, weights, *words, *endpoint]
        child = forked.run(command, env=variables)
        assert child.returncode == 0, child.stderr
        return child.stdout

    found = run("few_images.py")
    assert "48 training and 24 test images of 6 classes, 768 features of each" in found
    figures = [line.split()[-2:] for line in found.splitlines()[2:]]
    plain, whitened, _, random = ([float(figure.rstrip("%")) for figure in row] for row in figures)
    assert min(plain) >= 75
    assert min(whitened) >= 95  # neighboring photographs often show the same plant
    assert max(random) < min(whitened) - 15
    same = run("neighbors.py", tmp_path / "neighbors.png", "--rows", "6", "--neighbors", "3")
    assert int(same.partition("%")[0]) >= 70


def printed_by(script, name, *words):
    """What a script prints in this process."""
    result = CliRunner().invoke(script(name).main, list(map(str, words)))
    assert result.exit_code == 0, result.output
    return result.stdout


def test_by_hand_batch_norm_is_the_layers(script, capsys):
    script("batch_norm_by_hand").main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    for line in lines[:-1]:
        assert float(line.split()[-1]) < 1e-11, line
    training, evaluation = re.search(
        r"([\d.]+) in training, (\S+) in evaluation", lines[-1]
    ).groups()
    assert float(training) > 0.1
    assert float(evaluation) < 1e-11


def test_a_generators_samples_come_nearer_to_the_digits(script, pytestconfig):
    few = pytestconfig.option.markexpr == "not slow"
    printed = printed_by(script, "fid_in_training", "--epochs", 1 if few else 10)
    distances = [float(one) for one in re.findall(r"FID (\S+) of 512", printed)]
    assert len(distances) == (2 if few else 11)
    assert distances[-1] < distances[0] * (0.8 if few else 0.3)


@pytest.mark.slow
def test_blocks_are_trained_by_a_loop(script):
    printed = printed_by(script, "own_training_loop")
    found = [float(one) for one in re.findall(r"([\d.]+)% of 360", printed)]
    assert len(found) == 2
    assert min(found) > 90


@pytest.mark.slow
def test_a_checkpoint_of_torch_comes_back(script, tmp_path, whole_networks):
    state = parity.state_of(parity_torch.JOBS["googlenet"])
    checkpoint = tmp_path / "googlenet.safetensors"
    torch_file.write(checkpoint, {key: np.ascontiguousarray(one) for key, one in state.items()})
    words = ("--model", "inception_v1", "--source", "torchvision", "--out", tmp_path / "out")
    printed = printed_by(script, "torch_and_back", checkpoint, *words)
    assert f"{len(state)} of {len(state)} arrays came back bit for bit, 0 more" in printed


@pytest.mark.slow
def test_a_server_is_asked_in_three_ways(script, tmp_path, colored):
    model = inception_tf.create_model("inception_v1", input_shape=(32, 32, 3), classes=3)
    ramps.fill(model)
    folder = export(model, sorted(COLORS), tmp_path / "colors", Preprocessing(32))
    image, broken = colored / "test" / "red" / "0.jpg", colored / "test" / "red" / "broken.png"
    printed = printed_by(script, "serve_and_ask", folder, image, broken)
    for way in ("http", "grpc", "without this package"):
        part = printed.partition(f"{way}\n")[2].splitlines()[:2]
        assert re.fullmatch(rf"  {image}: (blue|green|red) \d+\.\d%(, .*)?", part[0]), part
        assert re.fullmatch(rf"  {broken}: not a.*", part[1]), part


@pytest.mark.slow
def test_a_network_is_tuned_and_explained(script, tmp_path, colored, backbone):
    (
        colored / "test" / "red" / "broken.png"
    ).unlink()  # one of seven is more than a training passes over
    picture, run = tmp_path / "picture.png", tmp_path / "run"
    words = ["--model", "inception_v1", "--weights", backbone, "--epochs", 6, "--size", 32]
    for _ in range(2):  # the second call draws the run that is there
        printed = printed_by(
            script, "finetune_and_explain", colored, picture, *words, "--out", run, "--images", 3
        )
        assert re.search(rf"[0-3] of 3 answers are right: {picture}\n$", printed)
        with Image.open(picture) as image:
            assert np.array(image).std() > 20


def printed_in(notebook) -> str:
    """What its cells print, and no picture."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert all(output.output_type != "error" for output in outputs)
    return "".join(output.get("text", "") for output in outputs)


def test_the_notebook_shows_its_results(root):
    file = root / "examples/digits.ipynb"
    notebook = nbformat.read(file, 4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    pictures = [o for cell in code for o in cell.outputs if "image/png" in o.get("data", {})]
    assert len(pictures) == 3
    assert printed_in(notebook).count("%") == 12
    assert file.stat().st_size < 200_000


@pytest.mark.slow
def test_the_notebook_runs(root, tmp_path):
    notebook = nbformat.read(root / "examples/digits.ipynb", 4)
    stored = printed_in(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    nbformat.write(notebook, tmp_path / "empty.ipynb")
    command = [sys.executable, "-m", "jupyter", "execute", "empty.ipynb", "--output=run"]
    child = subprocess.run(
        command, cwd=tmp_path, env=environment(root), capture_output=True, text=True, timeout=900
    )
    assert child.returncode == 0, child.stderr
    printed = printed_in(nbformat.read(tmp_path / "run.ipynb", 4))
    assert [line.split()[:3] for line in printed.splitlines()[1:6]] == [
        line.split()[:3] for line in stored.splitlines()[1:6]
    ]
    trained, *_, neighbors = re.findall(r"([\d.]+)% of", printed)
    assert min(float(trained), float(neighbors)) > 90


def test_every_example_stands_on_its_page(root):
    page = (root / "examples/README.md").read_text("utf-8")
    scripts = {path.name for path in (root / "examples").glob("*.[pi]*")} - {"folder_features.py"}
    assert scripts == set(re.findall(r"^\| \[(\w+\.(?:py|ipynb))\]\(\1\) \|", page, re.M))
