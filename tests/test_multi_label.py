# SPDX-License-Identifier: Apache-2.0
"""Images that show several classes: how they are read, what is trained, and what is reported, against scikit-learn and TensorFlow."""

from __future__ import annotations

import json
import warnings

import keras
import numpy as np
import pytest
import ramps
import tensorflow as tf
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.metrics import (
    average_precision_score,
    multilabel_confusion_matrix,
    precision_recall_fscore_support,
)
from small_runs import only

import inception_tf
from inception_tf import cli
from inception_tf.config import Config
from inception_tf.data.sources.open import inspect_source, open_source
from inception_tf.errors import UserError
from inception_tf.evaluation.metrics import Predictions, ensemble
from inception_tf.evaluation.multi_label import (
    average_precision,
    confusion_matrices,
    label_metrics,
    multi_label_metrics,
)
from inception_tf.evaluation.tables import image_rows
from inception_tf.run_folder import Run
from inception_tf.training.average_precision import MeanAveragePrecision
from inception_tf.training.losses import class_weights, make_loss
from inception_tf.weights.recognize import describe_file

pytestmark = pytest.mark.usefixtures("short_networks")

SHOWN = {"0.jpg": "cat|dog", "1.jpg": "dog", "2.jpg": "", "3.jpg": "cat", "4.jpg": "cat|emu"}
LABELS = ("cat", "dog", "emu")
MULTI = {"multi_label": True}


def table(folder, text):
    for number, name in enumerate(SHOWN):
        (folder / name).write_bytes(b"x" * (number + 1))
    (folder / "list.csv").write_text(text)
    return f"csv:{folder}/list.csv"


def found_in(source):
    whole = source.split("all")
    rows = {
        whole.path(k).rpartition("/")[2]: whole.names(k, source.labels) for k in range(len(whole))
    }
    return {name: "|".join(rows[name]) for name in sorted(rows)}


CELLS = "path,labels\n" + "".join(f"{name},{shown}\n" for name, shown in SHOWN.items())


@pytest.mark.parametrize("separator", ["|", ";", " ", ","])
def test_labels_in_one_cell_are_separated(tmp_path, separator):
    text = CELLS.replace(",", "\t").replace("|", separator)
    name = table(tmp_path, text)
    source = open_source(name, **MULTI, label_separator=separator)
    assert source.labels == LABELS
    assert found_in(source) == SHOWN
    assert [w for w in source.warnings if "show no class" in w]


@pytest.mark.parametrize(("yes", "no"), [("1", "0"), ("True", "False"), ("1.0", "0.0")])
def test_each_class_may_have_a_column_as_pandas_writes_it(tmp_path, yes, no):
    rows = [
        ",".join((name, "train", *(yes if label in shown else no for label in LABELS)))
        for name, shown in SHOWN.items()
    ]
    name = table(tmp_path, "\n".join(["image,split,cat,dog,emu", *rows]))
    source = open_source(name, **MULTI)
    assert (source.labels, found_in(source)) == (LABELS, SHOWN)
    (tmp_path / "two.txt").write_text("emu\ncat\n")
    chosen = open_source(name, **MULTI, labels=str(tmp_path / "two.txt"))
    assert chosen.labels == ("emu", "cat")
    assert found_in(chosen)["4.jpg"] == "emu|cat"


def test_a_file_may_be_listed_once_for_each_label(tmp_path):
    lines = [(n, one) for n, shown in SHOWN.items() for one in shown.split("|") if one]
    name = table(tmp_path, "path,label\n" + "".join(f"{n},{one}\n" for n, one in lines))
    source = inspect_source(name, **MULTI)
    assert found_in(source) == {n: s for n, s in SHOWN.items() if s}
    with pytest.raises(UserError, match="one label, unless --set data.multi_label=true"):
        open_source(name)


def test_numbers_keep_their_order(tmp_path):
    text = "path,label\n0.jpg,10|9\n1.jpg,9\n3.jpg,2|10\n"
    source = open_source(table(tmp_path, text), **MULTI)
    assert source.labels == ("2", "9", "10")
    assert found_in(source)["0.jpg"] == "9|10"


@pytest.fixture
def folders(tmp_path):
    """Five images of different bytes in three class folders; 0 and 4 in two of them, one under another name."""
    for name, shown in SHOWN.items():
        for place, label in enumerate(filter(None, shown.split("|"))):
            (tmp_path / "photos" / label).mkdir(parents=True, exist_ok=True)
            file = tmp_path / "photos" / label / (name if place == 0 else f"copy-{name}")
            file.write_bytes(name.encode() * 5000)  # longer than what is read of the ends
    return tmp_path / "photos"


def test_equal_bytes_in_several_class_folders_are_one_image_of_all_these_classes(folders):
    source = inspect_source(f"folder:{folders}", **MULTI)
    assert found_in(source) == {name: shown for name, shown in SHOWN.items() if shown}
    files = sum(1 for path in folders.rglob("*.jpg"))
    assert files == len(source.split("all")) + len(source.unread) == 6
    assert set(source.unread.values()) == {
        "equal bytes in another class folder, one image of both classes"
    }
    # Without the key each file is an image of its folder, as before.
    assert len(open_source(f"folder:{folders}").split("all")) == 6


def test_equal_ends_and_equal_names_make_no_equal_images(folders):
    same_ends = (folders / "cat" / "0.jpg").read_bytes()
    middle = len(same_ends) // 2
    (folders / "emu" / "0.jpg").write_bytes(same_ends[:middle] + b"#" + same_ends[middle + 1 :])
    source = inspect_source(f"folder:{folders}", **MULTI)
    whole = source.split("all")
    assert len(whole) == 5
    [said] = [warning for warning in source.warnings if "different bytes" in warning]
    assert "cat/0.jpg" in said
    assert "emu/0.jpg" in said


def test_a_folder_whose_images_show_one_class_each_says_so(folders):
    for copy in folders.rglob("copy-*"):
        copy.unlink()
    (folders / "emu" / "new.jpg").write_bytes(b"new")
    said = inspect_source(f"folder:{folders}", **MULTI).warnings
    assert any("no image is in several class folders" in warning for warning in said)


def test_the_same_fraction_of_every_class_is_held_out(tmp_path):
    rng = np.random.RandomState(0)
    shown = rng.rand(400, 4) < (0.5, 0.2, 0.05, 0.3)
    (tmp_path / "a").mkdir()
    for number in range(400):
        (tmp_path / "a" / f"{number}.png").write_bytes(b"%d" % number)
    rows = [f"a/{k}.png," + ",".join("01"[int(v)] for v in row) for k, row in enumerate(shown)]
    (tmp_path / "list.csv").write_text("\n".join(["path,a,b,c,d", *rows]))
    source = open_source(f"csv:{tmp_path}/list.csv", **MULTI)
    held = source.splits["validation"]
    assert (held.class_counts(4) > 0.04 * shown.sum(axis=0)).all()
    assert (held.class_counts(4) < 0.2 * shown.sum(axis=0)).all()
    assert len(held) == pytest.approx(40, abs=3)
    counts = source.splits["train"].class_counts(4) + held.class_counts(4)
    np.testing.assert_array_equal(counts, shown.sum(axis=0))


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        ("path,cat,dog\n0.jpg,1,2\n1.jpg,0,1\n", MULTI, "line 2 has '2' in the column 'dog'"),
        ("path,cat,dog\n0.jpg,1\n1.jpg,0,1\n", MULTI, "line 2 has '' in the column 'dog'"),
        ("path,cat,cat\n0.jpg,1,0\n1.jpg,0,1\n", MULTI, "has 2 columns 'cat'"),
        ("path,cat,dog\n0.jpg,1,0\n1.jpg,0,1\n", {}, "data.multi_label=true"),
        ("path,label\n0.jpg,a;b\n1.jpg,c\n", MULTI, "data.label_separator=';'"),
        ("path,label\n0.jpg,a b\n1.jpg,c\n", MULTI, "data.label_separator=' '"),
        ("path,label\n0.jpg,a|b\n", MULTI | {"label_separator": ""}, "at least one character"),
        ("path,label\n0.jpg,\n1.jpg,\n", MULTI, "no label in any line"),
        ("path,label\n0.jpg,a\n1.jpg,\n", MULTI, "at least two classes, found only 'a'"),
        ("path,label,split\n0.jpg,a,train\n0.jpg,b,val\n", MULTI, "an image has one split"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_a_sentence(tmp_path, text, options, sentence):
    with pytest.raises(UserError, match=sentence):
        open_source(table(tmp_path, text), **options)


@pytest.mark.parametrize("name", ["digits", "tfds:mnist", "tfrecord:x*"])
def test_other_data_has_one_class_for_each_image(name):
    with pytest.raises(UserError, match="data.multi_label is for folder: data"):
        open_source(name, **MULTI)


def test_balanced_sampling_is_refused_with_what_to_do():
    with pytest.raises(UserError, match="take training.class_weights=balanced instead"):
        Config().override(["data.multi_label=true", "data.balance=true"])


# Losses and metrics

TARGETS = (ramps.uniform("targets", (40, 3)) > 0.2).astype(np.float32)
LOGITS = 3 * ramps.uniform("logits", (40, 3))
SCORES = np.round(1 / (1 + np.exp(-LOGITS.astype(np.float64))), 2).astype(np.float32)  # with ties


def training(**settings):
    return (
        Config().override([f"training.{key}={value}" for key, value in settings.items()]).training
    )


def test_the_loss_is_tensorflows_cross_entropy_of_sigmoids():
    found = make_loss(training(), None, multi_label=True)(TARGETS, LOGITS)
    expected = tf.nn.sigmoid_cross_entropy_with_logits(TARGETS, LOGITS)
    np.testing.assert_allclose(found, np.mean(expected), rtol=1e-6)
    smoothed = make_loss(training(label_smoothing=0.2), None, multi_label=True)(TARGETS, LOGITS)
    expected = tf.nn.sigmoid_cross_entropy_with_logits(0.8 * TARGETS + 0.1, LOGITS)
    np.testing.assert_allclose(smoothed, np.mean(expected), rtol=1e-6)


def test_class_weights_are_the_positive_weights_of_tensorflow_and_torch():
    weights = (0.5, 3.0, 0.0)
    found = make_loss(training(), weights, multi_label=True)(TARGETS, LOGITS)
    expected = tf.nn.weighted_cross_entropy_with_logits(TARGETS, LOGITS, np.array(weights, "f4"))
    np.testing.assert_allclose(found, np.mean(expected), rtol=1e-6)


def test_the_focal_loss_is_its_papers_formula():
    found = make_loss(training(focal_gamma=2.0), None, multi_label=True)(TARGETS, LOGITS)
    chances = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
    right = np.where(TARGETS == 1, chances, 1 - chances)
    np.testing.assert_allclose(found, np.mean(-((1 - right) ** 2) * np.log(right)), rtol=1e-5)


def test_balanced_weights_make_both_sides_of_a_class_count_the_same(folders):
    source = open_source(f"folder:{folders}", **MULTI)
    split = source.split("all")
    counts = split.class_counts(3)
    assert class_weights("balanced", split, LABELS) == tuple((len(split) - counts) / counts)


def test_a_weighted_loss_is_what_it_was_after_its_configuration_was_written():
    made = make_loss(training(label_smoothing=0.1), (1.0, 2.0, 3.0), multi_label=True)
    again = keras.losses.deserialize(keras.losses.serialize(made))
    assert float(again(TARGETS, LOGITS)) == float(made(TARGETS, LOGITS))


@pytest.mark.parametrize("from_logits", [True, False])
def test_the_metric_of_training_is_scikit_learns_over_all_batches(from_logits):
    metric = MeanAveragePrecision(4, from_logits=from_logits)
    targets = np.pad(TARGETS, ((0, 0), (0, 1)))  # a class that no image shows
    logits = np.pad(LOGITS, ((0, 0), (0, 1)))
    scores = logits if from_logits else 1 / (1 + np.exp(-logits))
    for rows in (slice(0, 15), slice(15, 40)):
        metric.update_state(targets[rows], scores[rows])
    expected = average_precision_score(TARGETS, LOGITS, average="macro")
    assert float(metric.result()) == pytest.approx(expected, abs=2e-3)
    metric.reset_state()
    assert float(metric.result()) == 0


def test_average_precision_is_scikit_learns_with_ties_too():
    np.testing.assert_allclose(
        average_precision(TARGETS, SCORES), average_precision_score(TARGETS, SCORES, average=None)
    )
    assert np.isnan(average_precision(np.zeros((3, 1)), np.ones((3, 1)))).all()


def predictions(scores=SCORES):
    return Predictions(scores, TARGETS.argmax(1), targets=TARGETS.astype(np.uint8))


def test_what_a_threshold_gives_is_scikit_learns():
    decided = SCORES >= 0.7
    found = predictions()
    np.testing.assert_array_equal(
        confusion_matrices(found, 0.7), multilabel_confusion_matrix(TARGETS, decided)
    )
    whole = dict(multi_label_metrics(found, 0.7))
    micro = precision_recall_fscore_support(TARGETS, decided, average="micro")
    assert [whole[name] for name in ("precision", "recall", "f1")] == pytest.approx(micro[:3])
    assert whole["exact"] == np.mean((decided == TARGETS).all(axis=1))
    assert whole["map"] == pytest.approx(average_precision_score(TARGETS, SCORES))
    each = precision_recall_fscore_support(TARGETS, decided, average=None, zero_division=0)
    for name, expected in zip(("precision", "recall", "f1", "images"), each, strict=True):
        values = [one[name] for one in label_metrics(found, LABELS, 0.7)]
        np.testing.assert_allclose(values, expected)


def test_an_ensemble_keeps_the_targets():
    whole = ensemble([predictions(), predictions(1 - SCORES)])
    np.testing.assert_allclose(whole.probabilities, 0.5)
    np.testing.assert_array_equal(whole.targets, TARGETS)


# A run, by the commands

ATTRIBUTES = {"even": (0, 2, 4, 6, 8), "large": (5, 6, 7, 8, 9), "loop": (0, 6, 8, 9)}


@pytest.fixture(scope="module")
def attributes(tmp_path_factory):
    """48 handwritten digits with attributes, one column for each."""
    folder = tmp_path_factory.mktemp("attributes")
    digits = load_digits()
    rows = []
    for number in range(48):
        pixels = (digits.images[number] * 15.9).astype(np.uint8)
        Image.fromarray(pixels).resize((32, 32)).save(folder / f"{number}.jpg")
        shown = (str(int(digits.target[number] in group)) for group in ATTRIBUTES.values())
        rows.append(",".join((f"{number}.jpg", "val" if number % 4 == 0 else "train", *shown)))
    (folder / "list.csv").write_text("\n".join([",".join(("path,split", *ATTRIBUTES)), *rows]))
    return folder


SETTINGS = (
    *("model.width_multiplier=0.1", "model.size=32", "model.batch_norm_momentum=0.5"),
    *("data.multi_label=true", "data.batch_size=12", "data.box_area=null"),
    *("training.class_weights=balanced", "training.focal_gamma=1", "training.keep=best"),
    *("training.recalibrate_batch_norm=2", "training.label_smoothing=0.05"),
)


@pytest.fixture(scope="module")
def run(attributes, digits_run):
    """A short training of one module, with all that a loss may have; `digits_run` before it, of its whole network."""
    out = attributes / "run"
    with only("inception_v1", "Conv2d_1a_7x7"):
        _train(attributes, out)
        yield out


def _train(attributes, out):
    words = ["train", "--model", "inception_v1", "--data", f"csv:{attributes}/list.csv"]
    words += ["--recipe", "digits", "--precision", "float32", "--epochs", "1", "--out", str(out)]
    assert cli.main([*words, *(word for one in SETTINGS for word in ("--set", one))]) == 0


def test_the_report_and_an_evaluation_agree(run, attributes, capsys):
    report = json.loads((run / "report.json").read_text())
    assert set(report["result"]) == {"epoch", "val_map"}
    assert set(report["best"]) == {"epoch", "val_map"}
    header = (run / "history.csv").read_text().splitlines()[0].split(",")
    assert header[-4:] == ["loss", "map", "val_loss", "val_map"]
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    files = {n: str(attributes / n) for n in ("all.json", "rows.csv", "wrong.png")}
    words = ["evaluate", str(run), "--json", files["all.json"], "--per-class"]
    words += ["--predictions", files["rows.csv"], "--mistakes", files["wrong.png"]]
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    assert "mean average precision: " in said
    assert "at threshold 0.5: precision " in said
    found = json.loads((attributes / "all.json").read_text())
    assert found["map"] == pytest.approx(report["result"]["val_map"], abs=0.01)
    assert (found["top1"], found["images"]) == (None, 12)
    assert [one["name"] for one in found["classes"]] == list(ATTRIBUTES)
    assert np.shape(found["confusion"]) == (3, 2, 2)
    lines = (attributes / "rows.csv").read_text().splitlines()
    assert lines[0] == "path,true,predicted,score,correct,p(even),p(large),p(loop)"
    assert len(lines) == 13
    assert lines[1].split(",")[1] == "even|loop"  # a zero
    with Image.open(files["wrong.png"]) as picture:
        assert picture.size[0] > 1000


def test_probabilities_are_independent_in_the_run_and_its_model_file(run, attributes):
    model = Run(run).model()
    images = ramps.uniform("images", (5, 32, 32, 3))
    found = np.asarray(model(images))
    np.testing.assert_allclose(
        found, keras.models.load_model(run / "model.keras")(images), atol=1e-6
    )
    assert np.abs(found.sum(axis=1) - 1).max() > 0.01
    assert describe_file(str(run / "model.keras"), "inception_v1").activation == "sigmoid"


def test_predict_names_every_class_above_a_threshold(run, attributes, capsys):
    image = str(attributes / "0.jpg")
    classify = inception_tf.classifier(run)
    [found] = classify.predict(image, threshold=0)
    assert dict(found.top).keys() == set(ATTRIBUTES)
    [usual] = classify.predict(image)
    assert usual.top == tuple(pair for pair in found.top if pair[1] >= 0.5)
    assert classify.predict(image, threshold=0, top=2)[0].top == found.top[:2]
    assert cli.main(["predict", str(run), image, "--threshold", "1"]) == 0
    assert "none above the threshold" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--confusion x.png", "--reliability x.png", "--temperature"])
def test_what_is_for_one_class_is_refused_before_any_work(run, capsys, option):
    assert cli.main(["evaluate", str(run), *option.split()]) == 2
    assert "is for images with one class each" in capsys.readouterr().err


def test_networks_of_one_class_and_of_several_are_not_mixed(run, digits_run, attributes, capsys):
    assert cli.main(["evaluate", str(run), str(digits_run)]) == 2
    assert "gives each image one class, and the others here give several" in capsys.readouterr().err
    assert cli.main(["evaluate", str(digits_run), "--data", f"csv:{attributes}/list.csv"]) == 2
    assert "data.multi_label=true" in capsys.readouterr().err
    assert cli.main(["evaluate", str(run), "--data", "digits"]) == 2
    assert "data.multi_label is for folder: data" in capsys.readouterr().err
    assert cli.main(["evaluate", str(digits_run), "--threshold", "0.4"]) == 2
    assert "--threshold is for multi-label data" in capsys.readouterr().err
    assert cli.main(["export", str(run), "--format", "onnx"]) == 2
    assert "export it as saved_model" in capsys.readouterr().err


@pytest.mark.slow
def test_an_export_serves_independent_probabilities_and_says_so(run, attributes, tmp_path, capsys):
    folder = tmp_path / "attributes"
    assert cli.main(["export", str(run), "--to", str(folder)]) == 0
    assert json.loads((folder / "1" / "assets.extra" / "export.json").read_text())["multi_label"]
    assert "any number of classes" in (folder / "README.md").read_text()
    assert cli.main(["verify", str(folder)]) == 0
    assert "of independent classes" in capsys.readouterr().out
    image = str(attributes / "0.jpg")
    found = []
    for source in (run, folder):
        assert cli.main(["predict", str(source), image, "--threshold", "0", "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out)[0]["top"])
    for one, other in zip(*found, strict=True):
        assert one["label"] == other["label"]
        assert one["score"] == pytest.approx(other["score"], abs=1e-4)
    assert len(found[0]) == 3


def test_mixed_images_show_what_both_show_in_proportion():
    from inception_tf.data.augmentation.model_garden import MixupAndCutmix

    labels = tf.constant(TARGETS[:4])
    images = tf.reshape(tf.range(4, dtype=tf.float32), (4, 1, 1, 1)) * tf.ones((4, 8, 8, 3))
    mixed, shown = MixupAndCutmix(1.0, 0.0)(images, labels, (1, 2))
    own = (mixed[:, 0, 0, 0].numpy() - [3, 2, 1, 0]) / (np.arange(4) - [3, 2, 1, 0])
    assert 0 < own[0] < 1
    np.testing.assert_allclose(
        shown, own[:, None] * TARGETS[:4] + (1 - own[:, None]) * TARGETS[3::-1], atol=1e-6
    )


def test_the_auxiliary_classifiers_have_the_same_loss(attributes):
    from inception_tf.training.compile import compiled_model
    from inception_tf.training.plan import make_plan

    settings = [
        *("model.name=googlenet", "model.aux_logits=true", "model.size=64", "model.dropout=0"),
        *("model.width_multiplier=0.05", "data.multi_label=true", "training.precision=float32"),
        f"data.name='csv:{attributes}/list.csv'",
    ]
    model = compiled_model(make_plan(Config().override(settings)))
    images = ramps.uniform("images", (6, 64, 64, 3))
    targets = TARGETS[:6]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        measured = model.evaluate(
            images, dict.fromkeys(model.output, targets), verbose=0, return_dict=True
        )
    outputs = model(images, training=False)
    expected = sum(
        (1.0 if name == "predictions" else 0.3)
        * float(np.mean(tf.nn.sigmoid_cross_entropy_with_logits(targets, logits)))
        for name, logits in outputs.items()
    )
    assert len(outputs) > 1
    assert measured["loss"] == pytest.approx(expected, rel=1e-4)


def test_rows_of_multi_label_images_are_right_where_all_classes_are(folders):
    source = open_source(f"folder:{folders}", **MULTI)
    split = source.split("all")
    found = Predictions(
        np.where(split.targets, 0.9, 0.1).astype(np.float32), split.classes, targets=split.targets
    )
    rows = image_rows(found, split, source.labels)
    assert all(row["correct"] and row["true"] == row["predicted"] for row in rows)
    assert {row["true"] for row in rows} == {"cat|dog", "dog", "cat", "cat|emu"}
    assert not any(row["correct"] for row in image_rows(found, split, source.labels, 0.95))
