# SPDX-License-Identifier: Apache-2.0
"""A run is resumed with its own settings, images and checkpoints, or refused by name."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from example_files import write

from inception_tf.config import Config
from inception_tf.data import fingerprint
from inception_tf.data.cache import cache_decoded
from inception_tf.data.fingerprint import fingerprint_split
from inception_tf.data.sources.open import open_source
from inception_tf.errors import UserError
from inception_tf.run_folder import Run
from inception_tf.training.fingerprint import (
    MAY_CHANGE,
    changed_setting,
    check_fingerprint,
    make_fingerprint,
)
from inception_tf.training.plan import make_plan


def png(value):
    return tf.io.encode_png(np.full((4, 4, 3), value, np.uint8)).numpy()


@pytest.fixture
def started(class_folders, tmp_path):
    """A run folder, its configuration and the fingerprint in its checkpoint."""
    folder = class_folders(blue=12, red=12)
    config = Config().override(
        [f"data.name='folder:{folder}'", "data.batch_size=4", "model.size=32"]
    )
    run = Run(tmp_path / "run")
    stored = make_fingerprint(run, make_plan(config))
    run.write_config(config, stored["run"])
    return run, config, json.loads(json.dumps(stored))


def check(run, config, stored):
    plan = make_plan(config)
    check_fingerprint(Path("step-8"), stored, run, plan, make_fingerprint(run, plan))


def folder_of(config):
    return Path(config.data.name.removeprefix("folder:"))


def test_what_is_unchanged_may_be_resumed_wherever_it_lies(started, tmp_path, caplog):
    run, config, stored = started
    check(run, config, stored)
    shutil.copytree(folder_of(config), tmp_path / "elsewhere", copy_function=shutil.copyfile)
    moved = config.override([f"data.name='folder:{tmp_path / 'elsewhere'}'"])
    check(run, moved, stored)
    assert not caplog.records


def test_other_pixels_are_refused_and_the_file_is_named(started):
    run, config, stored = started
    image = folder_of(config) / "red" / "3.jpg"
    times = image.stat().st_atime_ns, image.stat().st_mtime_ns
    image.write_bytes(png(99))
    with pytest.raises(
        UserError, match=rf"has other pixels \({image}\) than when checkpoint step-8"
    ):
        check(run, config, stored)
    os.utime(image, ns=times)  # as a tool that restores times leaves it
    with pytest.raises(UserError, match="split of folder:.* has other pixels than when"):
        check(run, config, stored)


def test_large_sets_are_compared_by_sizes_and_times(started, monkeypatch):
    run, config, _ = started
    monkeypatch.setattr(fingerprint, "HASHED_BYTES", 0)
    stored = make_fingerprint(run, make_plan(config))
    check(run, config, stored)
    os.utime(folder_of(config) / "red" / "3.jpg")
    with pytest.raises(UserError, match=r"has other pixels \(.*3\.jpg\)"):
        check(run, config, stored)


def test_renamed_images_are_another_order_and_refused(started):
    run, config, stored = started
    folder = folder_of(config) / "red"
    (folder / "3.jpg").rename(folder / "z3.jpg")
    with pytest.raises(UserError, match="has other images, names or classes, or another order"):
        check(run, config, stored)


def test_an_image_more_is_refused_by_number(started):
    run, config, stored = started
    folder = folder_of(config) / "red"
    shutil.copy(folder / "3.jpg", folder / "z.jpg")
    with pytest.raises(UserError, match="the train split of .* has 23 images and not 22"):
        check(run, config, stored)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        (
            "optimizer.learning_rate=0.5",
            r"optimizer\.learning_rate 0\.001, and .*config\.yaml has 0\.5",
        ),
        ("training.seed=3", "training.seed 0, and"),
        ("data.flip=false", "data.flip True, and"),
        ("model.dropout=0.1", "model.dropout None, and"),
    ],
)
def test_an_edited_setting_is_refused_by_name(started, setting, sentence):
    run, config, stored = started
    with pytest.raises(UserError, match=f"checkpoint step-8 was trained with {sentence}"):
        check(run, config.override([setting]), stored)


def test_every_setting_is_compared_unless_it_touches_no_past_step(started):
    run, config, stored = started
    assert MAY_CHANGE.keys() <= config.flat().keys()
    for key in config.flat():
        section, name = key.split(".")
        values = dataclasses.replace(getattr(config, section), **{name: "another"})
        other = dataclasses.replace(config, **{section: values})
        assert changed_setting(other, config) == (None if key in MAY_CHANGE else key)
    for setting in ("data.max_bad=0.5", "training.recalibrate_batch_norm=2", "data.cache=memory"):
        check(run, config.override([setting]), stored)


def test_a_checkpoint_of_another_run_is_refused(started, tmp_path):
    run, config, stored = started
    other = Run(tmp_path / "other")
    theirs = make_fingerprint(other, make_plan(config))
    other.write_config(config, theirs["run"])
    assert other.identity() == theirs["run"] != run.identity() == stored["run"]
    with pytest.raises(
        UserError, match=f"is of the run {theirs['run']}, and .*run/config.yaml is of"
    ):
        check(run, config, theirs)


def test_a_checkpoint_of_the_first_version_is_resumed_and_that_is_said(started, caplog):
    run, config, _ = started
    with caplog.at_level(logging.WARNING, "inception_tf"):
        check(run, config, None)
    assert "step-8 has no fingerprint, as those of version 0.1.0" in caplog.text


def test_records_are_compared_by_their_images_in_whatever_files_they_lie(tmp_path):
    rows = [(png(value), value % 2) for value in range(8)]
    for folder in "bcd":
        (tmp_path / folder).mkdir()
    write(tmp_path / "train-a", rows)
    write(tmp_path / "b" / "train-0", rows[:3])
    write(tmp_path / "b" / "train-1", rows[3:])
    write(tmp_path / "c" / "train-0", [*rows[:7], (png(99), 1)])
    write(tmp_path / "d" / "train-0", [*rows[1:], rows[0]])
    one, two, other, order = (
        fingerprint_split(open_source(f"tfrecord:{tmp_path}/{name}").split("all"))
        for name in ("train-a", "b/*", "c/*", "d/*")
    )
    assert one == two
    assert dataclasses.replace(other, contents=one.contents) == one != other
    assert order.contents != one.contents


def test_a_cached_split_has_the_fingerprint_of_its_images(class_folders):
    split = open_source(f"folder:{class_folders(blue=3, red=3)}").split("all")
    assert fingerprint_split(cache_decoded(split, "memory")) == fingerprint_split(split)


def test_pixels_have_a_fingerprint():
    split = open_source("digits").split("test")
    before = fingerprint_split(split)
    assert before == fingerprint_split(open_source("digits").split("test"))
    split.images[0, 0, 0, 0] += 1
    assert fingerprint_split(split).contents != before.contents
