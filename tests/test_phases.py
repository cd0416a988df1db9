# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning: where it begins, what is trained when, and that a stop between two phases changes nothing."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import ramps
import torch_file
from ctrl_c import CtrlC

import inception_tf
from inception_tf.config import Config
from inception_tf.data.preprocessing import SCALES, Preprocessing
from inception_tf.errors import UserError
from inception_tf.models import find_network
from inception_tf.run_folder import Run
from inception_tf.training.callbacks import Stopped
from inception_tf.training.compile import compile_for, compiled_model
from inception_tf.training.phases import layer_rates, phases_of
from inception_tf.training.plan import make_plan
from inception_tf.training.pretrained import load_pretrained, take_unit_scale
from inception_tf.training.train import train
from inception_tf.weights.metadata import WeightsMetadata, write_metadata

pytestmark = pytest.mark.usefixtures("always_short")

SHAPE = {"input_shape": (32, 32, 3), "width_multiplier": 0.1}
SMALL = (
    "model.name=inception_v1",
    "model.size=32",
    "model.width_multiplier=0.1",
    "data.batch_size=4",
    "training.epochs=3",
    "training.precision=float32",
    "training.head_epochs=1",
)


@pytest.fixture
def config(class_folders):
    return Config().override([*SMALL, f"data.name='folder:{class_folders(blue=10, red=10)}'"])


@pytest.fixture
def pretrained(tmp_path):
    """Weights of another training: three classes, statistics that are not fresh."""
    keras.utils.set_random_seed(3)
    model = inception_tf.InceptionV1(classes=3, **SHAPE)
    rng = np.random.default_rng(0)
    for v in model.weights:
        if "moving_variance" in v.path:  # small, or nothing comes through the small initial weights
            v.assign(rng.uniform(0.001, 0.002, v.shape))
    path = tmp_path / "theirs.weights.h5"
    model.save_weights(path)
    return model, path


def values(model):
    return {v.path: keras.ops.convert_to_numpy(v) for v in model.weights}


class Weights(keras.callbacks.Callback):
    """The weights at the end of each epoch."""

    def __init__(self):
        super().__init__()
        self.epochs = []

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(values(self.model))


def changed(before, after):
    return {path for path in before if not np.array_equal(before[path], after[path])}


@pytest.mark.parametrize("name", ["googlenet", "inception_v2", "alexnet"])
def test_learning_rates_fall_from_the_classifier_to_the_image(name):
    network = find_network(name)
    model = inception_tf.create_model(name, width_multiplier=0.05, classes=3)
    rates = layer_rates(network, 0.5)
    factors = []
    for layer in model.layers:
        if layer.trainable_weights:
            fitting = [start for start in rates if layer.weights[0].path.startswith(start)]
            is_head = layer.name.startswith(
                ("Logits", "AuxLogits", *(a.name for a in network.auxiliaries))
            )
            assert bool(fitting) is not is_head, layer.name
            factors += [rates[max(fitting, key=len)]] if fitting else []
    assert factors == sorted(factors)
    assert factors[-1] == 0.5
    assert len(set(factors)) == len(rates)
    assert not layer_rates(network, 1.0)


@pytest.mark.slow
def test_the_new_classifier_is_trained_first_and_then_all(config, pretrained, tmp_path):
    theirs, path = pretrained
    config = config.override([f"model.weights='{path}'", "training.freeze_batch_norm=true"])
    begun = values(compiled_model(make_plan(config)))
    for v in theirs.weights:
        if not v.path.startswith("Logits"):
            np.testing.assert_array_equal(begun[v.path], v, err_msg=v.path)

    seen = Weights()
    train(config, tmp_path / "run", callbacks=[seen])
    head = {"Logits/kernel", "Logits/bias"}
    kernels = {path for path in begun if path.endswith(("kernel", "bias"))}
    path.unlink()  # what a run began with is not needed to go on
    train(config, tmp_path / "run", resumed=True)
    assert changed({p: begun[p] for p in kernels | head}, seen.epochs[0]) == head
    assert changed(begun, seen.epochs[0]) == head
    # Frozen batch normalization keeps shift and statistics, all else moves.
    norms = {p for p in begun if "_bn/" in p}
    assert changed({p: begun[p] for p in norms}, seen.epochs[2]) == set()
    assert changed({p: begun[p] for p in kernels}, seen.epochs[2]) == kernels


@pytest.mark.slow
def test_without_freezing_the_statistics_move_in_the_second_stage_only(config, tmp_path):
    begun = values(compiled_model(make_plan(config)))
    seen = Weights()
    train(config, tmp_path / "run", callbacks=[seen])
    statistics = {p for p in begun if "moving" in p}
    assert changed({p: begun[p] for p in statistics}, seen.epochs[0]) == set()
    assert changed({p: begun[p] for p in statistics}, seen.epochs[2]) == statistics


def test_each_stage_has_its_own_rate_and_schedule(config):
    config = config.override(
        ["optimizer.learning_rate=0.5", "optimizer.head_learning_rate=0.25", "training.epochs=4"]
    )
    plan = make_plan(config)
    model = compiled_model(plan)
    first, second = phases_of(config)
    assert ((first.first, first.end), (second.first, second.end)) == ((0, 1), (1, 4))
    rate = model.optimizer.inner_optimizer._learning_rate
    assert [float(rate(step)) for step in (0, 1, 100)] == pytest.approx([0.25] * 3)
    compile_for(model, plan, second)
    rate = model.optimizer.inner_optimizer._learning_rate
    assert float(rate(plan.steps)) == pytest.approx(0.5)
    assert float(rate(3 * plan.steps)) == pytest.approx(0, abs=1e-6)


@pytest.mark.slow
def test_a_run_stopped_between_two_stages_and_in_the_second_ends_as_one_never_stopped(
    config, tmp_path
):
    config = config.override(["optimizer.ema=0.9"])
    train(config, tmp_path / "whole")
    out = tmp_path / "stopped"
    for begun, when in ((False, (0, 3)), (True, (1, 2))):
        with pytest.raises(Stopped):
            train(config, out, resumed=begun, callbacks=[CtrlC(*when)])
    train(config, out, resumed=True)
    whole, stopped = (values(Run(run).model()) for run in (tmp_path / "whole", out))
    for path, value in whole.items():
        np.testing.assert_array_equal(stopped[path], value, err_msg=path)


@pytest.mark.parametrize("scale", ["caffe", "torch", "vgg"])
@pytest.mark.parametrize("name", ["googlenet", "inception_v1"])
def test_weights_of_another_scale_are_made_to_take_minus_1_to_1(name, scale):
    keras.utils.set_random_seed(1)
    model = inception_tf.create_model(name, classes=4, classifier_activation=None, **SHAPE)
    first = model.get_layer("Conv2d_1a_7x7")
    inside = keras.Model(model.input, first.output)
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    theirs, bgr = SCALES[scale], SCALES[scale].bgr
    given = ((pixels[..., ::-1] if bgr else pixels) - np.float32(theirs.mean)) / np.float32(
        theirs.deviation
    )
    before = np.asarray(inside(given))
    take_unit_scale(model, theirs)
    after = np.asarray(inside(pixels / 127.5 - 1))
    # Away from the border, where the padding means another colour.
    np.testing.assert_allclose(after[:, 2:-2, 2:-2], before[:, 2:-2, 2:-2], rtol=1e-3, atol=2e-3)


def test_the_scale_that_a_file_states_is_taken_from_it(pretrained):
    theirs, path = pretrained
    write_metadata(path, WeightsMetadata(preprocessing=Preprocessing(32, scale="torch")))
    model = inception_tf.InceptionV1(classes=3, **SHAPE)
    load_pretrained(model, "inception_v1", str(path), {}, new_head=False)
    kernel = model.get_layer("Conv2d_1a_7x7_conv").kernel
    expected = np.asarray(theirs.get_layer("Conv2d_1a_7x7_conv").kernel) * (
        127.5 / np.float32(SCALES["torch"].deviation)[:, None]
    )
    np.testing.assert_allclose(kernel, expected, rtol=1e-6)
    np.testing.assert_array_equal(
        model.get_layer("Logits").kernel, theirs.get_layer("Logits").kernel
    )


def test_weights_of_another_variant_say_which_switch_they_need(pretrained):
    _, path = pretrained
    write_metadata(path, WeightsMetadata(switches={"torch_padding": True}))
    model = inception_tf.InceptionV1(classes=3, **SHAPE)
    with pytest.raises(UserError) as error:
        load_pretrained(model, "inception_v1", str(path), {}, new_head=True)
    assert str(error.value) == (
        f"{path} was trained with torch_padding=True of inception_v1; add"
        " --set 'model.switches={torch_padding: true}'"
    )
    load_pretrained(model, "inception_v1", str(path), {"torch_padding": True}, new_head=True)


def test_gammas_of_torch_are_trained_further_and_every_switch_is_named_at_once(tmp_path):
    switches = {"torch_padding": True, "batch_norm_scale": True}
    theirs = inception_tf.InceptionV1(classes=3, **switches, **SHAPE)
    ramps.fill(theirs)
    path = tmp_path / "googlenet.safetensors"
    torch_file.write(path, torch_file.state_of(theirs, "inception_v1", torch_padding=True))
    plain = inception_tf.InceptionV1(classes=2, **SHAPE)
    with pytest.raises(UserError) as error:
        load_pretrained(plain, "inception_v1", str(path), {}, new_head=True)
    assert str(error.value) == (
        f"{path} was trained with torch_padding=True and batch_norm_scale=True of inception_v1; add"
        " --set 'model.switches={torch_padding: true, batch_norm_scale: true}'"
    )
    model = inception_tf.InceptionV1(classes=2, **switches, **SHAPE)
    load_pretrained(model, "inception_v1", str(path), switches, new_head=True)
    gammas = [v for v in model.trainable_weights if v.path.endswith("gamma")]
    assert len(gammas) == len([v for v in theirs.weights if v.path.endswith("gamma")]) > 3
    for gamma in gammas:
        np.testing.assert_array_equal(gamma, ramps.weight(gamma.path, tuple(gamma.shape)))


def test_weights_that_are_not_there_are_named_before_anything_is_written(config, tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        train(config.override(["model.weights=nowhere.h5"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()
