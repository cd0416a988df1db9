# SPDX-License-Identifier: Apache-2.0
"""Section 4.1 of the batch normalization paper, in short runs on the real MNIST."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import functools
import json
import sys

import numpy as np
import pytest
import tensorflow as tf

from inception_tf import cli
from inception_tf.errors import UserError
from inception_tf.experiments import bn_mnist, mnist, sigmoids
from inception_tf.experiments.figure1 import COLUMNS
from inception_tf.experiments.loop import image_order
from inception_tf.experiments.sigmoids import NETWORKS, PERCENTILES, TYPICAL, MnistSettings, Trace

STEPS = 150  # the last two measurements are half the usual distance apart
FILES = ["figure1.csv", "figure1.png", "report.json"]
SHORT = MnistSettings(steps=40, every=20, learning_rate=1.0)


def silent(line):
    """For whoever wants no progress."""


@pytest.fixture(scope="module")
def folder(test_data):
    return str(test_data / "tfds")


@pytest.fixture(scope="module", autouse=True)
def loaded_once():
    """All that asks for the same folder gets the same images: decoding 70,000 takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bn_mnist, "load_mnist", functools.cache(mnist.load_mnist))
        yield


@pytest.fixture(scope="module")
def data(folder):
    return bn_mnist.load_mnist(folder)


@pytest.fixture(scope="module")
def few(data):
    """The images that the percentiles are measured on, and a tenth of those for testing."""
    return mnist.BinaryMnist(
        data.images[:6000], data.classes[:6000], data.test_images[:1000], data.test_classes[:1000]
    )


@pytest.fixture
def call(capfd):
    def run(*words):
        code = cli.main(["experiment", "bn-mnist", *map(str, words)])
        return code, *capfd.readouterr()

    return run


@pytest.fixture(scope="module")
def written(folder, tmp_path_factory):
    """A short run through the command: its folder."""
    runs = tmp_path_factory.mktemp("runs")
    out = runs / "deep" / "bn-mnist"
    words = [
        "--steps",
        STEPS,
        "--seed",
        3,
        "--learning-rate",
        1,
        "--data-dir",
        folder,
        "--out",
        out,
    ]
    with (
        (runs / "out").open("w", encoding="utf-8") as told,
        (runs / "err").open("w", encoding="utf-8") as progress,
        contextlib.redirect_stdout(told),
        contextlib.redirect_stderr(progress),
    ):
        assert cli.main(["experiment", "bn-mnist", *map(str, words)]) == 0
    return out


@pytest.fixture(scope="module")
def report(written):
    return json.loads((written / "report.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def rows(written):
    with open(written / "figure1.csv", encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


@pytest.fixture(scope="module")
def traces(few):
    return [sigmoids.train_network(few, SHORT, batch_norm, silent) for batch_norm in (False, True)]


def test_mnist_is_whole_and_binary(data):
    assert data.images.shape == (60_000, 784)
    assert data.test_images.shape == (10_000, 784)
    assert set(np.unique(data.images)) == {0.0, 1.0}
    # The digits of both sets, as MNIST's page counts them.
    assert np.bincount(data.classes)[:3].tolist() == [5923, 6742, 5958]
    assert np.bincount(data.test_classes)[:3].tolist() == [980, 1135, 1032]


def test_ink_begins_at_half_of_the_levels():
    pixels = np.array([[[[0], [127]], [[128], [255]]]], np.uint8)
    assert mnist.binarize(pixels).tolist() == [[0, 0, 1, 1]]


def test_three_files_are_written_and_nothing_else(written):
    assert sorted(path.name for path in written.iterdir()) == FILES


def test_the_numbers_are_a_row_for_each_measurement(rows):
    assert rows[0] == list(COLUMNS)
    assert [row[0] for row in rows[1:]] == ["0", "100", str(STEPS)]
    assert len(COLUMNS) == 1 + 2 * (1 + len(PERCENTILES))
    for row in rows[1:]:
        for network in (row[1:5], row[5:]):
            accuracy, low, middle, high = map(float, network)
            assert 0 <= accuracy <= 1
            assert low < middle < high


def test_the_report_is_of_the_numbers_that_lie_beside_it(report, rows):
    last = dict(zip(COLUMNS, map(float, rows[-1]), strict=True))
    for name in NETWORKS:
        told = report["networks"][name]
        column = name.replace(" ", "_").lower()
        numbers = np.array(rows[1:], float)
        percentiles = numbers[:, [COLUMNS.index(f"{column}_p{p}") for p in PERCENTILES]]
        assert told["final_accuracy"] == pytest.approx(last[f"{column}_accuracy"])
        assert told["final_percentiles"] == pytest.approx(percentiles[-1].tolist(), rel=1e-5)
        assert told["drift"] == pytest.approx(bn_mnist.drift(percentiles), rel=1e-4)


def test_the_report_says_what_ran_where_and_how_long(report):
    assert report["setting"] == dataclasses.asdict(
        MnistSettings(steps=STEPS, seed=3, learning_rate=1.0)
    )
    assert {"tensorflow", "keras", "numpy", "python", "commit"} <= report["environment"].keys()
    assert all(report["seconds"][name] > 0 for name in NETWORKS)
    assert report["device"]


def test_the_picture_is_a_png_of_three_panels(written):
    pixels = tf.io.decode_png((written / "figure1.png").read_bytes(), channels=3).numpy()
    height, width, _ = pixels.shape
    assert width > 2 * height
    # Without colour: what can be told apart in print, too.
    assert (pixels.max(axis=-1) == pixels.min(axis=-1)).all()


def test_the_command_tells_progress_apart_from_the_result(written):
    out, err = ((written.parents[1] / name).read_text(encoding="utf-8") for name in ("out", "err"))
    for name in NETWORKS:
        assert f"{name}: step {STEPS} of {STEPS}, test accuracy " in err
        assert f"\n{name} " in out
    assert out.count("with BN it ") == 3
    assert "test accuracy" not in out


@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_same_seed_gives_the_same_numbers_whether_they_are_measured_or_not(
    few, traces, batch_norm
):
    rarely = sigmoids.train_network(few, dataclasses.replace(SHORT, every=40), batch_norm, silent)
    often = traces[batch_norm]
    for field in ("steps", "accuracy", "percentiles"):
        found, expected = (getattr(trace, field)[[0, -1]] for trace in (rarely, often))
        np.testing.assert_array_equal(found, expected, err_msg=field)
    assert rarely.population_accuracy == often.population_accuracy


def test_another_seed_gives_other_numbers(few, traces):
    different = dataclasses.replace(SHORT, steps=2, seed=1)
    other = sigmoids.train_network(few, different, False, silent)
    assert (other.percentiles[0] != traces[False].percentiles[0]).all()
    assert other.accuracy[-1] != traces[False].accuracy[-1]


def test_both_networks_begin_with_the_same_small_gaussian_weights():
    plain, normalized = (sigmoids.build_network(SHORT, batch_norm) for batch_norm in (False, True))
    for number in range(1, 5):
        ours, theirs = (model.get_layer(f"dense_{number}") for model in (plain, normalized))
        weights = ours.kernel.numpy()
        np.testing.assert_array_equal(theirs.kernel.numpy(), weights)
        assert weights.mean() == pytest.approx(0, abs=0.02)
        assert weights.std() == pytest.approx(SHORT.initial_deviation, rel=0.05)
        assert not ours.bias.numpy().any()
    shapes = [tuple(plain.get_layer(f"dense_{n}").kernel.shape) for n in range(1, 5)]
    assert shapes == [(784, 100), (100, 100), (100, 100), (100, 10)]


def test_beta_is_in_the_place_of_the_hidden_layers_biases():
    plain, normalized = (sigmoids.build_network(SHORT, batch_norm) for batch_norm in (False, True))
    assert [normalized.get_layer(f"dense_{n}").use_bias for n in range(1, 5)] == [False] * 3 + [
        True
    ]
    gammas = 3 * 100
    assert normalized.count_params() - plain.count_params() == gammas + 2 * gammas  # and statistics


def test_each_pass_shows_every_image_once_and_the_seed_alone_decides_the_order():
    shown = image_order(2500, 60, 60_000, 5)
    assert shown.shape == (2500, 60)
    for first in (0, 1000):
        assert np.array_equal(np.sort(shown[first : first + 1000], axis=None), np.arange(60_000))
    assert (shown[:1000] != shown[1000:2000]).any()
    np.testing.assert_array_equal(image_order(30, 60, 60_000, 5), shown[:30])
    assert (image_order(30, 60, 60_000, 6) != shown[:30]).any()


@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_percentiles_are_those_of_the_network_written_out_in_numpy(few, traces, batch_norm):
    model = sigmoids.build_network(SHORT, batch_norm)
    batches = few.images[:6000].reshape(100, 60, 784).astype(np.float64)
    for number in range(1, 4):
        if number > 1:
            batches = 1 / (1 + np.exp(-batches))
        batches = batches @ model.get_layer(f"dense_{number}").kernel.numpy().astype(np.float64)
        if batch_norm:  # with the statistics of each batch of 60
            mean, variance = (f(batches, axis=1, keepdims=True) for f in (np.mean, np.var))
            batches = (batches - mean) / np.sqrt(variance + SHORT.epsilon)
    # Of 6,000 sorted values p percent lie below place p/100 * 5,999.
    ordered = np.sort(batches.reshape(6000, 100), axis=0)
    for found, p in zip(traces[batch_norm].percentiles[0], PERCENTILES, strict=True):
        place = p / 100 * 5999
        low, share = int(place), place - int(place)
        expected = (1 - share) * ordered[low] + share * ordered[low + 1]
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_the_accuracy_of_the_first_moment_is_that_of_the_untrained_network(few, traces):
    for batch_norm, trace in enumerate(traces):
        logits, _ = sigmoids.build_network(SHORT, bool(batch_norm))(few.test_images, training=False)
        assert trace.accuracy[0] == np.mean(np.argmax(logits, axis=-1) == few.test_classes)


def test_steps_to_an_accuracy_are_those_of_the_first_measurement_there():
    trace = Trace(
        np.array([0, 10, 20, 30]), np.array([0.1, 0.8, 0.7, 0.9]), np.zeros((4, 3, 1)), 0.9
    )
    assert [bn_mnist.steps_to(trace, level) for level in (0.1, 0.8, 0.81, 0.91)] == [
        0,
        10,
        30,
        None,
    ]


def test_the_drift_is_the_way_that_the_percentiles_go_in_widths_of_the_distribution():
    percentiles = np.array([[0.0, 1.0, 2.0], [-1.0, 1.0, 5.0], [-1.0, 2.0, 3.0]])
    # (1 + 0 + 3) / 3 over a width of 2, then (0 + 1 + 2) / 3 over a width of 6.
    assert bn_mnist.drift(percentiles) == pytest.approx(4 / 6 + 1 / 6)
    assert bn_mnist.drift(percentiles[:1]) == 0
    # The scale of the input does not count: a distribution ten times as wide moves ten times as far.
    assert bn_mnist.drift(10 * percentiles) == pytest.approx(5 / 6)


def test_the_distance_from_the_end_is_a_mean_over_moments_and_percentiles():
    percentiles = np.array([[0.0, 1.0, 2.0], [-1.0, 1.0, 5.0], [-1.0, 2.0, 3.0]])
    assert bn_mnist.distance_from_end(percentiles) == pytest.approx((3 + 3 + 0) / 9)


def test_the_typical_sigmoid_is_fixed_before_training():
    assert TYPICAL == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--steps", 0), "invalid value for '--steps': 0 is not in the range x>=1"),
        (("--seed", -1), "seed must be 0 or more, got -1"),
        (("--learning-rate", 0), "learning_rate must be above 0 and finite, got 0"),
        (("--learning-rate", "nan"), "learning_rate must be above 0 and finite, got nan"),
        (("--initial-deviation", "inf"), "initial_deviation must be above 0 and finite, got inf"),
        (("--steps", "many"), "'many' is not a valid integer"),
        (("--data-dir", "/no/such/folder"), "'/no/such/folder' does not exist"),
    ],
)
def test_a_mistake_is_one_sentence(call, tmp_path, words, sentence):
    code, out, err = call("--out", tmp_path / "out", *words)
    assert (code, out) == (2, "")
    assert sentence in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_without_mnist_is_one_sentence(call, tmp_path):
    code, _, err = call("--out", tmp_path / "out", "--data-dir", tmp_path)
    assert code == 2
    assert f"tfds:mnist is not prepared in {tmp_path}; name the folder that was data_dir of" in err
    assert len(err.splitlines()) == 1
    assert not list((tmp_path / "out").iterdir())


def test_where_nothing_can_be_written_nothing_is_trained(call, folder, tmp_path):
    (tmp_path / "file").touch()
    code, _, err = call("--out", tmp_path / "file" / "out", "--data-dir", folder)
    assert code == 2
    assert err == f"inception-tf: {tmp_path / 'file' / 'out'}: Not a directory\n"


def test_without_matplotlib_nothing_is_trained(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match="needs matplotlib: pip install"):
        bn_mnist.run_bn_mnist(tmp_path, MnistSettings(), folder, pytest.fail)
    assert not list(tmp_path.iterdir())


def test_a_network_that_runs_out_of_its_numbers_says_at_which_step(few):
    setting = dataclasses.replace(SHORT, learning_rate=1e38)
    with pytest.raises(
        UserError, match=r"without BN is no longer finite at step 20; use a learning"
    ):
        sigmoids.train_network(few, setting, False, silent)


@pytest.mark.slow
def test_with_batch_normalization_it_is_faster_better_and_steadier(data):
    setting = MnistSettings(steps=4000)
    found = bn_mnist.findings(
        {
            name: sigmoids.train_network(data, setting, bool(batch_norm), silent)
            for batch_norm, name in enumerate(NETWORKS)
        }
    )
    assert all(found["with_bn"].values()), found
