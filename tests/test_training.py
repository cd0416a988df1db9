# SPDX-License-Identifier: Apache-2.0
"""Training: what is compiled, what a run leaves behind, and that a stopped run goes on as if it had not been."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import forked
import keras
import numpy as np
import pytest
from ctrl_c import CtrlC

from inception_tf.config import Config
from inception_tf.errors import UserError
from inception_tf.host.atomic_io import atomic_path, atomic_write_text
from inception_tf.host.locks import LOCK_FILE, lock_folder
from inception_tf.run_folder import Run
from inception_tf.training import checkpoint
from inception_tf.training.callbacks import Stopped
from inception_tf.training.compile import compiled_model
from inception_tf.training.optim.optimizers import make_schedule
from inception_tf.training.plan import make_plan
from inception_tf.training.train import train

pytestmark = pytest.mark.usefixtures("always_short")

SMALL = (
    "model.name=inception_v1",
    "model.size=32",
    "model.width_multiplier=0.25",
    "data.batch_size=4",
    "training.epochs=2",
    "training.precision=float32",
)


@pytest.fixture
def config(class_folders):
    """Two epochs of five steps on twenty small images of two classes."""
    folder = class_folders(blue=12, red=10)
    return Config().override([*SMALL, f"data.name='folder:{folder}'"])


def _weights(folder):
    with np.load(checkpoint.latest(Run(folder).checkpoints) / "variables.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


def test_a_plan_traces_its_pipelines_once_and_each_reading_starts_at_their_first_step(config):
    plan = make_plan(config.override(["data.name=digits"]))
    data = plan.training_data()
    assert plan.training_data() is data
    assert plan.training_data(1) is not data
    assert plan.validation_data() is plan.validation_data()
    first, again = (next(iter(data))[0] for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_a_compiled_model_is_saved_and_loads_with_and_without_this_package(config, tmp_path):
    config = config.override(["model.width_multiplier=0.1", "optimizer.name=sgd"])
    model = compiled_model(make_plan(config))
    model.save(tmp_path / "compiled.keras")
    loaded = keras.saving.load_model(tmp_path / "compiled.keras")
    assert type(loaded) is type(model)
    x = np.linspace(-1, 1, 2 * 32 * 32 * 3, dtype="float32").reshape(2, 32, 32, 3)
    for name, expected in model.predict(x, verbose=0).items():
        np.testing.assert_allclose(loaded.predict(x, verbose=0)[name], expected, atol=1e-5)
    program = (
        "import sys, keras\n"
        "model = keras.saving.load_model('compiled.keras', compile=False)\n"
        "assert len(model.weights) > 12 and 'inception_tf' not in sys.modules\n"
    )
    child = forked.run(["-c", program], cwd=tmp_path)
    assert child.returncode == 0, child.stderr


@pytest.mark.slow
def test_a_run_stopped_in_the_middle_of_an_epoch_ends_with_the_same_weights(config, tmp_path):
    whole = train(config, tmp_path / "whole")
    with pytest.raises(Stopped) as stop:
        train(config, tmp_path / "stopped", callbacks=[CtrlC(1, 2)])
    assert stop.value.step == 8
    assert checkpoint.latest(tmp_path / "stopped" / "checkpoints").name == "step-00000008"
    resumed = train(config, tmp_path / "stopped", resumed=True)

    assert (whole["steps"], resumed["steps"]) == (10, 10)
    expected, found = _weights(tmp_path / "whole"), _weights(tmp_path / "stopped")
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6, err_msg=name)

    run = Run(tmp_path / "whole")
    assert run.config() == config
    assert run.labels() == ("blue", "red")
    assert len((run.path / "history.csv").read_text().splitlines()) == 3
    assert json.loads((run.path / "report.json").read_text())["images"] == {
        "train": 20,
        "validation": 2,
    }
    assert (run.path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list((run.path / "tensorboard").rglob("events.out.tfevents.*"))

    # The result is the plain network: float32, probabilities, the trained weights.
    model = run.model()
    kernel = model.get_layer("Mixed_5c_b1_1_conv").kernel
    np.testing.assert_array_equal(kernel, expected["model/Mixed_5c_b1_1_conv/0-kernel"])
    loaded = keras.models.load_model(run.model_file)
    images = np.linspace(-1, 1, 2 * 32 * 32 * 3, dtype=np.float32).reshape(2, 32, 32, 3)
    np.testing.assert_allclose(model(images), loaded(images), atol=1e-6)
    np.testing.assert_allclose(np.sum(loaded(images), axis=1), 1, atol=1e-5)

    # A second run into the same folder, and a resume with other settings, are refused.
    with pytest.raises(UserError, match="already holds a run; add --resume"):
        train(config, run.path)
    with pytest.raises(UserError, match=r"optimizer\.learning_rate is 0\.001 and not 5"):
        train(config.override(["optimizer.learning_rate=5"]), run.path, resumed=True)

    # What TensorBoard shows: scalars, the graph, and the images that went in.
    events = b"".join(
        path.read_bytes() for path in (run.path / "tensorboard").rglob("events.out.tfevents.*")
    )
    for name in (b"epoch_learning_rate", b"epoch_loss", b"Mixed_5c_b1_1_conv", b"inputs"):
        assert name in events, name

    # A finished run may have its statistics counted anew, and nothing else.
    before = {v.path: np.asarray(v) for v in model.weights}
    again = config.override(["training.recalibrate_batch_norm=2"])
    assert train(again, run.path, resumed=True)["recalibrated_batches"] == 2
    for variable in run.model().weights:
        same = np.array_equal(before[variable.path], variable)
        assert same != ("moving" in variable.path), variable.path

    # Data that is not what it was is refused.
    folder = Path(config.data.name.removeprefix("folder:"))
    shutil.copy(next(folder.glob("*/*.jpg")), folder / "blue" / "another.jpg")
    with pytest.raises(UserError, match=r"was trained on 20 images, and folder:.* has 21 now"):
        train(again, run.path, resumed=True)
    shutil.copytree(folder / "blue", folder / "green")
    with pytest.raises(UserError, match=r"the classes blue, red, and folder:.* has blue, green"):
        train(again, run.path, resumed=True)


@pytest.mark.parametrize("resumed", [False, True])
def test_one_process_at_a_time_trains_into_a_folder(config, tmp_path, resumed):
    run = Run(tmp_path / "run")
    run.write_config(config, "0")
    with (
        lock_folder(run.path, "trains into"),
        pytest.raises(
            UserError, match=r"^process \d+ on .+ trains into .+/run already; wait until"
        ),
    ):
        train(config, run.path, resumed=resumed)
    with pytest.raises(UserError, match="already holds a run; add --resume"):
        train(config, run.path)
    assert not (run.path / LOCK_FILE).exists()


@pytest.mark.usefixtures("all_short")
def test_the_auxiliary_classifier_counts_with_its_weight_and_is_dropped_from_the_result():
    plan = make_plan(
        Config().override(
            [
                "model.name=inception_v3",
                "model.aux_logits=true",
                "model.size=75",
                "model.width_multiplier=0.1",
                "model.dropout=0",
                "training.precision=float32",
                "training.label_smoothing=0.1",
            ]
        )
    )
    model = compiled_model(plan)
    images, labels = next(iter(plan.validation_data()))
    targets = dict.fromkeys(model.output, labels)
    measured = model.evaluate(images, targets, verbose=0, return_dict=True)

    smoothed = labels.numpy() * 0.9 + 0.1 / 10
    losses = {}
    for name, logits in model(images, training=False).items():
        logits = np.asarray(logits, np.float64)
        chances = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        losses[name] = -(smoothed * chances).sum(1).mean()
    assert losses.keys() == {"predictions", "aux_predictions"}
    expected = losses["predictions"] + 0.4 * losses["aux_predictions"]
    assert measured["loss"] == pytest.approx(expected, rel=1e-4)
    arguments = plan.model_arguments()
    assert "aux_logits" not in arguments


def test_every_precision_keeps_logits_in_float32():
    for precision in ("float32", "mixed_bfloat16", "mixed_float16"):
        plan = make_plan(Config().override([*SMALL, f"training.precision={precision}"]))
        model = compiled_model(plan)
        assert model.output["predictions"].dtype == "float32"
        assert model.get_layer("Conv2d_1a_7x7_conv").compute_dtype == precision.removeprefix(
            "mixed_"
        )
        assert model.optimizer.scaled == (precision == "mixed_float16")


def test_the_rate_rises_over_the_warm_up_and_falls_on_a_cosine():
    config = (
        Config().override(["optimizer.learning_rate=0.8", "optimizer.warmup_epochs=1"]).optimizer
    )
    rate = make_schedule(config, steps_per_epoch=10, epochs=5)
    assert [float(rate(step)) for step in (0, 5, 10)] == pytest.approx([0, 0.4, 0.8])
    assert float(rate(30)) == pytest.approx(0.4)
    assert float(rate(50)) == pytest.approx(0)


def test_without_warm_up_the_first_step_has_the_full_rate():
    config = (
        Config().override(["optimizer.learning_rate=0.8", "optimizer.warmup_epochs=0"]).optimizer
    )
    assert float(make_schedule(config, steps_per_epoch=10, epochs=5)(0)) == pytest.approx(0.8)


def test_an_unknown_optimizer_names_the_nearest():
    with pytest.raises(UserError, match="unknown optimizer 'adm'; known: .*; did you mean 'adam'?"):
        compiled_model(make_plan(Config().override([*SMALL, "optimizer.name=adm"])))


@pytest.fixture
def little():
    """A compiled model of one layer with its slots."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def test_a_checkpoint_brings_back_weights_slots_and_progress(little, tmp_path):
    little.train_on_batch(np.ones((4, 3)), np.ones((4, 2)))
    before = [np.array(v) for v in (*little.variables, *little.optimizer.variables)]
    checkpoint.save(tmp_path, little, checkpoint.Progress(1, 2.5, [{"epoch": 1}]))
    little.train_on_batch(np.ones((4, 3)), np.zeros((4, 2)))
    progress = checkpoint.restore(checkpoint.latest(tmp_path), little)
    assert progress == checkpoint.Progress(1, 2.5, [{"epoch": 1}])
    for ours, then in zip((*little.variables, *little.optimizer.variables), before, strict=True):
        np.testing.assert_array_equal(ours, then)


def test_only_the_newest_checkpoints_are_kept(little, tmp_path):
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, little, checkpoint.Progress(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]


def test_a_save_that_fails_leaves_the_one_before_it_and_nothing_else(little, tmp_path, monkeypatch):
    checkpoint.save(tmp_path, little, checkpoint.Progress(1))

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.json, "dump", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(tmp_path, little, checkpoint.Progress(2))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_a_checkpoint_of_another_model_is_refused(little, tmp_path):
    checkpoint.save(tmp_path, little, checkpoint.Progress(1))
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(5, name=little.layers[0].name)])
    other.compile("adam", "mse")
    other.optimizer.build(other.trainable_variables)
    with pytest.raises(UserError, match="belongs to another model"):
        checkpoint.restore(checkpoint.latest(tmp_path), other)


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "report.json"
    atomic_write_text(path, "old")

    def interrupted():
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        interrupted()
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]
    assert path.read_text() == "old"


@pytest.mark.slow
def test_the_averages_are_evaluated_and_exported_and_survive_a_stop(config, tmp_path):
    config = config.override(["optimizer.ema=0.9", "optimizer.warmup_epochs=0"])
    train(config, tmp_path / "whole")
    with pytest.raises(Stopped):
        train(config, tmp_path / "stopped", callbacks=[CtrlC(1, 2)])
    train(config, tmp_path / "stopped", resumed=True)

    saved = _weights(tmp_path / "whole")
    trained = saved["model/Conv2d_1a_7x7_conv/0-kernel"]
    exported = {v.path: v for v in Run(tmp_path / "whole").model().weights}
    kernel = np.asarray(exported["Conv2d_1a_7x7_conv/kernel"])
    assert np.abs(kernel - trained).max() > 1e-6
    averages = [v for name, v in saved.items() if "average" in name and v.shape == trained.shape]
    assert any(np.array_equal(kernel, average) for average in averages)
    for other in Run(tmp_path / "stopped").model().weights:
        np.testing.assert_allclose(other, exported[other.path], rtol=1e-5, atol=1e-6)
