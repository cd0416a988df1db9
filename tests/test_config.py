# SPDX-License-Identifier: Apache-2.0
"""Configurations: what they refuse, and that nothing is lost on the way to YAML and back."""

from __future__ import annotations

import pytest
import yaml

from inception_tf.config import Config
from inception_tf.errors import UserError
from inception_tf.training.recipes import list_recipes, read_recipe


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("optimizer.lerning_rate=1", "did you mean 'learning_rate'?"),
        ("optimiser.learning_rate=1", "did you mean 'optimizer'?"),
        ("learning_rate=1", "--set takes section.key=value"),
        ("training.epochs", "--set takes section.key=value"),
        ("training.epochs=2.5", "training.epochs takes a whole number, got 2.5"),
        ("training.epochs=0", "training.epochs takes a number above 0"),
        ("data.flip=3", "data.flip takes true or false, got 3"),
        ("data.crop=7", "data.crop takes a share above 0 and up to 1"),
        ("data.box_area=[0.9, 0.1]", "data.box_area takes [low, high]"),
        (
            "data.photometric=ful",
            "unknown data.photometric 'ful'; known: full, reduced, none; did you mean 'full'?",
        ),
        ("data.auto_augment=rand_augment", "did you mean 'randaugment'?"),
        ("data.autoaugment_policy=imagenet", "did you mean 'reduced_imagenet'?"),
        ("data.autoaugment_policy=deit3_three_augment", "unknown data.autoaugment_policy"),
        ("data.randaugment_layers=0", "data.randaugment_layers takes a number above 0, got 0"),
        ("data.randaugment_magnitude=11", "takes a number from 0 to 10, got 11.0"),
        ("data.random_erasing=1.5", "data.random_erasing takes a number from 0 to 1, got 1.5"),
        ("data.mixup_alpha=-1", "data.mixup_alpha takes 0, for none, or a number from 0.1"),
        ("data.cutmix_alpha=0.01", "data.cutmix_alpha takes 0, for none, or a number from 0.1"),
        ("training.precision=bf16", "unknown precision 'bf16'"),
        ("model.dropout=1", "model.dropout takes a share"),
        ("data.name=[", "is not YAML"),
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
    with pytest.raises(UserError, match=r"data\.batch_size takes a whole number, got None"):
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
        ("[1, 2]", "holds no sections"),
        ("model: 3", "holds no 'key: value' lines"),
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
