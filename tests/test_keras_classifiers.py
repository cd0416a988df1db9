# SPDX-License-Identifier: Apache-2.0
"""Classifiers that others built in Keras: what is found in them, what is asked for, and what is refused."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from inception_tf import UserError, cli
from inception_tf.classifiers import open_classifier
from inception_tf.data.keras_options import KerasOptions
from inception_tf.data.preprocessing import SCALES
from inception_tf.export.metadata import read_metadata
from inception_tf.serving.predict import predict
from inception_tf.verify.verify import verify
from inception_tf.weights.formats import keras_model
from inception_tf.weights.formats.keras_model import load_keras_model

SIDE, CLASSES = 16, 3
KERAS_2 = Path(__file__).parent / "keras2"
ZERO_ONE = KerasOptions("zero_one")


def classifier(*first, head=None, side=SIDE, after=()):
    """A small trained classifier that begins with `first` and ends in `head`."""
    keras.utils.set_random_seed(0)
    image = x = keras.Input((side, side, 3))
    for layer in first:
        x = layer(x)
    x = keras.layers.Conv2D(6, 3, strides=2, use_bias=False)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.ReLU()(x)
    x = keras.layers.GlobalAveragePooling2D(name="pooled")(x)
    x = (head or keras.layers.Dense(CLASSES, activation="softmax"))(x)
    for layer in after:
        x = layer(x)
    model = keras.Model(image, x, name="mine")
    rng = np.random.default_rng(0)
    for v in model.weights:
        if "batch_normalization" in v.path:
            v.assign(rng.uniform(0.3, 1.5, v.shape))
    return model


def saved(model, folder, name="mine.keras"):
    path = folder / name
    model.save(path)
    return str(path)


def pixels(count=2, side=SIDE):
    return np.random.default_rng(1).uniform(0, 255, (count, side, side, 3)).astype("float32")


@pytest.mark.parametrize("name", ["inlined", "nested", "sequential"])
def test_models_of_keras_2_give_what_keras_2_says(name):
    stored = np.load(KERAS_2 / "outputs.npz")
    inside = name == "nested"
    found = open_classifier(
        str(KERAS_2 / f"{name}.h5"), None, KerasOptions() if inside else ZERO_ONE
    )
    ours = np.asarray(found.model(stored["image"] * (255 if inside else 1), training=False))
    theirs = stored[name].astype("float64")
    if inside:  # logits
        theirs = np.exp(theirs) / np.exp(theirs).sum()
    if name == "sequential":  # one sigmoid
        theirs = np.concatenate([1 - theirs, theirs], axis=1)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert found.preprocessing.scale == ("none" if inside else "zero_to_one")


@pytest.mark.parametrize("name", ["mine.keras", "mine.h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_a_sequential_model_without_activation_becomes_a_classifier(tmp_path, name):
    model = classifier(keras.layers.Rescaling(1 / 255), head=keras.layers.Dense(CLASSES))
    model = keras.Sequential([keras.Input((SIDE, SIDE, 3)), *model.layers[1:]], name="line")
    model.compile("adam", "mse")
    found = open_classifier(saved(model, tmp_path, name))
    expected = keras.ops.softmax(model(pixels(), training=False))
    np.testing.assert_allclose(found.model(pixels()), expected, atol=1e-6)
    assert (found.preprocessing.scale, found.preprocessing.crop) == ("none", None)
    assert "in the model scales pixels itself: it is given 0 to 255" in found.notes[0]


def caffe(x):
    return keras.applications.resnet50.preprocess_input(x)


INSIDE = {
    "rescaling to -1..1": (lambda: [keras.layers.Rescaling(1 / 127.5, -1)], "unit"),
    "rescaling to 0..1": (lambda: [keras.layers.Rescaling(1 / 255)], "zero_one"),
    "augmented first": (
        lambda: [
            keras.layers.RandomFlip(),
            keras.layers.RandomRotation(0.1),
            keras.layers.Rescaling(1 / 255),
        ],
        "zero_one",
    ),
    "in two steps": (
        lambda: [keras.layers.Rescaling(1 / 255), keras.layers.Rescaling(2.0, -1)],
        "unit",
    ),
    "ImageNet's statistics": (
        lambda: [
            keras.layers.Rescaling(1 / 255),
            keras.layers.Normalization(
                mean=[0.485, 0.456, 0.406], variance=[0.229**2, 0.224**2, 0.225**2]
            ),
        ],
        "torch",
    ),
    "operations": (lambda: [lambda x: x / 127.5 - 1.0], "unit"),
    "BGR": (lambda: [caffe], "caffe"),
    "a mean": (lambda: [lambda x: x - np.array([123.68, 116.78, 103.94], "float32")], "vgg"),
    "in a model of its own": (
        lambda: [keras.Sequential([keras.layers.Rescaling(1 / 127.5, -1)], name="prepare")],
        "unit",
    ),
}


@pytest.mark.parametrize("kind", INSIDE)
def test_preprocessing_inside_is_found_and_not_doubled(tmp_path, kind):
    make, same = INSIDE[kind]
    model = classifier(*make())
    path = saved(model, tmp_path)
    expected = model(pixels(), training=False)
    for said in (None, "none", same):
        found = open_classifier(path, None, KerasOptions(said))
        assert found.preprocessing.scale == "none"
        np.testing.assert_allclose(found.model(pixels(), training=False), expected, atol=1e-5)
    other = "torch" if same != "torch" else "vgg"
    with pytest.raises(UserError, match=f"--scale {other} before it would scale them twice"):
        open_classifier(path, None, KerasOptions(other))


@pytest.mark.parametrize(
    ("first", "sentence"),
    [
        ([], "does not show which pixels it takes; say with --scale: unit"),
        ([keras.layers.RandomFlip()], "does not show which pixels it takes"),
        ([keras.layers.Rescaling(2.0, -1)], "begins with rescaling.*, which does not show whether"),
    ],
)
def test_what_a_model_takes_is_asked_for_where_it_does_not_show(tmp_path, first, sentence):
    path = saved(classifier(*first), tmp_path)
    with pytest.raises(UserError, match=sentence):
        open_classifier(path)
    assert open_classifier(path, None, ZERO_ONE).preprocessing.scale == "zero_to_one"


@pytest.mark.parametrize("name", ["torch", "caffe"])
def test_scales_are_those_of_keras_applications(name):
    scale = SCALES[{"caffe": "keras_caffe"}.get(name, name)]
    module = {"torch": keras.applications.densenet, "caffe": keras.applications.resnet50}[name]
    theirs = module.preprocess_input(pixels().copy())
    ours = (pixels()[..., ::-1] if scale.bgr else pixels()) - np.array(scale.mean)
    np.testing.assert_allclose(ours / np.array(scale.deviation), theirs, atol=1e-4)


HEADS = {
    "softmax": ({"head": keras.layers.Dense(3, activation="softmax")}, "softmax", 3),
    "a softmax layer": (
        {"head": keras.layers.Dense(3), "after": [keras.layers.Softmax()]},
        "softmax",
        3,
    ),
    "an activation": (
        {
            "head": keras.layers.Dense(3),
            "after": [keras.layers.Activation("softmax", dtype="float32")],
        },
        "softmax",
        3,
    ),
    "logits": ({"head": keras.layers.Dense(3)}, "softmax", 3),
    "logits in float32": (
        {"head": keras.layers.Dense(3), "after": [keras.layers.Activation("linear")]},
        "softmax",
        3,
    ),
    "one sigmoid": ({"head": keras.layers.Dense(1, activation="sigmoid")}, "softmax", 2),
    "one logit": ({"head": keras.layers.Dense(1)}, "softmax", 2),
    "sigmoids": ({"head": keras.layers.Dense(3, activation="sigmoid")}, "sigmoid", 3),
}


@pytest.mark.parametrize("kind", HEADS)
def test_the_last_layer_shows_what_the_outputs_are(tmp_path, kind):
    arguments, head, classes = HEADS[kind]
    model = classifier(**arguments)
    found = open_classifier(saved(model, tmp_path), None, ZERO_ONE)
    assert (found.multi_label, found.classes) == (head == "sigmoid", classes)
    rows = np.asarray(found.model(pixels() / 255, training=False))
    raw = np.asarray(model(pixels() / 255, training=False))
    if kind.startswith("one"):
        raw = 1 / (1 + np.exp(-raw)) if kind == "one logit" else raw
        raw = np.concatenate([1 - raw, raw], axis=1)
    elif kind.startswith("logits"):
        raw = np.asarray(keras.ops.softmax(raw))
    np.testing.assert_allclose(rows, raw, atol=1e-6)


def test_outputs_that_no_layer_names_are_asked_for(tmp_path):
    dense = [keras.layers.Dense(3, activation="softmax") for _ in range(2)]
    image = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.GlobalAveragePooling2D()(image)
    path = saved(keras.Model(image, keras.layers.Average()([d(x) for d in dense])), tmp_path)
    with pytest.raises(UserError, match="does not show what its outputs are; say with --head"):
        open_classifier(path, None, ZERO_ONE)
    assert open_classifier(path, None, KerasOptions("zero_one", head="softmax")).classes == 3
    path = saved(classifier(head=keras.layers.Dense(3, activation="relu")), tmp_path)
    with pytest.raises(UserError, match="gives other values than softmax does"):
        open_classifier(path, None, KerasOptions("zero_one", head="softmax"))


def test_a_model_for_any_size_needs_one(tmp_path):
    path = saved(classifier(side=None), tmp_path)
    with pytest.raises(UserError, match="takes images of any size; say with --size"):
        open_classifier(path, None, ZERO_ONE)
    found = open_classifier(path, None, KerasOptions("zero_one", 20))
    assert found.model.input_shape == (None, 20, 20, 3)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (KerasOptions("zero_one", 20), "takes images of 16x16 pixels, and --size says 20"),
        (KerasOptions("zero_one", head="logits"), "ends in softmax, and --head says logits"),
        (KerasOptions("vg"), "unknown scale 'vg'.*did you mean 'vgg'"),
    ],
)
def test_what_contradicts_the_model_is_refused(tmp_path, options, sentence):
    path = saved(classifier(), tmp_path)
    with pytest.raises(UserError, match=sentence):
        open_classifier(path, None, options)


def gray():
    image = keras.Input((SIDE, SIDE, 1))
    return keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(image)))


def two_outputs():
    image = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Flatten()(image)
    return keras.Model(image, [keras.layers.Dense(3)(x), keras.layers.Dense(2)(x)])


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (gray, r"takes \(None, 16, 16, 1\); a classifier of images takes one batch of RGB"),
        (two_outputs, "a classifier gives one output"),
    ],
)
def test_what_is_no_classifier_of_images_is_refused(tmp_path, make, sentence):
    with pytest.raises(UserError, match=sentence):
        open_classifier(saved(make(), tmp_path), None, ZERO_ONE)


# What a file may not name.


def rewritten(path, change, to):
    """A copy of a `.keras` file with a changed configuration."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(to, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                config = json.loads(content)
                content = json.dumps(change(config) or config).encode()
            new.writestr(name, content)
    return str(to)


def layer_of(config, kind):
    return next(one for one in config["config"]["layers"] if one["class_name"] == kind)


def as_lambda(config):
    canary = Path(config["canary"]) if "canary" in config else None
    del canary
    layer = layer_of(config, "ReLU")
    code = {"class_name": "__lambda__", "config": {"value": ["4wAA", None, None]}}
    layer |= {"class_name": "Lambda", "config": {"name": "odd", "function": code}}


def named(kind, **more):
    def change(config):
        layer_of(config, "ReLU").update(class_name=kind, **more)

    return change


def activation(value):
    def change(config):
        layer_of(config, "Conv2D")["config"]["activation"] = value

    return change


def wrapped(config):
    layer = layer_of(config, "ReLU")
    inner = {"class_name": "Lambda", "module": "keras.layers", "config": {"name": "hidden"}}
    layer |= {"class_name": "TimeDistributed", "config": {"name": "x", "layer": inner}}


FUNCTION = {"module": "os", "class_name": "function", "config": "system"}
UNSAFE = {
    "a lambda": (as_lambda, "layer 'odd' of .* is a Lambda, which runs code or reads files"),
    "a lambda inside": (wrapped, "layer 'hidden' of .* is a Lambda"),
    "a SavedModel": (named("TFSMLayer"), "is a TFSMLayer"),
    "a vocabulary": (named("TextVectorization"), "is a TextVectorization"),
    "another package": (named("Attack", module="mine"), r"has the class Attack \(mine\)"),
    "a registered class": (
        named("ReLU", registered_name="Mine>ReLU"),
        r"has the class ReLU \(Mine>ReLU\), which is none of Keras' own",
    ),
    "a function of Keras": (
        named("get_file", module="keras.utils"),
        r"has the class get_file \(keras.utils\)",
    ),
    "a module of Keras": (
        named("KerasFileEditor", module="keras.src.saving.file_editor"),
        "has the class KerasFileEditor",
    ),
    "a function": (activation(FUNCTION), "has the function 'system', which is none of Keras'"),
    "code": (activation({"class_name": "__lambda__", "config": {}}), "is a __lambda__"),
    "Keras 2's operations": (named("TFOpLambda"), "operation that Keras 2 wrapped"),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return saved(classifier(), tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize("kind", UNSAFE)
def test_code_and_files_that_a_model_names_are_refused_before_it_is_built(
    plain, tmp_path, monkeypatch, kind
):
    change, sentence = UNSAFE[kind]
    path = rewritten(plain, change, tmp_path / "odd.keras")
    monkeypatch.setattr(keras_model, "_built", lambda *_: pytest.fail("it was built"))
    with pytest.raises(UserError, match=sentence):
        load_keras_model(path)


def wide(config):
    layer_of(config, "Dense")["config"]["units"] = 10**10


def enlarged(config):
    layer_of(config, "ReLU").update(
        class_name="UpSampling2D", config={"name": "large", "size": [9000, 9000]}
    )


def deep(config):
    value = []
    for _ in range(400):
        value = [value]
    config["config"]["layers"].append(value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (wide, "brings its weights to .* bytes, and the file has room for"),
        (enlarged, "layer 'large' of .* makes .* values of one image"),
        (deep, "cannot build the model|is damaged"),
        (lambda config: [1], "is damaged or not a Keras model"),
        (lambda config: config["config"].pop("layers") and None, "cannot build the model"),
    ],
)
def test_sizes_of_a_configuration_are_limited(plain, tmp_path, change, sentence):
    path = rewritten(plain, change, tmp_path / "odd.keras")
    with pytest.raises(UserError, match=sentence):
        load_keras_model(path)


def test_weights_that_lie_elsewhere_or_are_not_the_layers_are_refused(plain, tmp_path):
    with zipfile.ZipFile(plain) as archive:
        config, weights = archive.read("config.json"), archive.read("model.weights.h5")
    for number, (change, sentence) in enumerate(
        (
            (lambda f, k: f.__setitem__(k, h5py.ExternalLink("x.h5", "/a")), "external link"),
            (
                lambda f, k: f.create_dataset(k, data=np.zeros((2, 2))),
                "are not those of its layers",
            ),
            (lambda f, k: None, "are not those of its layers"),
        )
    ):
        file = tmp_path / f"{number}.weights.h5"
        file.write_bytes(weights)
        with h5py.File(file, "r+") as opened:
            key = next(f"layers/{n}/vars/0" for n in opened["layers"] if n.startswith("dense"))
            del opened[key]
            change(opened, key)
        path = tmp_path / f"{number}.keras"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", config)
            archive.writestr("model.weights.h5", file.read_bytes())
        with pytest.raises(UserError, match=sentence):
            load_keras_model(str(path))


def test_weights_alone_and_damaged_files_are_refused(plain, tmp_path):
    classifier().save_weights(tmp_path / "x.weights.h5")
    for path, sentence in (
        (tmp_path / "x.weights.h5", "holds weights without their network"),
        (tmp_path / "missing.keras", "no model at"),
        (tmp_path, "is a folder"),
    ):
        with pytest.raises(UserError, match=sentence):
            load_keras_model(str(path))
    content = Path(plain).read_bytes()
    for length in (0, 100, len(content) // 2, len(content) - 10):
        cut = tmp_path / "cut.keras"
        cut.write_bytes(content[:length])
        with pytest.raises(UserError, match="is damaged"):
            load_keras_model(str(cut))


# One file through the commands.


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(the file, its labels, the export) of a model that takes 0 to 1, by the command."""
    folder = tmp_path_factory.mktemp("exported")
    path = saved(classifier(), folder)
    (folder / "names.txt").write_text("red\ngreen\nblue\n", encoding="utf-8")
    words = ["export", path, "--labels", str(folder / "names.txt"), "--scale", "zero_one"]
    assert cli.main([*words, "--features", "--to", str(folder / "saved" / "mine")]) == 0
    return path, folder / "names.txt", folder / "saved" / "mine"


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    images = np.random.default_rng(0).integers(0, 256, (4, 20, 20, 3), np.uint8)
    for number, image in enumerate(images):
        kind = folder / ("red", "green", "blue", "red")[number]
        kind.mkdir(parents=True, exist_ok=True)
        (kind / f"{number}.png").write_bytes(tf.io.encode_png(image).numpy())
    return folder, images


def expected_rows(path, images):
    resized = tf.image.resize(images.astype("float32"), (SIDE, SIDE)) / 255
    return np.asarray(keras.models.load_model(path)(resized, training=False))


def test_an_export_answers_as_keras_does(exported, photos):
    path, _, to = exported
    folder, images = photos
    files = [str(next(folder.rglob(f"{number}.png"))) for number in range(4)]
    for prediction, row in zip(predict(to, files, 3), expected_rows(path, images), strict=True):
        assert [name for name, _ in prediction.top] == [
            ("red", "green", "blue")[i] for i in np.argsort(-row)
        ]
        np.testing.assert_allclose([s for _, s in prediction.top], np.sort(row)[::-1], atol=1e-5)


@pytest.mark.slow
def test_verify_opens_the_keras_model_again(exported):
    checks = verify(exported[2])
    assert [(c.name, c.detail) for c in checks if not c.passed] == []
    said = read_metadata(exported[2] / "1")
    assert (said.keras_options, said.features, said.network) == (ZERO_ONE, 6, "mine")


def test_the_commands_take_the_file_itself(exported, photos, tmp_path, capsys):
    path, labels, _ = exported
    folder, images = photos
    said = ["--labels", str(labels), "--scale", "zero_one"]
    assert cli.main(["predict", path, str(folder), *said, "--json", "--top", "1"]) == 0
    found = {Path(p["image"]).stem: p["top"][0] for p in json.loads(capsys.readouterr().out)}
    rows = expected_rows(path, images)
    for number, row in enumerate(rows):
        assert found[str(number)]["label"] == ("red", "green", "blue")[row.argmax()]
        assert found[str(number)]["score"] == pytest.approx(row.max(), abs=1e-5)

    report = tmp_path / "report.json"
    words = [
        "evaluate",
        path,
        "--data",
        f"folder:{folder}",
        "--split",
        "all",
        "--json",
        str(report),
    ]
    assert cli.main([*words, *said]) == 0
    right = [("red", "green", "blue").index(k) for k in ("red", "green", "blue", "red")]
    assert json.loads(report.read_text())["top1"] == np.mean(rows.argmax(1) == right)

    output = tmp_path / "features.npz"
    words = ["features", path, "--input", str(folder), "--output", str(output)]
    assert cli.main([*words, *said, "--endpoint", "pooled"]) == 0
    assert np.load(output)["features"].shape == (4, 6)
    capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["export", "{path}", "--labels", "{labels}"], "does not show which pixels it takes"),
        (["export", "{path}", "--scale", "zero_one"], "has no class names; give 3 names"),
        (
            ["export", "{path}", "--scale", "zero_one", "--labels", "{two}"],
            "there are 2 labels for the 3 classes",
        ),
        (
            ["predict", "{to}", "{path}", "--scale", "unit"],
            "is a folder with its own names: --model, --labels, --scale",
        ),
        (
            ["export", "{path}", "--scale", "unit", "--model", "inception_v3"],
            "--scale is for Keras models",
        ),
    ],
)
def test_what_is_missing_or_contradicts_is_said_by_the_commands(
    exported, tmp_path, capsys, words, sentence
):
    path, labels, to = exported
    (tmp_path / "two.txt").write_text("a\nb\n", encoding="utf-8")
    given = {"path": path, "labels": labels, "to": to, "two": tmp_path / "two.txt"}
    assert cli.main([word.format(**given) for word in words]) == 2
    assert sentence in capsys.readouterr().err
