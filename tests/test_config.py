# SPDX-License-Identifier: Apache-2.0
"""Configurations: what they refuse, and that nothing is lost on the way to YAML and back."""

from __future__ import annotations

import math
import re

import pytest
import yaml

from inception_tf.config import MEANING, WITHIN, Config
from inception_tf.errors import UserError
from inception_tf.ranges import OneOf, Range
from inception_tf.training.recipes import list_recipes, read_recipe


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("optimizer.lerning_rate=1", "did you mean 'learning_rate'?"),
        ("optimiser.learning_rate=1", "did you mean 'optimizer'?"),
        ("epochs=3", "did you mean training.epochs?"),
        ("epoch=3", "did you mean training.epochs?"),
        ("weight_decay=0.1", "did you mean model.weight_decay or optimizer.weight_decay?"),
        ("data.epochs=3", "did you mean training.epochs?"),
        ("learning_rate=1", "--set must be section.key=value"),
        ("training.epochs", "--set must be section.key=value"),
        ("training.epochs=2.5", "training.epochs must be an integer, got 2.5"),
        ("training.epochs=0", "training.epochs must be at least 1, got 0"),
        ("data.flip=3", "data.flip must be true or false, got 3"),
        ("data.crop=7", "data.crop must be in (0, 1], got 7.0"),
        ("data.box_area=[0.9, 0.1]", "data.box_area must be [low, high]"),
        (
            "data.photometric=ful",
            "unknown data.photometric 'ful'; known: full, reduced, none; did you mean 'full'?",
        ),
        ("data.auto_augment=rand_augment", "did you mean 'randaugment'?"),
        ("data.autoaugment_policy=imagenet", "did you mean 'reduced_imagenet'?"),
        ("data.autoaugment_policy=deit3_three_augment", "unknown data.autoaugment_policy"),
        ("data.randaugment_layers=0", "data.randaugment_layers must be at least 1, got 0"),
        (
            "data.randaugment_magnitude=11",
            "data.randaugment_magnitude must be in [0, 10], got 11.0",
        ),
        ("data.random_erasing=1.5", "data.random_erasing must be in [0, 1], got 1.5"),
        ("data.mixup_alpha=-1", "data.mixup_alpha must be 0 or at least 0.1, got -1.0"),
        ("data.cutmix_alpha=0.01", "data.cutmix_alpha must be 0 or at least 0.1"),
        ("training.precision=bf16", "unknown training.precision 'bf16'"),
        ("model.dropout=1", "model.dropout must be in [0, 1), got 1.0"),
        ("data.name=[", "is not YAML"),
        ("data.shuffle=week", "did you mean 'weak'?"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(setting, sentence):
    with pytest.raises(UserError) as error:
        Config().override([setting])
    assert sentence in str(error.value)


def test_yaml_writes_1e_3_as_text_and_it_is_still_a_number():
    assert Config().override(["optimizer.learning_rate=1e-3"]).optimizer.learning_rate == 0.001


def test_null_takes_a_value_out_where_the_field_allows_it():
    assert Config().override(["data.crop=null"]).data.crop is None
    with pytest.raises(UserError, match=r"data\.batch_size must be an integer, got None"):
        Config().override(["data.batch_size=null"])


def test_a_config_survives_yaml():
    config = Config().override(["data.box_area=[0.5, 1]", "model.size=75", "training.seed=7"])
    assert Config.parse(yaml.safe_load(yaml.safe_dump(config.as_dict())), "test") == config


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_reads(name):
    assert read_recipe(name).recipe == name


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(
        UserError, match="unknown recipe 'digit'; known: .*; did you mean 'digits'?"
    ):
        read_recipe("digit")


def test_a_recipe_file_of_ones_own_is_read(tmp_path):
    (tmp_path / "mine.yaml").write_text("optimizer: {learning_rate: 0.5}\n")
    assert read_recipe(str(tmp_path / "mine.yaml")).optimizer.learning_rate == 0.5


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[1, 2]", "has no sections"),
        ("model: 3", "has no 'key: value' lines"),
        ("modle: {}", "did you mean 'model'"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_broken_recipe_file_is_one_sentence(tmp_path, text, sentence):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        read_recipe(str(path))
    assert sentence in str(error.value)


def test_a_missing_recipe_file_lists_the_names():
    with pytest.raises(
        UserError,
        match="there is no recipe file nowhere/mine.yaml; recipes by name: bn-baseline, bn-ensemble",
    ):
        read_recipe("nowhere/mine.yaml")


NUMBERS = {
    name: key
    for name, key in Config.settings().items()
    if any(kind in key.type for kind in ("float", "int"))
    and not isinstance(key.metadata[WITHIN], OneOf)
}


@pytest.mark.parametrize("key", NUMBERS)
@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf"])
def test_every_number_is_finite(key, value):
    pair = "tuple" in NUMBERS[key].type
    with pytest.raises(UserError, match=f"^{re.escape(key)} must be"):
        Config().override([f"{key}={f'[{value}, {value}]' if pair else value}"])


RANGES = {
    name: key.metadata[WITHIN]
    for name, key in NUMBERS.items()
    if isinstance(key.metadata[WITHIN], Range)
}


@pytest.mark.parametrize("key", RANGES)
def test_every_range_holds_at_its_ends_and_not_beyond(key):
    """An end that belongs to the range is taken, and the nearest number outside is refused."""
    allowed = RANGES[key]
    whole = "float" not in NUMBERS[key].type

    def taken(value):
        value = int(value) if whole else value
        # So that the rules between two fields are kept.
        more = ["training.epochs=9"] if key == "training.head_epochs" else []
        told = ""
        try:
            Config().override([*more, f"{key}={value!r}"])
        except UserError as error:
            told = str(error)
        assert told == "" or told.startswith(f"{key} must be {allowed}, got ")
        return told == ""

    step = 1 if whole else 1e-9
    assert taken(allowed.low) is not allowed.above
    assert not taken(allowed.low - step)
    assert taken(allowed.low + step)
    if math.isfinite(allowed.high):
        assert taken(allowed.high) is not allowed.below
        assert not taken(allowed.high + step)
        assert taken(allowed.high - step)


def test_the_ranges_are_these():
    """What a field may be is a promise to whoever has a recipe: a change here is meant."""
    assert {key: str(allowed) for key, allowed in RANGES.items()} == {
        "model.size": "at least 1",
        "model.dropout": "in [0, 1)",
        "model.batch_norm_momentum": "in [0, 1)",
        "model.weight_decay": "at least 0",
        "model.initializer_gain": "above 0",
        "model.width_multiplier": "above 0",
        "data.label_offset": "at least 0",
        "data.bits": "in [8, 16]",
        "data.shuffle_images": "at least 1",
        "data.max_bad": "in [0, 1]",
        "data.batch_size": "at least 1",
        "data.crop": "in (0, 1]",
        "data.randaugment_layers": "at least 1",
        "data.randaugment_magnitude": "in [0, 10]",
        "data.random_erasing": "in [0, 1]",
        "data.mixup_alpha": "0 or at least 0.1",
        "data.cutmix_alpha": "0 or at least 0.1",
        "optimizer.learning_rate": "above 0",
        "optimizer.warmup_epochs": "at least 0",
        "optimizer.head_learning_rate": "above 0",
        "optimizer.final_rate": "in [0, 1]",
        "optimizer.rate_decay": "above 0",
        "optimizer.decay_epochs": "above 0",
        "optimizer.accumulation_steps": "at least 1",
        "optimizer.layer_decay": "in (0, 1]",
        "optimizer.weight_decay": "at least 0",
        "training.focal_gamma": "at least 0",
        "training.patience": "at least 1",
        "optimizer.momentum": "in [0, 1)",
        "optimizer.decay": "in [0, 1)",
        "optimizer.epsilon": "above 0",
        "optimizer.clip_norm": "above 0",
        "optimizer.ema": "in [0, 1)",
        "training.epochs": "at least 1",
        "training.seed": "in [0, 4294967295]",
        "training.label_smoothing": "in [0, 1)",
        "training.aux_weight": "at least 0",
        "training.head_epochs": "at least 0",
        "training.recalibrate_batch_norm": "at least 0",
        "training.max_bad_steps": "at least 1",
        "training.steps_per_execution": "at least 1",
    }


def test_every_number_has_a_range():
    pairs = {"data.box_area", "data.box_aspect"}
    assert NUMBERS.keys() - pairs == RANGES.keys()


def test_a_frozen_config_is_frozen():
    config = Config().override(["model.switches={lrn: true}"])
    for change in (
        lambda: config.model.switches.update(lrn=False),
        lambda: config.model.switches.pop("lrn"),
        lambda: config.model.switches.__setitem__("lrn", False),
    ):
        with pytest.raises(TypeError, match="a configuration cannot be changed"):
            change()
    assert config.as_dict()["model"]["switches"] == {"lrn": True}
    assert yaml.safe_load(yaml.safe_dump(config.as_dict()))["model"]["switches"] == {"lrn": True}
    assert hash(config) == hash(Config().override(["model.switches={lrn: true}"]))


@pytest.mark.parametrize("shuffle", ["weak", "block"])
def test_balanced_images_have_one_order(shuffle):
    with pytest.raises(UserError, match=f"take data.shuffle=full with it, not {shuffle}"):
        Config().override(["data.balance=true", f"data.shuffle={shuffle}"])


def test_every_setting_says_what_it_is():
    assert not [name for name, key in Config.settings().items() if not key.metadata[MEANING]]
