# SPDX-License-Identifier: Apache-2.0
"""`inception-tf fid` and its functions: from images to metrics, with a narrow network."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import ramps
import scipy.linalg
import tensorflow as tf
from example_files import example
from PIL import Image

import inception_tf
from inception_tf import UserError, cli
from inception_tf.cli.fid_tables import comparison_lines, tool_table
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.errors import USER_MISTAKE
from inception_tf.generative import comparison as comparison_module
from inception_tf.generative import compute, fid, survey
from inception_tf.generative import network as network_module
from inception_tf.generative import why as why_module
from inception_tf.generative.images import open_images
from inception_tf.generative.kinds import RULES, image_kinds
from inception_tf.generative.self_check import check_anchors
from inception_tf.generative.survey import shared_images, survey_images
from inception_tf.generative.why import compare_tools, tool_differences
from inception_tf.weights.metadata import WeightsMetadata, write_metadata

pytestmark = pytest.mark.usefixtures("short_networks")
SHORTENED = ("inception_v3",)
WIDTH = 16  # features of the tap 64 of the narrow network
COUNT = WIDTH + 3
NARROW = {"last_pool": "max", "width_multiplier": 0.1}
SMALL = {"features": "64", "batch_size": 8}


def build() -> keras.Model:
    model = inception_tf.InceptionV3(classes=1008, input_shape=(299, 299, 3), **NARROW)
    ramps.fill(model)
    return model


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A narrow network of the form of 2015, as a file."""
    path = tmp_path_factory.mktemp("weights") / "narrow.weights.h5"
    build().save_weights(path)
    settings = Preprocessing(299, None, "fid", half_pixel_centers=False)
    write_metadata(path, WeightsMetadata("inception_v3", NARROW, settings))
    return str(path)


@pytest.fixture(scope="module")
def opened(weights):
    return network_module.open_weights_for_features(weights)


@pytest.fixture
def same_network(monkeypatch, opened, tmp_path):
    """Files are opened once for all tests, and what is kept between runs is empty."""
    for module in (network_module, why_module):
        monkeypatch.setattr(module, "open_weights_for_features", lambda weights: opened)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return opened


def pixels(seed: int, count: int = COUNT) -> np.ndarray:
    """(N, 20, 30, 3) uint8, each image with a brightness and a hue of its own."""
    random = np.random.default_rng(seed)
    base = random.integers(30, 226, (count, 1, 1, 3))
    return np.clip(base + random.integers(-60, 60, (count, 20, 30, 3)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of JPEGs."""
    folder = tmp_path_factory.mktemp("images") / "made"
    folder.mkdir()
    for number, image in enumerate(pixels(1)):
        Image.fromarray(image).save(folder / f"{number:03}.jpg", quality=95)
    return folder


@pytest.fixture(scope="module")
def decoded(made):
    """The same images as Pillow decodes them."""
    return np.stack([np.asarray(Image.open(path)) for path in sorted(made.iterdir())])


@pytest.fixture(scope="module")
def real(opened, tmp_path_factory):
    """Statistics of other images, as a file."""
    path = tmp_path_factory.mktemp("statistics") / "real.npz"
    compute(pixels(2), opened=opened, cache=False, **SMALL).statistics.write(path)
    return path


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    words = ["fid", *map(str, arguments), "--features", "64", "--batch-size", "8"]
    code = cli.main([*words, "--weights", "narrow"])
    return code, *capsys.readouterr()


def expected_statistics(model: keras.Model, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the first max pool, without any code of `generative`."""
    resized = tf.compat.v1.image.resize_bilinear(images.astype(np.float32), (299, 299))
    ends = inception_tf.endpoints(model)
    maps = keras.Model(model.input, ends["MaxPool_3a_3x3"])((resized - 128) / 128)
    features = np.asarray(maps, np.float64).mean(axis=(1, 2))
    return features.mean(axis=0), np.cov(features, rowvar=False)


def test_fid_is_the_formula_of_the_networks_features(same_network, made, decoded, real, capsys):
    m1, s1 = expected_statistics(same_network.model, decoded)
    m2, s2 = expected_statistics(same_network.model, pixels(2))
    with np.load(real) as saved:
        np.testing.assert_allclose(saved["mu"], m2, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(saved["sigma"], s2, rtol=1e-3, atol=1e-7)
    root = scipy.linalg.sqrtm(s1 @ s2).real
    expected = np.sum((m1 - m2) ** 2) + np.trace(s1 + s2 - 2 * root)
    code, out, _ = run(capsys, made, real, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["fid"] == pytest.approx(expected, rel=1e-4)
    assert found["first"]["images"] == found["second"]["images"] == COUNT
    assert found["weights_sha256"] == same_network.digest
    assert sum("has 19 images: FID is biased upward" in one for one in found["warnings"]) == 2


def test_damaged_images_are_skipped_counted_and_named(
    same_network, made, decoded, real, tmp_path, capsys
):
    copy = shutil.copytree(made, tmp_path / "made")
    (copy / "broken.jpg").write_bytes((copy / "000.jpg").read_bytes()[:200])
    (copy / "notes.txt").write_text("no image")
    code, out, err = run(capsys, copy, real)
    assert code == USER_MISTAKE
    assert f"A {copy}: 19 images" in out
    assert "  skipped as unreadable: 1 image\n" in out
    assert "  not read: 1 file, other ending: .txt\n" in out
    assert f"inception-tf: {copy}/broken.jpg: damaged" in err
    assert "1 of 20 images cannot be read, and the metrics are those of the other 19" in err
    without = fid(decoded, str(real), opened=same_network, **SMALL)
    assert out.startswith(f"FID (64 features): {without:.6f}\n")


def test_a_set_has_no_distance_to_itself_and_what_is_shared_is_said(same_network, made):
    found = compute(pixels(1), pixels(1), opened=same_network, cache=False, **SMALL)
    assert abs(found.fid) < 1e-6
    assert any("19 images of array are also in array" in one for one in found.warnings)
    files = sorted(map(str, made.iterdir()))
    sets = open_images(files), open_images([*files[5:7], *files[5:6]])
    shared = shared_images(*sets, tuple(map(survey_images, sets)))
    assert shared.count == 2
    assert shared.pairs == ((files[5], files[5]), (files[6], files[6]))


def test_a_singular_covariance_is_refused_unless_asked_for(same_network, made, real, capsys):
    code, _, err = run(capsys, made, real, "--count", WIDTH)
    assert code == USER_MISTAKE
    assert f"{made} has 16 images, and FID of 16 features needs more than that" in err
    assert "--allow-singular" in err
    few = compute(pixels(1)[:WIDTH], str(real), opened=same_network, allow_singular=True, **SMALL)
    assert few.fid > 0


def test_the_way_of_every_tool_and_what_differs(same_network):
    found = compare_tools(
        *(pixels(1), pixels(2)),
        metrics=("fid", "kid", "prc"),
        subset_size=10,
        weights="narrow",
        **SMALL,
    )
    table = tool_table(found, tool_differences())
    rows = {line.split()[0]: line.split() for line in table.splitlines()[1:5]}
    assert list(rows) == ["torch-fidelity", "pytorch-fid", "clean-fid", "torchmetrics"]
    assert len({row[1] for row in rows.values()}) == 4
    assert found[1].kid is None
    assert found[0].kid.subset_size == 10
    assert 0 <= found[0].prc.precision <= 1
    assert "pytorch-fid differs from torch-fidelity in\n  resize: TensorFlow 1's bilinear" in table


def test_statistics_are_written_and_compared(same_network, real, tmp_path, capsys):
    array = pixels(1)
    file = tmp_path / "made.npz"
    found = compute(array, str(real), opened=same_network, **SMALL)
    found.statistics.write(file)
    code, out, _ = run(capsys, file, real, "--json")
    assert code == 0
    assert json.loads(out)["fid"] == pytest.approx(found.fid, rel=1e-9)
    assert json.loads(out)["features"] == "64"
    other = compute(array, str(real), opened=same_network, like="clean-fid", **SMALL)
    assert any(
        "computed in different ways: the tool is clean-fid and torch-fidelity" in one
        for one in other.warnings
    )
    code, _, err = run(capsys, file, real, "--metrics", "kid")
    assert code == USER_MISTAKE
    assert "has a mean and a covariance, from which FID alone follows" in err


def test_two_statistics_files_are_compared_without_keras(tmp_path):
    """A process of its own: importing TensorFlow takes seconds, this tenths of one."""
    for name in "ab":
        features = np.random.default_rng(ord(name)).normal(size=(200, 8))
        np.savez(tmp_path / name, mu=features.mean(0), sigma=np.cov(features.T))
    program = "import sys; from inception_tf import cli; code = cli.main(sys.argv[1:]);"
    program += " sys.exit(code or bool({'keras', 'tensorflow'} & set(sys.modules)))"
    words = [sys.executable, "-c", program, "fid", "a.npz", "b.npz"]
    child = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    assert re.search(r"^FID \(8 features\): \d\.\d+$", child.stdout, re.M), child.stdout


def test_statistics_of_others_and_of_other_taps_are_told(same_network, tmp_path):
    unknown, other = tmp_path / "unknown.npz", tmp_path / "other.npz"
    np.savez(unknown, mu=np.zeros(WIDTH), sigma=np.eye(WIDTH))
    np.savez(other, mu=np.zeros(5), sigma=np.eye(5))
    found = compute(pixels(1), str(unknown), opened=same_network, **SMALL)
    assert any("does not say which tool and which weights" in one for one in found.warnings)
    with pytest.raises(UserError, match="statistics of 5 features, and the tap 64 has 16"):
        compute(pixels(1), str(other), opened=same_network, **SMALL)


@pytest.mark.parametrize(
    "source",
    [
        *("unit", "symmetric", "generator", "tf.data"),
        *(pytest.param(one, marks=pytest.mark.slow) for one in ("list", "glob", "records")),
    ],
)
def test_every_source_gives_the_same_distance(same_network, made, decoded, real, tmp_path, source):
    files = sorted(map(str, made.iterdir()))
    if source == "records":
        with tf.io.TFRecordWriter(str(tmp_path / "made.tfrecord")) as writer:
            for file in files:
                with open(file, "rb") as stream:
                    writer.write(example(stream.read(), 0))
    ranges = {"unit": {"value_range": (0, 1)}, "symmetric": {"value_range": (-1, 1)}}
    images = {
        "unit": decoded / np.float32(255),
        "symmetric": decoded / np.float32(127.5) - 1,
        "generator": lambda: iter(decoded),
        "tf.data": tf.data.Dataset.from_tensor_slices((decoded, np.zeros(COUNT))).batch(7),
        "list": files,
        "glob": f"{made}/*.jpg",
        "records": f"tfrecord:{tmp_path}/*.tfrecord",
    }[source]
    expected = fid(decoded, str(real), opened=same_network, cache=False, **SMALL)
    result = compute(images, str(real), opened=same_network, **SMALL, **ranges.get(source, {}))
    assert result.first.images == COUNT
    assert result.fid == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("images", "reading", "sentence"),
    [
        (pixels(1) / 255.0, {}, r"float64 need their range: give value_range"),
        (pixels(1) / 1.0, {"value_range": (0, 1)}, r"beyond the stated range \(0, 1\)"),
        (pixels(1), {"value_range": (0, 2)}, r"value_range must be \(0, 1\)"),
        (pixels(1).transpose(0, 3, 1, 2), {}, r"got \(19, 3, 20, 30\); move the channels"),
        (lambda: iter(()), {}, r"none of the images of .* can be read"),
        (iter(()), {}, r"none of the images of .* can be read"),
        ("nothing/*.png", {}, r"no file matches nothing"),
    ],
)
def test_what_are_no_images_is_one_sentence(same_network, images, reading, sentence):
    with pytest.raises(UserError, match=sentence):
        compute(images, opened=same_network, **SMALL, **reading)


def test_a_generator_that_is_needed_again_is_refused(same_network):
    images = open_images(iter(pixels(1)))
    assert len(np.concatenate(list(images.stream()))) == COUNT
    with pytest.raises(UserError, match="give the function that makes it"):
        list(images.stream())


def test_features_are_kept_by_content(same_network, real, monkeypatch):
    options = {"opened": same_network, **SMALL}
    calls = []
    compiled = network_module.FeatureNetwork.__call__
    monkeypatch.setattr(
        network_module.FeatureNetwork,
        "__call__",
        lambda network, batch: calls.append(len(batch)) or compiled(network, batch),
    )
    images = pixels(1)
    first = compute(images, str(real), **options)
    assert sum(calls) == COUNT
    again = compute(images.copy(), str(real), **options)
    assert (sum(calls), again.first.kept) == (COUNT, True)
    assert again.fid == pytest.approx(first.fid, rel=1e-9)
    images[3, 2, 1, 0] ^= 255
    changed = compute(images, str(real), **options)
    assert sum(calls) == 2 * COUNT
    assert changed.fid != first.fid
    other = compute(images, str(real), like="clean-fid", **options)
    assert not other.first.kept
    other = dataclasses.replace(same_network, digest="of others")
    assert not compute(images, str(real), **options | {"opened": other}).first.kept


@pytest.mark.slow
def test_images_that_tools_decode_otherwise_are_counted(same_network, tmp_path, capsys):
    folder = tmp_path / "kinds"
    folder.mkdir()
    for number, image in enumerate(pixels(3)):
        Image.fromarray(image).save(folder / f"{number:03}.png")
    gray = pixels(4)[0, ..., 0]
    Image.fromarray(gray).save(folder / "gray.png")
    Image.fromarray(gray.astype(np.uint16) * 257).save(folder / "deep.png")
    Image.fromarray(np.dstack([pixels(4)[1], gray])).save(folder / "alpha.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels(4)[2]).save(folder / "turned.jpg", exif=exif)
    kinds = survey_images(open_images(folder)).kinds
    assert kinds == {"grayscale": 2, "16 bits": 1, "alpha": 1, "rotated": 1}
    _, out, _ = run(capsys, folder, folder)
    for kind, count in kinds.items():
        assert f"  {count} image{'s' * (count > 1)} {RULES[kind]}" in out


def test_what_a_tool_lacks_and_wrong_options_are_one_sentence(same_network, made, capsys):
    real = made
    for arguments, sentence in (
        (
            (made, real, "--metrics", "kid", "--like", "pytorch-fid"),
            "pytorch-fid has no metric 'kid'",
        ),
        ((made, real, "--metrics", "fod"), "unknown metric 'fod'"),
        ((made, real, "--metrics", ","), "there is no metric"),
        ((made, real, "--metrics", "is"), "the inception score is that of one set"),
        ((made, real, "--metrics", "kid", "--infinity"), "needs the metric 'fid'"),
        ((made,), "give B, too"),
        ((), "give the images to compare"),
        ((made, "elsewhere"), "there is no elsewhere"),
        ((made, real, "--save", "x.txt"), "must end in .npz"),
        ((made, real, "--precision", "int8"), "int8 is a precision of OpenVINO"),
        (("--self-check",), "CIFAR-10 is not in"),
        ((made, "--self-check"), "--self-check takes no images"),
    ):
        code, _, err = run(capsys, *arguments)
        assert (code, sentence in err) == (USER_MISTAKE, True), err


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"weights": "nope.weights.h5"}, "there is no nope.weights.h5"),
        ({"precision": "int8"}, "int8 is a precision of OpenVINO"),
        ({"precision": "float8"}, "unknown precision 'float8'"),
        ({"backend": "onnx"}, "unknown backend 'onnx'"),
        ({}, "give at least 17 images, or --allow-singular"),
        ({"features": "192"}, "give at least 20 images, take --features 64, or"),
    ],
)
def test_what_is_refused_is_refused_before_an_image_is_read(opened, monkeypatch, wrong, sentence):
    monkeypatch.setattr(survey, "survey_images", lambda *_: pytest.fail("images were read"))
    few = pixels(1, 17 if "features" in wrong else 16)
    given = {} if "weights" in wrong else {"opened": opened}
    with pytest.raises(UserError, match=sentence):
        compute(few, few, **{**SMALL, **given, **wrong})


def test_weights_of_another_form_are_no_papers_numbers(same_network, real):
    other = dataclasses.replace(same_network, name="mine", is_form_of_2015=False)
    found = compute(pixels(1), str(real), opened=other, **SMALL)
    assert any("mine is not the network of 2015" in one for one in found.warnings)
    without = dataclasses.replace(same_network, name="mine", head=None, compiled={})
    with pytest.raises(UserError, match="mine holds no classifier"):
        compute(pixels(1), metrics=("is",), opened=without, **SMALL)


@pytest.mark.slow
def test_published_values_do_not_come_out_of_a_rules_weights(same_network):
    images = np.concatenate([pixels(seed) for seed in range(2)])
    outcomes = check_anchors(images, images[::-1], weights="narrow", **SMALL)
    assert [one.anchor.value for one in outcomes] == [10.3233274, 11.23678]
    assert not any(one.agrees for one in outcomes)


def test_kinds_are_those_that_pillow_sees(test_data):
    checked = 0
    for path in sorted((test_data / "bad_images" / "pngsuite").glob("*.png")):
        content = path.read_bytes()
        try:
            with Image.open(path) as image:
                image.load()
                mode, transparent = image.mode, "transparency" in image.info
        except (OSError, SyntaxError, ValueError):
            image_kinds(content)
            continue
        found = image_kinds(content)
        assert ("alpha" in found) == (mode in ("LA", "RGBA", "PA") or transparent), path
        if mode in ("L", "1", "I;16", "LA"):
            assert "grayscale" in found, path
        checked += 1
    assert checked > 100


# OpenVINO, and precisions


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_openvino_has_the_same_features_within_its_precision(opened, precision):
    pytest.importorskip("nncf")
    options = SMALL | {"opened": opened, "cache": False}
    exact = compute(pixels(1), pixels(2), **options)
    found = compute(pixels(1), pixels(2), backend="openvino", precision=precision, **options)
    if precision == "float32":
        assert found.precision_error is None
        assert found.fid == pytest.approx(exact.fid, rel=1e-5)
        return
    error = found.precision_error
    assert error.images == COUNT
    assert error.fid_float32 == pytest.approx(exact.fid, rel=1e-5)
    assert 1e-6 < error.relative < 0.2
    assert found.fid == pytest.approx(error.fid, rel=1e-3)


def test_the_error_of_a_precision_is_told_as_a_fraction_of_the_distance_of_all_images(
    same_network, monkeypatch
):
    monkeypatch.setattr(comparison_module, "CHECKED", WIDTH + 1)
    found = compute(pixels(1, 40), pixels(2, 40), precision="bfloat16", **SMALL)
    error = found.precision_error
    assert (error.images, error.sets) == (WIDTH + 1, 2)
    assert error.absolute == abs(error.fid - error.fid_float32) > 0
    assert error.relative == error.absolute / found.fid
    # Few images are further apart, by chance.
    assert error.fid > 1.2 * found.fid
    told = "\n".join(comparison_lines(found))
    assert f"by {error.absolute:.2g}, {error.relative:.0%} of the FID below" in told
    assert found.as_json()["precision_error"]["relative"] == error.relative


def test_the_error_of_a_precision_is_measured_against_a_file_of_statistics_too(same_network, real):
    found = compute(pixels(1), real, precision="bfloat16", **SMALL)
    error = found.precision_error
    assert (error.images, error.sets) == (COUNT, 1)
    exact = compute(pixels(1), real, **SMALL)
    assert exact.precision_error is None
    assert error.fid_float32 == pytest.approx(exact.fid, rel=1e-6)
    assert error.fid == pytest.approx(found.fid, rel=1e-6)
    assert f"changes FID of {COUNT} images from" in "\n".join(comparison_lines(found))
    other = compute(real, pixels(1), precision="bfloat16", **SMALL).precision_error
    assert other.fid == pytest.approx(error.fid, rel=1e-6)
