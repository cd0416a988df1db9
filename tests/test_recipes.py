# SPDX-License-Identifier: Apache-2.0
"""Recipes: each one's resolved configuration against the numbers of the paper or the code that it states."""

from __future__ import annotations

import pytest
from short_networks import least, shorten, shorten_all
from test_variants import VARIANTS

from inception_tf.config import Config, quoted
from inception_tf.errors import UserError
from inception_tf.run_folder import Run
from inception_tf.training.compile import compiled_model
from inception_tf.training.optim.optimizers import TF1RMSprop, make_schedule
from inception_tf.training.plan import make_plan
from inception_tf.training.recipes import list_recipes, network_of, read_recipe
from inception_tf.training.train import train

# Ioffe and Szegedy 2015, section 4.2: 32 images a step, initial rate of each network, section 4.2.2.
BN_PAPER = {
    "inception": 0.0015,
    "bn-baseline": 0.0015,
    "bn-x5": 0.0075,
    "bn-x30": 0.045,
    "bn-x5-sigmoid": 0.0075,
    "bn-ensemble": 0.045,
}
BASELINES = ("inception", "bn-baseline")
SMALL = (
    "model.size=32",
    "model.width_multiplier=0.1",
    "data.batch_size=4",
    "training.epochs=2",
    "training.precision=float32",
)


def recipe(name):
    return read_recipe(name)


def flat(config):
    sections = {k: v for k, v in config.as_dict().items() if isinstance(v, dict)}
    return {f"{s}.{key}": value for s, v in sections.items() for key, value in v.items()}


def differences(name, other):
    ours, theirs = flat(recipe(name)), flat(recipe(other))
    return {key: value for key, value in ours.items() if theirs[key] != value}


@pytest.mark.parametrize("name", BN_PAPER)
def test_rate_batch_and_network_of_the_bn_papers_recipes(name):
    config = recipe(name)
    assert config.optimizer.learning_rate == BN_PAPER[name]
    assert config.data.batch_size == 32
    assert config.model.name == ("inception" if name == "inception" else "bn_inception")
    assert (config.optimizer.name, config.optimizer.nesterov) == ("sgd", False)
    assert config.optimizer.schedule == "exponential"
    assert config.training.label_smoothing == 0
    assert not config.model.aux_logits


@pytest.mark.parametrize("name", BN_PAPER)
def test_what_section_4_2_1_takes_away_and_reduces(name):
    config, baseline = recipe(name), recipe("inception")
    is_baseline = name in BASELINES
    assert config.model.switches["lrn"] == is_baseline
    assert config.data.photometric == ("full" if is_baseline else "reduced")
    assert config.model.weight_decay == pytest.approx(
        baseline.model.weight_decay / (1 if is_baseline else 5)
    )
    dropout = {"bn-ensemble": 0.05}.get(name, 0.4 if is_baseline else 0.0)
    assert config.model.dropout == dropout
    # The rate falls six times as fast: after the same epochs it is multiplied by the sixth power.
    epochs = 24

    def left(config):
        rate = make_schedule(config.optimizer, steps_per_epoch=300, epochs=100)
        return float(rate(300 * epochs)) / float(rate(0))

    assert left(config) == pytest.approx(left(baseline) ** (1 if is_baseline else 6), rel=1e-4)


def test_bn_baseline_is_inception_with_batch_normalization_alone():
    assert set(differences("bn-baseline", "inception")) == {
        "model.name",
        "model.batch_norm_momentum",
        "training.warm_up_statistics",
    }


def test_the_variants_of_bn_x5_change_what_the_paper_names():
    assert differences("bn-x30", "bn-x5") == {"optimizer.learning_rate": 0.045}
    assert differences("bn-x5-sigmoid", "bn-x5") == {"model.activation": "sigmoid"}
    member = differences("bn-ensemble", "bn-x30")
    assert member.pop("model.initializer_gain") > 1
    assert member == {
        "model.dropout": 0.05,
        "model.switches": {"lrn": False, "hidden_batch_norm": True},
    }


# research/slim: train_image_classifier.py, nets/inception_utils.py, preprocessing/inception_preprocessing.py.
SLIM = {
    "data.batch_size": 32,
    "data.photometric": "reduced",  # fast_mode, the default of preprocess_image
    "data.box_area": [0.05, 1.0],
    "data.box_aspect": [0.75, 1.33],
    "data.crop": 0.875,
    "data.flip": True,
    "optimizer.name": "rmsprop",
    "optimizer.learning_rate": 0.01,
    "optimizer.warmup_epochs": 0.0,
    "optimizer.schedule": "step",
    "optimizer.rate_decay": 0.94,
    "optimizer.decay_epochs": 2.0,
    "optimizer.decay": 0.9,
    "optimizer.momentum": 0.9,
    "optimizer.epsilon": 1.0,
    "optimizer.clip_norm": None,
    "optimizer.ema": None,
    "model.weight_decay": 4e-5,
    "model.batch_norm_momentum": 0.9997,
    "model.aux_logits": None,
    "training.label_smoothing": 0.0,
    "training.aux_weight": 0.4,
    "training.warm_up_statistics": True,
}
# research/inception: inception_train.py, inception_model.py, image_processing.py.
TRAINER_OF_2015 = {
    "data.batch_size": 256,
    "data.photometric": "full",
    "optimizer.learning_rate": 0.1,
    "optimizer.rate_decay": 0.16,
    "optimizer.decay_epochs": 30.0,
    "optimizer.ema": 0.9999,
    "training.label_smoothing": 0.1,
}
# Szegedy et al. 2014, sections 5 and 6; learning rate and L2: BVLC's quick_solver.prototxt.
GOOGLENET = {
    "model.name": "googlenet",
    "model.aux_logits": True,
    "model.dropout": 0.4,
    "model.weight_decay": 0.0002,
    "data.box_area": [0.08, 1.0],
    "data.box_aspect": [0.75, pytest.approx(4 / 3)],
    "data.photometric": "full",
    "optimizer.name": "sgd",
    "optimizer.learning_rate": 0.01,
    "optimizer.warmup_epochs": 0.0,
    "optimizer.schedule": "step",
    "optimizer.rate_decay": 0.96,
    "optimizer.decay_epochs": 8.0,
    "optimizer.momentum": 0.9,
    "optimizer.nesterov": False,
    "optimizer.ema": 0.9999,
    "training.aux_weight": 0.3,
    "training.label_smoothing": 0.0,
}


@pytest.mark.parametrize(
    ("name", "numbers"),
    [("slim", SLIM), ("inception-2015", SLIM | TRAINER_OF_2015), ("googlenet", GOOGLENET)],
)
def test_a_recipe_has_the_numbers_of_its_source(name, numbers):
    found = flat(recipe(name))
    assert {key: found[key] for key in numbers} == numbers


def test_the_trainer_of_2015_differs_from_slims_in_what_it_says():
    assert differences("inception-2015", "slim") == TRAINER_OF_2015


def test_the_optimizer_of_2015_is_tensorflow_1s_with_averages_of_all_that_moves():
    small = ["model.name=inception_v3", "model.size=75", *SMALL[1:]]
    plan = make_plan(recipe("inception-2015").override(small))
    model = compiled_model(plan)
    averages = model.optimizer.inner_optimizer
    rmsprop = averages.inner_optimizer
    assert isinstance(rmsprop, TF1RMSprop)
    assert (rmsprop.rho, rmsprop.momentum, rmsprop.epsilon) == (0.9, 0.9, 1.0)
    assert averages.decay == 0.9999
    trained = sum(v.shape[0] for v in model.non_trainable_variables if "moving" in v.path)
    assert trained
    assert len(averages.averages) == len(model.weights)
    assert model.output.keys() == {"predictions", "aux_predictions"}


@pytest.fixture
def few_layers_of_each_kind():
    """What a recipe sets is the same at any depth; GoogLeNet's needs the modules before its auxiliary classifiers."""
    take_back = shorten_all(
        shorten=lambda network: (shorten if network.name == "googlenet" else least)(network)
    )
    yield
    take_back()


@pytest.mark.slow
@pytest.mark.usefixtures("few_layers_of_each_kind")
@pytest.mark.parametrize("name", [n for n in list_recipes() if n != "digits"])
def test_every_recipe_trains(name, class_folders, tmp_path):
    folder = class_folders(blue=8, red=8)
    network = network_of(name) or "inception_v1"
    stages = ["training.head_epochs=1"] if recipe(name).training.head_epochs else []
    config = recipe(name).override(
        [f"data.name='folder:{folder}'", f"model.name={network}", *SMALL, *stages]
    )
    report = train(config, tmp_path / "run")
    assert report["epochs"] == 2
    assert report["model"] == network
    assert 0 <= report["best"]["val_top1"] <= 1
    # The folder knows the network's switches and activation.
    model = Run(tmp_path / "run").model()
    assert model.count_params() == report["parameters"]


def test_a_recipe_says_which_network_it_is_for_or_leaves_it_open(tmp_path):
    assert network_of("bn-x30") == "bn_inception"
    assert network_of("slim") is None
    own = tmp_path / "mine.yaml"
    own.write_text("model: {name: inception_v4}\n")
    assert network_of(str(own)) == "inception_v4"
    own.write_text("")
    assert network_of(str(own)) is None


@pytest.mark.parametrize(
    ("name", "switches"), [*VARIANTS, ("inception_resnet_v2", {"residual_scale": 1})]
)
def test_every_switch_that_a_network_takes_can_be_set_in_a_recipe(name, switches):
    config = Config().override([f"model.name={name}", f"model.switches={quoted(switches)}"])
    assert dict(make_plan(config).config.model.switches) == switches


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            ["model.name=bn_inception", "model.switches={lnr: true}"],
            "unknown switch of bn_inception 'lnr'; known: lrn, hidden_batch_norm, initial_deviation, batch_norm_scale;"
            " did you mean 'lrn'?",
        ),
        (
            ["model.name=inception", "model.switches={lrn: 3}"],
            "must be a value such as False, got 3",
        ),
        (
            ["model.name=inception", "model.switches={initial_deviation: small}"],
            "must be a value such as 0.01, got 'small'",
        ),
        (
            ["model.name=inception", "model.switches={initial_deviation: true}"],
            "must be a value such as 0.01, got True",
        ),
        (
            ["model.name=inception", "model.switches={initial_deviation: -1}"],
            "initial_deviation must be above 0, got -1",
        ),
        (["model.switches=3"], "model.switches must be a mapping such as {lrn: true}, got 3"),
        (["training.head_epochs=30"], "training.head_epochs must be below training.epochs, 30"),
        (["training.epochs=2", "training.head_epochs=4"], "add --set training.head_epochs=0"),
        (["training.head_epochs=-1"], "training.head_epochs must be at least 0, got -1"),
        (
            ["model.name=googlenet", "training.recalibrate_batch_norm=2"],
            "training.recalibrate_batch_norm: googlenet has no batch normalization; set it to 0",
        ),
        (["training.max_bad_steps=0"], "training.max_bad_steps must be at least 1, got 0"),
    ],
)
def test_wrong_settings_of_networks_and_stages_are_named(settings, sentence):
    with pytest.raises(UserError) as error:
        make_plan(Config().override(settings))
    assert sentence in str(error.value)
