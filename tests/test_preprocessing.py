# SPDX-License-Identifier: Apache-2.0
"""How images are prepared for weights: allowed values, and what a run takes over from the weights it starts from."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest

from inception_tf.config import Config
from inception_tf.data.preprocessing import Preprocessing, preprocessing_of_run
from inception_tf.errors import UserError
from inception_tf.run_folder import Run
from inception_tf.training.train import _with_preprocessing
from inception_tf.weights.registry import RELEASES


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"size": 0}, "size must be an integer of at least 1, got 0"),
        ({"shorter": 200}, "shorter must be at least size, 224 pixels, got 200"),
        ({"shorter": 256, "stored": 256}, "has both shorter and stored; give one of them"),
        ({"crop": 1.5}, r"crop must be in \(0, 1\]"),
        ({"scale": "tf"}, "unknown scale 'tf'"),
        ({"interpolation": "lanczos"}, "unknown interpolation 'lanczos'; known: bilinear, bicubic"),
        ({"antialias": 1}, "antialias must be true or false, got 1"),
        ({"half_pixel_centers": False, "antialias": True}, "is TensorFlow 1's resize_bilinear"),
    ],
)
def test_what_cannot_be_done_is_refused(fields, sentence):
    with pytest.raises(UserError, match=sentence):
        Preprocessing(**{"size": 224} | fields).check()


def test_every_release_has_one_that_can_be_done_stored_and_read_back():
    for release in RELEASES:
        release.preprocessing.check()
        stored = json.loads(json.dumps(dataclasses.asdict(release.preprocessing)))
        assert Preprocessing(**stored) == release.preprocessing
        geometry = release.preprocessing.geometry()
        assert Preprocessing(
            release.preprocessing.size, scale=release.preprocessing.scale, **geometry
        ) == (release.preprocessing)


def test_a_file_of_an_earlier_version_is_prepared_as_before():
    stored = {
        "size": 299,
        "crop": 0.875,
        "scale": "unit",
        "interpolation": "bilinear",
        "stored": None,
    }
    assert Preprocessing(**stored) == Preprocessing(299)


def test_another_size_keeps_the_proportions():
    assert Preprocessing(299, None, shorter=342, antialias=True).at_size(96) == Preprocessing(
        96, None, shorter=110, antialias=True
    )


# Runs


def config(*settings: str) -> Config:
    return Config().override(["model.name=inception_v1", "model.size=96", *settings])


def resolved(*settings: str) -> dict | None:
    return _with_preprocessing(config(*settings), Run, False).data.preprocessing  # type: ignore[arg-type]


def test_a_run_from_a_release_is_evaluated_as_its_makers_did():
    assert resolved("model.weights=torchvision") == {
        "crop": None,
        "shorter": 110,
        "antialias": True,
    }
    assert resolved("model.weights=slim_2016") == {"half_pixel_centers": False}
    data = config("data.preprocessing={crop: null, shorter: 110, antialias: true}").data
    assert preprocessing_of_run(data, 96) == Preprocessing(96, None, shorter=110, antialias=True)


def test_any_other_run_is_evaluated_by_its_crop():
    assert resolved() is None
    assert resolved("model.weights=torchvision", "data.crop=0.9") is None  # the user's choice
    assert resolved("model.weights=torchvision", "data.preprocessing={}") == {}
    assert preprocessing_of_run(config("data.crop=0.9").data, 96) == Preprocessing(96, 0.9)


def test_a_resumed_run_goes_on_as_it_began(tmp_path):
    run = Run(tmp_path / "run")
    run.write_config(config().with_preprocessing({"shorter": 110}), "id")
    assert _with_preprocessing(config("model.weights=gone.h5"), run, True).data.preprocessing == {
        "shorter": 110
    }


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("{short: 110}", "unknown key in data.preprocessing 'short'; known: crop"),
        ("{scale: caffe}", "unknown key in data.preprocessing 'scale'"),
        ("{shorter: 90}", "shorter must be at least size, 96 pixels, got 90"),
    ],
)
def test_a_mistake_in_a_runs_setting_is_named(value, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)):
        preprocessing_of_run(config(f"data.preprocessing={value}").data, 96)
