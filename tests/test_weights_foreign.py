# SPDX-License-Identifier: Apache-2.0
"""`convert --to`: files for other projects, loaded by their own packages, and what cannot go there."""

from __future__ import annotations

import os

import h5py
import keras
import numpy as np
import parity
import parity_torch
import pytest
import ramps
import torch_file
from other_packages import has_slim, has_torch, of_slim, of_torch
from safetensors.numpy import load_file

import inception_tf
from inception_tf import cli
from inception_tf.models import variant
from inception_tf.run_folder import Run
from inception_tf.weights.convert import convert
from inception_tf.weights.foreign import write_foreign
from inception_tf.weights.names.torch import torch_names

FOLDED = (
    "gammas folded into the kernels, which is exact in evaluation only: trained or recalibrated"
)
SCALED = {"batch_norm_scale": True}


def filled(name, **arguments):
    model = inception_tf.create_model(name, classes=7, classifier_activation=None, **arguments)
    for variable in model.weights:
        value = ramps.weight(variable.path, tuple(variable.shape))
        variable.assign(1 + 3 * value if variable.path.endswith("gamma") else value)
    return model


def logits(model, images):
    outputs = model(images, training=False)
    return np.asarray(outputs["predictions"] if isinstance(outputs, dict) else outputs)


def assert_near(found, expected):
    assert np.std(expected) > 0.01
    assert np.abs(found - expected).max() < 2e-5 * np.abs(expected).max()


@pytest.fixture(scope="module")
def there_and_back(tmp_path_factory):
    """torchvision's GoogLeNet with auxiliary classifiers as a file, as a model here, and as a file again."""
    folder, job = tmp_path_factory.mktemp("torch"), parity_torch.JOBS["googlenet"]
    state = {key: np.ascontiguousarray(array) for key, array in parity.state_of(job).items()}
    torch_file.write(folder / "theirs.safetensors", state)
    done = convert("inception_v1", "torchvision", folder / "theirs.safetensors")
    target = folder / "back.safetensors"
    written = write_foreign(done.model, "inception_v1", done.switches, "torchvision", target)
    return state, load_file(target), written


def test_a_file_of_torch_comes_back_bit_for_bit(there_and_back):
    theirs, back, written = there_and_back
    counters = {name for name in back if name.endswith(".num_batches_tracked")}
    assert back.keys() - counters == theirs.keys()
    for name, array in theirs.items():
        np.testing.assert_array_equal(back[name], array, err_msg=name)
    assert len(counters) == 59
    for name in counters:
        assert (back[name].shape, back[name].dtype, int(back[name])) == ((), np.int64, 0)
    assert str(written) == f"{len(theirs)} arrays written."


@pytest.mark.usefixtures("all_short")
def test_without_gammas_those_of_torch_are_one(tmp_path):
    model = filled("inception_v1", torch_padding=True)
    target = tmp_path / "ones.safetensors"
    done = write_foreign(model, "inception_v1", {"torch_padding": True}, "torchvision", target)
    norms = sum(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers)
    assert done.notes == (f"its gammas are 1, of which these weights have none ({norms})",)
    state = load_file(target)
    gammas = [array for name, array in state.items() if name.endswith(".bn.weight")]
    assert len(gammas) == norms
    assert all(np.all(gamma == 1) for gamma in gammas)


@pytest.mark.usefixtures("all_short")
def test_a_converted_file_goes_back_by_the_command(tmp_path, capsys):
    """The switches that the file remembers are those that the target's network needs."""
    model = filled("inception_v1", torch_padding=True, **SCALED)
    source = tmp_path / "theirs.safetensors"
    switches = {"torch_padding": True} | SCALED
    write_foreign(model, "inception_v1", switches, "torchvision", source)
    ours, target = tmp_path / "ours.weights.h5", tmp_path / "back.safetensors"
    words = ["convert", "--model", "inception_v1"]
    assert cli.main([*words, "--source", "torchvision", str(source), str(ours)]) == 0
    assert "batch_norm_scale=True" in capsys.readouterr().out
    assert cli.main([*words, "--to", "torchvision", str(ours), str(target)]) == 0
    out = capsys.readouterr().out
    assert "use it: torchvision.models.googlenet(weights=None, num_classes=7" in out
    before, after = load_file(source), load_file(target)
    assert before.keys() == after.keys()
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array, err_msg=name)


@pytest.mark.slow
def test_a_run_that_began_with_a_file_of_torch_goes_back(tmp_path, class_folders, capsys):
    """Trained with moving averages and recalibrated; what is written is what the run's model has."""
    switches = {"torch_padding": True} | SCALED
    source, target = tmp_path / "theirs.safetensors", tmp_path / "back.safetensors"
    model = filled("inception_v1", aux_logits=True, **switches)
    write_foreign(model, "inception_v1", switches, "torchvision", source)
    run = tmp_path / "run"
    words = ["train", "--model", "inception_v1", "--data", f"folder:{class_folders(red=9, blue=9)}"]
    settings = [
        *(
            f"model.weights={source}",
            "model.switches={torch_padding: true, batch_norm_scale: true}",
        ),
        *("model.size=64", "training.epochs=1", "training.precision=float32", "data.batch_size=4"),
        *("optimizer.ema=0.9", "training.recalibrate_batch_norm=2", "optimizer.warmup_epochs=0"),
    ]
    words += [word for setting in settings for word in ("--set", setting)]
    assert cli.main([*words, "--out", str(run)]) == 0
    assert cli.main(["convert", "--to", "torchvision", str(run), str(target)]) == 0
    assert "num_classes=2, aux_logits=False" in capsys.readouterr().out
    before, after = load_file(source), load_file(target)
    gammas = [name for name in after if name.endswith(".bn.weight")]
    assert all(np.any(after[name] != before[name]) for name in gammas)
    assert all(np.abs(after[name] - before[name]).max() < 0.2 for name in gammas)
    ours = {variable.path: variable for variable in Run(run).model().weights}
    for path, name in torch_names(variant("inception_v1", **switches)).items():
        if path in ours and path.endswith(("gamma", "moving_variance")):
            np.testing.assert_array_equal(after[name], ours[path])


# Real packages


def trained(folder, data, **switches):
    """A run of V3 with moving averages, at its least size; its network for logits."""
    run = folder / "run"
    written = ", ".join(f"{key}: {str(value).lower()}" for key, value in switches.items())
    settings = [
        *("model.size=75", f"model.switches={{{written}}}", "training.precision=float32"),
        *("training.epochs=1", "data.batch_size=4", "optimizer.ema=0.9"),
    ]
    words = ["train", "--model", "inception_v3", "--data", f"folder:{data}", "--out", str(run)]
    words += [word for setting in settings for word in ("--set", setting)]
    assert cli.main(words) == 0
    # At the size that the other packages' networks have.
    model = inception_tf.create_model(
        "inception_v3", classes=3, classifier_activation=None, **switches
    )
    model.set_weights(Run(run).model().get_weights())
    return run, model


def sent(capsys, run, project, target):
    """What `convert --to` says, and its line that loads the file."""
    capsys.readouterr()
    assert cli.main(["convert", "--to", project, str(run), str(target)]) == 0
    out = capsys.readouterr().out
    return out, next(
        line.removeprefix("use it: ") for line in out.splitlines() if line.startswith("use it")
    )


@pytest.mark.slow
@has_torch
def test_a_run_goes_to_timm(tmp_path, class_folders, capsys):
    data = class_folders(red=8, green=8, blue=8)
    run, model = trained(tmp_path, data, count_padding=True, batch_norm_scale=True)
    out, line = sent(capsys, run, "timm", tmp_path / "x.safetensors")
    assert "differ" not in out  # its gammas are kept
    images = ramps.images(2, 299, 299, 3)
    found = of_torch(tmp_path, images, {"timm": line})["timm"]
    assert_near(found, logits(model, images))


@pytest.mark.slow
@has_slim
def test_a_run_goes_to_keras_and_slim_where_training_differs(tmp_path, class_folders, capsys):
    data = class_folders(red=8, green=8, blue=8)
    run, model = trained(tmp_path, data, batch_norm_scale=True)
    images = ramps.images(2, 299, 299, 3)
    expected = logits(model, images)
    out, line = sent(capsys, run, "keras", tmp_path / "x.keras")
    assert FOLDED in out
    theirs = eval(line, {"keras": keras})
    theirs.layers[-1].activation = None
    assert_near(logits(theirs, images), expected)
    out, _ = sent(capsys, run, "slim", tmp_path / "x.ckpt")
    assert FOLDED in out
    words = (tmp_path / "x.ckpt", "inception_v3", 3, "create_aux_logits")
    assert_near(of_slim(tmp_path, images, *words), expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "ending"),
    [
        *(("inception_v3", ending) for ending in (".weights.h5", ".h5", ".keras")),
        ("inception_resnet_v2", ".weights.h5"),
    ],
)
def test_keras_applications_loads_what_is_written_for_it(name, ending, tmp_path):
    images = ramps.images(2, 299, 299, 3)
    has_gammas = ending == ".weights.h5"
    model = filled(name, aux_logits=True, batch_norm_scale=has_gammas)
    switches = SCALED if has_gammas else {}
    done = write_foreign(model, name, switches, "keras", tmp_path / f"x{ending}")
    assert "of auxiliary classifiers omitted" in str(done)
    assert (FOLDED in str(done)) == has_gammas
    theirs = eval(done.use, {"keras": keras})
    theirs.layers[-1].activation = None
    assert_near(logits(theirs, images), logits(model, images))


@pytest.mark.slow
@has_slim
@pytest.mark.parametrize(
    ("name", "switches"),
    [
        ("inception_v1", SCALED),
        ("inception_v2", {}),
        ("inception_v3", SCALED),
        ("alexnet", {}),
    ],
)
def test_slim_restores_what_is_written_for_it(name, switches, tmp_path):
    model = filled(name, **switches)
    size = model.input_shape[1]
    images = ramps.images(2, size, size, 3)
    if name == "inception_v3":
        model = filled(name, aux_logits=True, **switches)
    done = write_foreign(model, name, switches, "slim", tmp_path / "x.ckpt")
    assert (FOLDED in str(done)) == (switches == SCALED)
    options = [switch for switch, value in switches.items() if value is False]
    found = of_slim(tmp_path, images, tmp_path / "x.ckpt", name, 7, *options)
    assert_near(found, logits(model, images))


@pytest.mark.slow
@has_torch
def test_torchvision_and_timm_load_what_is_written_for_them(tmp_path):
    images, lines, expected = ramps.images(2, 299, 299, 3), {}, {}
    for number, (target, name, switches, aux_logits) in enumerate([
        ("torchvision", "inception_v1", {"torch_padding": True} | SCALED, True),
        ("torchvision", "inception_v1", {"torch_padding": True}, False),
        ("torchvision", "inception_v3", {"count_padding": True} | SCALED, True),
        ("timm", "inception_v3", {"count_padding": True} | SCALED, False),
        ("timm", "inception_v4", SCALED, False),
        ("timm", "inception_resnet_v2", {}, True),
    ]):  # fmt: skip
        model = filled(name, aux_logits=aux_logits, input_shape=(299, 299, 3), **switches)
        path = tmp_path / f"{number}.safetensors"
        done = write_foreign(model, name, switches, target, path)
        lines[path.stem], expected[path.stem] = done.use, logits(model, images)
        keras.backend.clear_session()
    found = of_torch(tmp_path, images, lines)
    for name, array in expected.items():
        assert_near(found[name], array)


# What cannot go


@pytest.fixture
def refused(tmp_path):
    def sentence(model, name, switches, target, file):
        with pytest.raises(inception_tf.UserError) as caught:
            write_foreign(model, name, switches, target, tmp_path / file)
        assert os.listdir(tmp_path) == []
        return str(caught.value)

    return sentence


@pytest.mark.usefixtures("all_short")
def test_what_cannot_go_is_one_sentence(refused):
    small = inception_tf.InceptionV1(input_shape=(32, 32, 3), classes=5, width_multiplier=0.1)
    assert refused(small, "inception_v1", {}, "keras", "x.weights.h5") == (
        "keras has no network like inception_v1; it has inception_v3, inception_resnet_v2; keep the weights as they are"
    )
    assert refused(small, "inception_v1", {}, "torchvision", "x.safetensors") == (
        "torchvision's inception_v1 has torch_padding=True and these weights were trained with torch_padding=False, so"
        " that it would give other answers; train with torch_padding=True to take the weights there"
    )
    assert "must end in .ckpt" in refused(small, "inception_v1", {}, "slim", "x.h5")
    assert "a width_multiplier other than 1" in refused(small, "inception_v1", {}, "slim", "x.ckpt")
    tanh = inception_tf.InceptionV1(input_shape=(32, 32, 3), classes=5, activation="tanh")
    assert "have relu, and these weights were trained with tanh" in refused(
        tanh, "inception_v1", {}, "slim", "x.ckpt"
    )
    gray = inception_tf.InceptionV1(input_shape=(32, 32, 1), torch_padding=True)
    switches = {"torch_padding": True}
    assert "take three input channels" in refused(
        gray, "inception_v1", switches, "torchvision", "x.safetensors"
    )
    backbone = inception_tf.InceptionV1(include_top=False, torch_padding=True)
    assert "have a classifier, and these weights have none" in refused(
        backbone, "inception_v1", switches, "torchvision", "x.safetensors"
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--to timm --drop-background", "--drop-background cannot be combined with --to"),
        ("--to nowhere", "nowhere"),
        ("", "has no layer names"),  # by which a file of this project says what it is
        ("--to timm", "has no layer names"),
        ("--source slim", "is a file of another project; say with --model which network it"),
        (
            "--to timm --source slim",
            "is a weights file; say with --model which network it belongs to",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(words, sentence, tmp_path, capsys):
    with h5py.File(tmp_path / "x.weights.h5", "w"):
        pass
    paths = [str(tmp_path / "x.weights.h5"), str(tmp_path / "y.safetensors")]
    assert cli.main(["convert", *words.split(), *paths]) == 2
    assert sentence in capsys.readouterr().err
