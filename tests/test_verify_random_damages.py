# SPDX-License-Identifier: Apache-2.0
"""Exports damaged at random: a flipped bit in any file, and metadata of any values, end in no internal error."""

from __future__ import annotations

import functools
import json
import random
import shutil
from pathlib import Path

import keras
import pytest
import ramps

from inception_tf import UserError
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.export import metadata
from inception_tf.export.savedmodel import export
from inception_tf.savedmodel import c_api
from inception_tf.serving.predict import predict
from inception_tf.verify import sample_run
from inception_tf.verify.verify import ENDED_IN, verify

SIZE = 32
LABELS = ("rose", "tulip", "lily")


@functools.cache
def network() -> keras.Model:
    images = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(8, 5, 4)(images))
    model = keras.Model(images, keras.layers.Dense(len(LABELS), "softmax")(x))
    for weight in model.weights:
        weight.assign(ramps.weight(weight.path, tuple(weight.shape)))
    return model


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    to = tmp_path_factory.mktemp("models") / "sound"
    return export(network(), LABELS, to, Preprocessing(SIZE), warm_up=(1,))


@pytest.fixture
def copy(sound, tmp_path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "1"))


@pytest.fixture
def static_checks_alone(monkeypatch):
    def no_run(*_, **__):
        raise c_api.NoLoaderError("not needed in this test")

    monkeypatch.setattr(sample_run, "run_sample_requests", no_run)


def files_of(folder) -> list[str]:
    """The files of an export, each as often as there are ways to damage it."""
    names = [p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*")) if p.is_file()]
    assert len(names) == 7
    return [*names, "saved_model.pb", metadata.METADATA_FILE]


def flip(folder, name: str, rng: random.Random) -> str:
    content = bytearray((folder / name).read_bytes())
    place = rng.randrange(8 * len(content))
    content[place // 8] ^= 1 << (place % 8)
    (folder / name).write_bytes(content)
    return f"bit {place} of {name}"


def outcome(folder, damage: str) -> str:
    """How `verify` ends: `passed`, `failed`, or `refused` with a sentence; anything else is raised."""
    try:
        found = verify(folder, network(), LABELS)
    except UserError as error:
        return sentence(error)
    ended = [check.detail for check in found if ENDED_IN in check.detail]
    assert ended == [], damage  # the checks of the files know every error
    return "failed" if any(check.passed is False for check in found) else "passed"


def sentence(error: UserError) -> str:
    assert "\n" not in str(error)
    return "refused"


@pytest.mark.usefixtures("static_checks_alone")
@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 16))]
)
def test_a_bit_that_flips_anywhere_is_noticed_without_an_internal_error(copy, sound, seed):
    rng = random.Random(seed)
    for name in files_of(sound):
        damage = flip(copy, name, rng)
        assert outcome(copy, damage) in ("failed", "refused"), damage
        shutil.copy(sound / name, copy / name)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_a_graph_with_a_flipped_bit_runs_or_ends_in_a_sentence(copy, sound, seed):
    """In both loaders, and in `predict`."""
    rng = random.Random(seed)
    for _ in range(4):
        damage = flip(copy, "saved_model.pb", rng)
        try:
            checks = verify(copy, network(), LABELS)
            assert "files" in {check.name for check in checks if check.passed is False}, damage
            predict(str(copy), [b"x"])
        except UserError as error:
            sentence(error)
        shutil.copy(sound / "saved_model.pb", copy / "saved_model.pb")


VALUES = (None, True, -1, 10**30, float("inf"), "x", "\ud800", "a\0b", [], [1], {}, {"x": 1})


def places_of(values, place=()):
    """Where a value can be changed: each key and the first entry of each list, at any depth."""
    if place:
        yield place
    inner = (
        values.items()
        if isinstance(values, dict)
        else enumerate(values[:1])
        if isinstance(values, list)
        else ()
    )
    for key, value in inner:
        yield from places_of(value, (*place, key))


@pytest.mark.usefixtures("static_checks_alone")
@pytest.mark.parametrize(
    "part", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 11))]
)
def test_metadata_of_any_values_end_in_no_internal_error(copy, sound, part):
    values = metadata.read_values(sound)
    origin = {
        "path": "none",
        "weights": "none.h5",
        "sha256": "0",
        "temperature": 1.0,
        "labels": None,
    }
    changes = [
        (place, value)
        for place in places_of(values | {"origin": origin})
        for value in (*VALUES, ...)
    ]
    for place, value in changes[part::40] if part else random.Random(0).sample(changes, 12):
        changed = json.loads(json.dumps(values | {"origin": origin}))
        inside = changed
        for key in place[:-1]:
            inside = inside[key]
        if value is ...:
            del inside[place[-1]]
        else:
            inside[place[-1]] = value
        changed[metadata.SUM] = metadata.sum_of_values(changed)
        (copy / metadata.METADATA_FILE).write_text(json.dumps(changed))
        outcome(copy, f"{place} = {value}")
