# SPDX-License-Identifier: Apache-2.0
"""All formats of one network in a table and a plot."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from inception_tf import UserError, cli
from inception_tf.cli.export import command as export_command
from inception_tf.serving import comparison


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    keras.utils.set_random_seed(0)
    image = keras.Input((12, 12, 3))
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Flatten()(keras.layers.Conv2D(3, 5, 4)(x))
    x = keras.layers.Dense(10, "softmax", bias_initializer="uniform")(x)
    path = tmp_path_factory.mktemp("models") / "mine.keras"
    keras.Model(image, x, name="mine").save(path)
    return path


def test_each_format_is_measured_on_the_same_images(model, tmp_path, monkeypatch, capsys):
    known = comparison._formats

    def saved_model_and_one_that_fails(*arguments):
        def fail(to):
            raise UserError("not installed")

        return [*known(*arguments)[:1], ("other", fail)]

    monkeypatch.setattr(comparison, "_formats", saved_model_and_one_that_fails)
    files = {name: str(tmp_path / f"x.{name}") for name in ("png", "json")}
    words = ["benchmark", "exports", str(model), "--data", "digits", "--images", "20"]
    words += ["--repeats", "2", "--plot", files["png"], "--json", files["json"]]
    assert cli.main(words) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0].split() == " ".join(comparison.COLUMNS).split()
    assert "skipped other: not installed" in printed.err
    ours, exported = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert (ours["format"], exported["format"]) == ("Keras", "saved_model")
    assert ours["size"] is None
    assert exported["size"] > 1000
    assert (exported["same_top1"], exported["images"]) == (1.0, 20)
    assert exported["largest_difference"] < 1e-5
    assert exported["top1"] == ours["top1"]
    assert 0 < exported["latency"] <= exported["latency_p90"]
    assert tf.io.decode_png((tmp_path / "x.png").read_bytes()).shape[1] == 960


def test_every_format_is_listed(model):
    names = [name for name, _ in comparison._formats(None, None, None)]
    choices = next(one for one in export_command.params if one.name == "format").type.choices
    assert {name.split()[0] for name in names} == {choice.replace("-", "_") for choice in choices}
    assert {name for name in names if name.endswith("int8")} == {
        *("openvino int8", "litert int8", "triton int8")
    }


def test_the_plot_names_each_bar(tmp_path):
    figures = [
        comparison.ExportFigures(name, size, 1.0, 0.0, 0.5, seconds, seconds, 9, "a processor")
        for name, size, seconds in (("Keras", None, 0.02), ("onnx", 10**6, 0.01))
    ]
    comparison.plot_comparison(figures, tmp_path / "x.png")
    pixels = tf.io.decode_png((tmp_path / "x.png").read_bytes(), 3).numpy()
    assert np.ptp(pixels) > 200
    assert comparison.comparison_rows(figures)[1][:2] == ("onnx", "1.0")
