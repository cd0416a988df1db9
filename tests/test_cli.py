# SPDX-License-Identifier: Apache-2.0
"""The commands as a user types them: output, sentences, exit codes."""

from __future__ import annotations

import csv
import dataclasses
import errno
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

import forked
import numpy as np
import pytest
import tensorflow as tf
import yaml
from small_runs import only

from inception_tf import UserError, cli, create_model
from inception_tf.cli import paths
from inception_tf.config import Config
from inception_tf.export.metadata import Origin
from inception_tf.training.configure import default_run_folder, resolve_config
from inception_tf.training.recipes import list_recipes

pytestmark = pytest.mark.usefixtures("short_networks")


@pytest.fixture
def call(capfd):
    """Runs a command and returns (exit code, stdout, stderr)."""

    def run(*words):
        code = cli.main([str(word) for word in words])
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.fixture(scope="module")
def run_folder(digits_run):
    return digits_run


@pytest.fixture(scope="module")
def saved_model(digits_export):
    return digits_export


def test_an_export_records_the_switches_of_its_network(saved_model):
    exported = json.loads((saved_model / "1" / "assets.extra" / "export.json").read_text())
    assert exported["switches"] == {"width_multiplier": 0.25}


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "gray.jpg"
    path.write_bytes(tf.io.encode_jpeg(tf.fill((20, 20, 1), tf.constant(128, tf.uint8))).numpy())
    return path


@pytest.mark.parametrize(
    "name", ["", *sorted(cli.COMMANDS), "benchmark forward", "experiment bn-mnist"]
)
def test_help_says_what_the_command_does_and_gives_a_line_to_paste(call, name):
    code, out, err = call(*name.split(), "--help")
    assert (code, err) == (0, "")
    assert f"inception-tf {name}" in out
    assert re.search(r"^  inception-tf \w", out, re.M), "no example"


@pytest.mark.parametrize("name", ["", *sorted(cli.COMMANDS)])
def test_help_takes_a_fraction_of_a_second(name):
    """Processor time, which is the same while others have the cores."""
    command = [sys.executable, "-m", "inception_tf", *name.split(), "--help"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("trian", "unknown command 'trian'; known: .*benchmark, .*; did you mean 'train'?"),
        (
            "summary inception_v5",
            "unknown network 'inception_v5'; known: .*; did you mean 'inception_v",
        ),
        ("summary inception_v3 --sise 8", "no such option '--sise'. Did you mean '--size'?"),
        (
            "summary inception_v3 --size 74",
            "inception_v3 needs images of at least 75x75 pixels, got 74x74",
        ),
        (
            "summary inception_v3 --format yaml",
            "invalid value for '--format': 'yaml' is not one of",
        ),
        ("summary", "missing argument 'MODEL'"),
        ("train --model inception_v1", "train needs --data, or --out with --resume"),
        ("train --out {tmp}/x --model inception_v1", "train needs --data"),
        (
            "train --out {tmp}/x --data digits --epochs 3 --set training.epochs=4",
            "--epochs 3 and --set training.epochs=4 both set training.epochs; remove one",
        ),
        ("train --out {tmp}/x --data digits --epochs 0", "training.epochs must be at least 1"),
        ("train --out {tmp}/x --data digits --learning-rate nan", "learning_rate must be above 0"),
        ("train --out {tmp}/x --data digits --set epochs=3", "did you mean training.epochs?"),
        (
            "train --out {tmp}/x --data digits --set name=x",
            "did you mean model.name or data.name or optimizer.name?",
        ),
        ("evaluate {tmp} {tmp} --temperature", "--temperature is fitted for one run; give its"),
        (
            "evaluate {tmp} --predictions {tmp}/rows.txt",
            "rows.txt ends in neither .csv nor .parquet",
        ),
        ("recipes slimm", "unknown recipe 'slimm'; .*did you mean 'slim'?"),
        (
            "train --out {tmp}/x --model inception_v2x --data digits",
            "unknown network 'inception_v2x'",
        ),
        ("train --out {tmp}/x --model inception_v1 --data digit", "did you mean 'digits'?"),
        (
            "train --out {tmp}/x --model inception_v1 --data folder:{tmp}",
            "at least two class folders, found none",
        ),
        (
            "train --out {tmp}/x --model inception_v1 --data folder:{tmp}/no",
            "there is no folder .*/no",
        ),
        (
            "train --out {tmp}/x --model inception_v1 --data digits --recipe digit",
            "did you mean 'digits'?",
        ),
        (
            "train --out {tmp}/x --model inception_v3 --data digits --recipe bn-x5",
            "recipe bn-x5 is written for bn_inception, not for inception_v3; remove --model",
        ),
        (
            "train --out {tmp}/x --model inception_v1 --data digits --recalibrate-bn 0",
            "'--recalibrate-bn'",
        ),
        (
            "train --out {tmp}/x --model inception_v1 --data digits --set a=1",
            "--set must be section.key=value",
        ),
        (
            "train --out {tmp}/x --model inception_v3 --data digits --set model.size=64",
            "at least 75x75",
        ),
        (
            "train --out {tmp}/x --model inception_v1 --data digits --set model.aux_logits=true",
            "has no auxiliary",
        ),
        ("evaluate {tmp} --data digits", "is no run folder: it has no config.yaml"),
        (
            "evaluate {tmp}/no.weights.h5 --data digits --model inception_v1",
            "there is no .*no.weights.h5",
        ),
        ("evaluate {tmp}/no --data digits", "there is no .*no"),
        ("predict {tmp} x.png", "neither a saved_model.pb nor a numbered version folder"),
        ("predict {tmp}/no x.png", "there is no .*/no; give a run folder, a weights file, a Saved"),
        (
            "predict localhost:8501/v1/models/digits x.png",
            "there is no localhost:8501/v1/models/digits; a server's address begins with http:// or grpc://, as in"
            " http://localhost:8501/v1/models/digits$",
        ),
        ("predict localhost/v1/models/digits x.png", "as in http://localhost/v1/models/digits$"),
        ("predict [::1]:8501 x.png", r"begins with http:// or grpc://, as in http://\[::1\]:8501$"),
        ("predict GRPC:/host:8500/v1/models/a x.png", "as in grpc://host:8500/v1/models/a$"),
        ("predict ftp://host/v1/models/a x.png", "'ftp://host/v1/models/a' is not the address of"),
        ("predict http://host:8501 x.png", "'http://host:8501' names no model; give http://host:"),
        (
            "predict http://localhost:1/v1/models/digits x.png --explain {tmp}/heat",
            "is a server: --model, --labels, --scale, --size, --head and --explain are for runs and files",
        ),
        ("predict {tmp} x.png --explain {tmp}/heat", "is an export, which has no gradients to"),
        ("predict {tmp} x.png --endpoint Mixed_5c", "--endpoint is of --explain DIR; give that"),
        ("predict {tmp} {tmp}/*.png", "no file matches"),
        ("export {tmp}", "is no run folder"),
        ("data digits --split nope", "unknown split of digits 'nope'"),
        ("train --out {tmp}/typo --resume", "there is no run in .*/typo to resume"),
        ("verify {tmp}", "neither a saved_model.pb nor a numbered version folder"),
        ("benchmark forwad", "no such command 'forwad'"),
        (
            "benchmark forward --model inception_v3 --size 40",
            "inception_v3 needs images of at least 75x75",
        ),
        ("benchmark forward --batch-size 0", "the batch size must be at least 1, got 0"),
        ("benchmark forward --precision bf16", "'bf16' is not one of"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(call, tmp_path, words, sentence):
    code, out, err = call(*words.format(tmp=tmp_path).split())
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1, err
    assert err.startswith("inception-tf: ")
    assert re.search(sentence, err), err
    assert not (tmp_path / "x").exists(), "a refused run leaves no folder"


def test_debug_shows_the_traceback_wherever_it_stands(call):
    code, _, err = call("summary", "inception_v5", "--debug")
    assert code == 2
    assert "Traceback (most recent call last)" in err


def test_a_failure_of_ours_is_exit_code_1(call, monkeypatch):
    from inception_tf.cli import models

    monkeypatch.setattr(models, "_shown", lambda value: 1 / 0)
    code, _, err = call("models")
    assert code == 1
    assert (
        err
        == "inception-tf: internal error: ZeroDivisionError: division by zero; --debug shows where\n"
    )


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        # As h5py and TensorFlow word it, seen on a full tmpfs.
        OSError(
            "Can't synchronously write data (errno = 28, error message = 'No space left on device')"
        ),
        tf.errors.ResourceExhaustedError(None, None, "x.tempstate1; No space left on device"),
    ],
)
def test_a_full_disk_is_one_sentence(call, monkeypatch, error):
    from inception_tf.cli import models

    def full(value):
        raise error

    monkeypatch.setattr(models, "_shown", full)
    code, _, err = call("models")
    assert code == 2
    assert err.startswith("inception-tf: the disk is full; free some space")


@pytest.mark.usefixtures("small_peak")
def test_a_place_that_cannot_be_written_is_named(call):
    words = "benchmark forward --model inception_v1 --size 32 --batch-size 1 --steps 1 --json"
    with only("inception_v1", "Conv2d_1a_7x7"):
        code, _, err = call(*words.split(), "/proc/times.json")
    assert code == 2
    assert re.fullmatch(r"inception-tf: /proc/.*: No such file or directory\n", err)


@pytest.mark.slow
def test_ctrl_c_saves_and_resume_goes_on(call, root, always_short, tmp_path):
    """The real thing: a process, a signal, a second process."""
    words = "train --model inception_v1 --data digits --recipe digits --set model.size=32"
    words += f" --set model.width_multiplier=0.25 --set training.epochs=50 --out {tmp_path / 'run'}"
    process = forked.popen(
        [sys.executable, root / "tests" / "with_short_networks.py", *words.split()]
    )
    until(lambda: (tmp_path / "run" / "history.csv").exists() or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    sentence = err.splitlines()[-1]
    stopped = re.match(
        r"inception-tf: stopped at step (\d+), saved; resume with: inception-tf (.*)", sentence
    )
    assert stopped, sentence
    newest = max(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert newest == f"step-{int(stopped[1]):08d}"

    code, _, err = call(*stopped[2].split(), "--set", "training.label_smoothing=0.2")
    assert code == 2, "another setting would not be the same run"
    config = tmp_path / "run" / "config.yaml"
    config.write_text(
        config.read_text().replace("epochs: 50", f"epochs: {int(stopped[1]) // 44 + 1}")
    )
    code, out, _ = call(*stopped[2].split())
    assert code == 0
    assert f"after {int(stopped[1]) // 44 + 1} epochs" in out


def until(condition, seconds=120):
    """Waits for something that another process does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def test_models_lists_every_network_as_json_too(call):
    code, out, _ = call("models", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert code == 0
    assert rows["inception_v3"]["parameters"] == 23_851_784
    assert rows["inception_v1"]["size"] == 224


def test_summary_prints_table_1(call):
    code, out, _ = call("summary", "inception_v1", "--format", "json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert code == 0
    assert rows["Mixed_5c"]["output size"] == "7x7x1024"
    assert (rows["Mixed_5c"]["#3x3 reduce"], rows["Mixed_5c"]["#3x3"]) == (192, 384)
    assert rows["Conv2d_2c_3x3"]["depth"] == 2
    code, out, _ = call("summary", "inception_v3", "--format", "markdown")
    assert "| inception | Mixed_7c |  | 8x8x2048 | 3 |" in out
    assert "| auxiliary convolution | AuxLogits_Conv2d_2a_5x5 | 5x5/1 | 1x1x768 | 1 |" in out
    assert "| 27,179,376 |" in out  # the documents' 23,851,784 and 3,327,592
    assert "Table 2 misprints conv3" in out
    code, out, err = call("summary", "inception_v3", "--format", "json")
    assert json.loads(out)[-1]["name"] == "AuxLogits"
    assert "46 layers is a misprint" in err


def test_evaluate_prints_and_writes_the_same(call, run_folder, tmp_path):
    report = tmp_path / "scores.json"
    code, out, _ = call("evaluate", run_folder, "--data", "digits", "--json", report)
    result = json.loads(report.read_text())
    assert code == 0
    assert (result["images"], result["skipped"], result["crops"]) == (360, 0, 1)
    low, high = result["top1_interval"]
    assert 0 < low < result["top1"] < high < 1
    assert (
        f"top1: {result['top1']:.2%} accuracy, {1 - result['top1']:.2%} error"
        f" (95 %: {1 - high:.2%} to {1 - low:.2%})"
    ) in out
    assert "images: 360, skipped: 0" in out
    trained = json.loads((run_folder / "report.json").read_text())
    assert result["top1"] == pytest.approx(trained["last"]["val_top1"], abs=0.01)


def test_several_networks_make_the_documents_table_and_an_ensemble(call, run_folder, tmp_path):
    report = tmp_path / "scores.json"
    code, out, _ = call(
        *("evaluate", run_folder, run_folder, "--data", "digits"),
        *("--json", report, "--per-class", "--confusion", tmp_path / "confusion.png"),
    )
    assert code == 0
    header, *rows = (re.split(r"\s\s+", line.strip()) for line in out.split("\n\n")[0].splitlines())
    assert header == ["model", "resolution", "crops", "models", "top-1 error", "top-5 error"]
    assert [(row[0], row[3]) for row in rows] == [
        ("inception_v1", "1"),
        ("inception_v1", "1"),
        ("ensemble", "2"),
    ]
    result = json.loads(report.read_text())
    assert [member["model"] for member in result["members"]] == ["inception_v1"] * 2
    assert rows[0][4] == f"{1 - result['members'][0]['top1']:.2%}"
    assert rows[2][4] == f"{1 - result['top1']:.2%}"
    by_class = [line.split() for line in out.split("\n\n")[1].splitlines()[1:]]
    assert sum(int(row[1]) for row in by_class) == 360
    assert (tmp_path / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_images_that_cannot_be_read_are_named_by_evaluate_of_another_split_with_ten_crops(
    call, run_folder, tmp_path
):
    folder = tmp_path / "ten"
    for digit in range(10):
        (folder / str(digit)).mkdir(parents=True)
        for number in range(3):
            pixels = tf.io.encode_jpeg(np.full((8, 8, 3), number, np.uint8)).numpy()
            (folder / str(digit) / f"{number}.jpg").write_bytes(pixels)
    (folder / "7" / "1.jpg").write_bytes(b"%PDF-1.7")
    words = ["evaluate", run_folder, "--data", f"folder:{folder}", "--split", "all"]
    report = tmp_path / "scores.json"
    code, out, _ = call(*words, "--max-bad", "0.1", "--crops", "10", "--json", report)
    assert code == 0
    assert (
        f"images: 29, skipped: 1\n  {folder}/7/1.jpg: not a JPEG, PNG, WebP, BMP or GIF image"
        in out
    )
    result = json.loads(report.read_text())
    assert (result["images"], result["crops"]) == (29, 10)
    assert result["skipped_images"] == {
        f"{folder}/7/1.jpg": "not a JPEG, PNG, WebP, BMP or GIF image"
    }
    code, _, err = call(*words)
    assert code == 2
    assert "1 of 30 images cannot be read, more than 1.00%: " in err


def test_a_run_of_other_classes_does_not_fit_the_data(call, run_folder, class_folders):
    folder = class_folders(blue=4, red=4)
    code, _, err = call("evaluate", run_folder, "--data", f"folder:{folder}")
    assert code == 2
    assert "has 10 classes and the data has 2" in err


def test_weights_of_another_class_count_are_refused(call, class_folders):
    folder = class_folders(blue=4, red=4)
    file = folder.parent / "ten.weights.h5"
    create_model("inception_v1", classes=10).save_weights(file)
    code, _, err = call("evaluate", file, "--model", "inception_v1", "--data", f"folder:{folder}")
    assert code == 2
    assert "has 10 classes and the data has 2" in err


def test_weights_need_a_network_and_data(call, run_folder):
    file = run_folder / "model.keras"
    code, _, err = call("evaluate", file, "--model", "inception_v1")
    assert (code, "say with --data what to evaluate it on" in err) == (2, True)
    # It says which network it is of, and that this one is narrow.
    code, _, _ = call("evaluate", file, "--data", "digits")
    assert code == 0
    words = ["--model", "inception_v1", "--model", "inception_v3", "--data", "digits"]
    code, _, err = call("evaluate", file, *words)
    assert (code, "once for all files or once for each, got 2 for 1 files" in err) == (2, True)


def test_an_export_with_its_features_passes_every_check_beside_its_run(call, saved_model):
    code, out, err = call("verify", saved_model)
    assert (code, err) == (0, "")
    assert "FAILED" not in out
    assert "not done" not in out
    assert re.search(r"^signatures .*features", out, re.M)


def test_predict_gives_the_same_from_run_and_saved_model(call, run_folder, saved_model, image):
    answers = []
    for path in (run_folder, saved_model / "1"):
        code, out, err = call("predict", path, image, "--top", "3", "--json")
        assert (code, err) == (0, "")
        answers.append(json.loads(out)[0])
    assert [len(answer["top"]) for answer in answers] == [3, 3]
    for one, other in zip(*(answer["top"] for answer in answers), strict=True):
        assert one["label"] == other["label"]
        assert one["score"] == pytest.approx(other["score"], abs=1e-4)


def test_what_is_no_image_is_named_and_the_others_are_answered(call, saved_model, image, tmp_path):
    text = tmp_path / "text.png"
    text.write_text("no image")
    code, out, err = call("predict", saved_model, text, image, tmp_path / "missing.png")
    assert code == 2
    assert "gray.jpg" in out
    assert err.splitlines() == [
        f"inception-tf: {text}: not a JPEG, PNG, WebP, BMP or GIF image",
        f"inception-tf: {tmp_path / 'missing.png'}: cannot be read: No such file or directory",
    ]


def test_too_many_images_that_cannot_be_read_stop_a_training_with_their_names(
    call, class_folders, tmp_path
):
    folder = class_folders(blue=4, red=4)
    for bad in folder.glob("red/*.jpg"):
        bad.write_bytes(b"no image at all")
    words = (
        f"train --model googlenet --data folder:{folder} --out {tmp_path / 'run'} --batch-size 4"
    )
    with only("googlenet", "Conv2d_1a_7x7"):
        code, _, err = call(*words.split(), "--size", 32, "--set", "model.width_multiplier=0.1")
    assert code == 2
    assert re.search(
        r"inception-tf: [1-4] of \d images cannot be read, more than 1.00%:"
        r" .*red/\d\.jpg \(not a JPEG, PNG, WebP, BMP or GIF image\);",
        err,
    )


def test_common_settings_have_words_of_their_own(tmp_path):
    config = resolve_config(
        *("googlenet", "digits", None, tmp_path, ["data.crop=0.5"]),
        weights="it's.h5",
        size=64,
        batch_size=8,
        label_offset=0,
        seed=None,
        learning_rate=1e-3,
        epochs=9,
        precision="float32",
    )
    assert (config.model.weights, config.model.size) == ("it's.h5", 64)
    assert (config.data.batch_size, config.data.crop) == (8, 0.5)
    assert (config.optimizer.learning_rate, config.training.epochs) == (0.001, 9)
    assert (config.training.precision, config.training.seed) == ("float32", 0)


def test_weights_choose_the_recipe_for_them(tmp_path):
    assert resolve_config(None, "digits", None, tmp_path, weights="x.h5").recipe == "finetune"
    assert resolve_config(None, "digits", None, tmp_path).recipe == "default"
    assert resolve_config(None, "digits", "slim", tmp_path, weights="x.h5").recipe == "slim"


def test_without_a_name_the_network_is_the_recipe_s_or_inception_v3(tmp_path):
    assert resolve_config(None, "digits", None, tmp_path).model.name == "inception_v3"
    assert resolve_config(None, "digits", "bn-x5", tmp_path).model.name == "bn_inception"


@pytest.mark.parametrize(
    ("data", "folder"),
    [
        ("digits", "runs/digits"),
        ("folder:some where/photos/", "runs/photos"),
        ("tfds:cifar10/3.0.2", "runs/cifar10"),
        ("csv:lists/photos.csv", "runs/photos"),
        ("tfrecord:records/flowers/train-*", "runs/flowers"),
    ],
)
def test_a_run_is_named_after_its_data(data, folder):
    assert default_run_folder(data) == folder


def test_without_out_a_run_goes_into_the_folder_of_that_name(call, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "digits").mkdir(parents=True)
    (tmp_path / "runs" / "digits" / "config.yaml").touch()
    code, _, err = call("train", "--data", "digits", "--model", "inception_v1")
    assert (code, err.count("runs/digits already holds a run; add --resume")) == (2, 1)


def test_an_evaluation_names_every_image_draws_its_mistakes_and_judges_each_class(
    call, run_folder, tmp_path
):
    files = {
        "--json": "report.json",
        "--predictions": "rows.csv",
        "--mistakes": "mistakes.png",
        "--reliability": "reliability.png",
    }
    options = [word for option, name in files.items() for word in (option, tmp_path / name)]
    code, out, err = call("evaluate", run_folder, "--per-class", *options)
    assert code == 0, err
    report = json.loads((tmp_path / "report.json").read_text())
    assert len(report["classes"]) == 10
    assert np.shape(report["confusion"]) == (10, 10)
    assert np.trace(report["confusion"]) == round(report["top1"] * report["images"])
    assert 0 <= report["expected_calibration_error"] <= 1
    assert report["temperature"] == 1
    with open(tmp_path / "rows.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == report["images"] == 360
    right = sum(row["correct"] == "True" for row in rows)
    assert right == round(report["top1"] * 360)
    assert len({row["path"] for row in rows}) == 360
    for name in ("mistakes.png", "reliability.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert re.search(r"^class +images +recall +precision +f1 +top-5$", out, re.M)


def test_an_answer_is_explained_by_a_picture(call, run_folder, tmp_path):
    for name in ("one/digit.jpg", "two/digit.jpg", "two/broken.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        drawn = np.zeros((8, 8, 1), np.uint8)
        drawn[1:7, 3:5] = 255
        data = b"broken" if "broken" in name else tf.io.encode_jpeg(drawn).numpy()
        (tmp_path / name).write_bytes(data)
    heat = tmp_path / "heat"
    code, out, err = call("predict", run_folder, tmp_path, "--top", 1, "--explain", heat)
    assert code == 2, err  # one image is broken
    assert "two/broken.jpg: not a" in err
    assert sorted(path.name for path in heat.iterdir()) == ["digit-2.png", "digit.png"]
    assert out.count("digit.jpg") == 2
    code, _, err = call(
        *("predict", run_folder, tmp_path / "one", "--explain", heat, "--endpoint", "Mixed_5z")
    )
    assert (code, "did you mean" in err) == (2, True)


def test_weights_of_a_file_classify_images(call, tmp_path, image):
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    words = ("predict", tmp_path / "mine.keras", image, "--labels", tmp_path / "names.txt")
    with only("inception_v1", "Conv2d_1a_7x7"):
        create_model("inception_v1", classes=2).save(tmp_path / "mine.keras")
        code, out, err = call(*words, "--model", "inception_v1")
    assert code == 0, err
    assert {line.split()[1] for line in out.splitlines()[1:]} == {"cat", "dog"}


def test_a_temperature_is_kept_in_the_run_and_lowers_the_error(call, run_folder, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(run_folder, run)
    code, out, err = call("evaluate", run, "--temperature", "--json", tmp_path / "before.json")
    assert code == 0, err
    found = re.search(r"temperature: ([\d.]+), kept in .*falls from ([\d.]+)% to ([\d.]+)%", out)
    fitted, before, after = map(float, found.groups())
    assert fitted != 1
    code, _, _ = call("evaluate", run, "--json", tmp_path / "after.json")
    first, second = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("before", "after"))
    assert second["temperature"] == pytest.approx(fitted, abs=1e-3)
    assert second["top1"] == first["top1"]
    assert 100 * first["expected_calibration_error"] == pytest.approx(before, abs=0.006)
    assert 100 * second["expected_calibration_error"] == pytest.approx(after, abs=0.006)
    # An export of before has other probabilities, of which `verify` is to say why.
    exported = Origin.from_files(run, run / "model.keras")
    assert exported.temperature == pytest.approx(fitted, abs=1e-3)
    assert exported.is_unchanged()
    assert not dataclasses.replace(exported, temperature=1.0).is_unchanged()
    # Fitted again it is the same, and not the square.
    code, out, _ = call("evaluate", run, "--temperature")
    again = float(re.search(r"temperature: ([\d.]+)", out)[1])
    assert again == pytest.approx(fitted, rel=1e-3)


def test_recipes_lists_every_recipe_and_every_key(call):
    code, out, _ = call("recipes")
    assert code == 0
    names = [line.split()[0] for line in out.splitlines()[1:]]
    assert names == list_recipes()
    code, out, _ = call("recipes", "slim")
    assert code == 0
    assert "optimizer.epsilon" in out
    assert re.search(r"^training.epochs +100 +epochs +passes over the training images$", out, re.M)
    code, out, _ = call("recipes", "slim", "--json")
    assert json.loads(out)["optimizer.name"][0] == "rmsprop"
    assert json.loads(out).keys() == Config.settings().keys()


def test_a_dry_run_tells_configuration_size_memory_and_steps_and_writes_nothing(call, tmp_path):
    code, out, err = call(
        *f"train --model inception_v3 --data digits --out {tmp_path / 'run'} --dry-run".split(),
        *["--precision", "float32", "--set", "training.epochs=3"],
    )
    assert (code, err) == (0, "")
    # 21,802,784 of keras.applications' V3 less its 1,000-class head, and a head of 2,048 x 10 + 10.
    assert "inception_v3 at 299x299: 21,823,274 parameters, 21,788,842 of them trained" in out
    assert "float32: as asked for" in out
    assert "1,437 images, 10 classes: 44 steps per epoch, 132 in total" in out
    assert re.search(r"memory: about [\d,]+ MiB \(weights [\d,]+ MiB, gradients 83 MiB, act", out)
    assert yaml.safe_load(out.split("\n\n")[0])["optimizer"]["name"] == "adam"
    assert not (tmp_path / "run").exists()


WITHOUT_A_FRAMEWORK = """
import sys
from inception_tf import cli
for words in sys.argv[1].splitlines():
    assert cli.main(words.split()) == 2, words
    assert not {"tensorflow", "keras", "numpy"} & set(sys.modules), words
for words in sys.argv[2].splitlines():  # NumPy takes a thirtieth of the time
    assert cli.main(words.split()) == 2, words
    assert not {"tensorflow", "keras"} & set(sys.modules), words
"""


def test_a_wrong_path_is_found_before_anything_is_imported_or_done(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "closed").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    alone = f"""
predict {tmp_path}/no x.png
verify {tmp_path}/no
export {tmp_path}/no
export {tmp_path} --labels {tmp_path}/no
export {tmp_path} --to {tmp_path}/file
evaluate {tmp_path} {tmp_path}/no
evaluate {tmp_path} --json {tmp_path}/no/x.json
evaluate {tmp_path} --confusion {tmp_path}
convert --model inception_v1 --source slim {tmp_path}/no {tmp_path}/x.weights.h5
convert --model inception_v1 --source slim {tmp_path}/file {tmp_path}/no/x.weights.h5
demo {tmp_path}/no
batch-predict {tmp_path}/no --input x --output y.parquet
benchmark forward --json {tmp_path}
benchmark forward --plot {tmp_path}/no/x.png
benchmark start-up {tmp_path}/no x.png
data digits --preview {tmp_path}/no/x.png
train --model inception_v1 --data digits --out {tmp_path}/file
experiment bn-mnist --out {tmp_path}/file
experiment bn-mnist --steps 0 --out {tmp_path}/new
experiment bn-variants --data no --out {tmp_path}/new
experiment ensemble --data folder:{tmp_path}/no --out {tmp_path}/new
experiment domain --data digit --out {tmp_path}/new
evaluate {tmp_path} --data {tmp_path}
evaluate {tmp_path} --data folder:{tmp_path}/file
export {tmp_path} --data csv:{tmp_path}/no.csv
recalibrate {tmp_path} --data tfrecord:{tmp_path}/no* --batches 2 --to {tmp_path}/new
recalibrate {tmp_path} --data digits --batches 2 --to {tmp_path}/full
benchmark exports {tmp_path} --data tfds:
benchmark data --data folder:
train --model inception_v1 --data folder:{tmp_path}/no --out {tmp_path}/new
train --model inception_v1 --data digits --weights {tmp_path}/no --out {tmp_path}/new
train --model inception_v1 --data digits --weights no.weights.h5 --out {tmp_path}/new
"""
    with_numpy = f"""
fid {tmp_path} {tmp_path} --weights no.pth
predict {tmp_path}/closed {tmp_path}/no.png
verify {tmp_path}/closed
train --model inception_v1 --data digits --weights imagnet --out {tmp_path}/new
train --model inception_v1 --data digits --set model.weights=no.h5 --out {tmp_path}/new
train --model inception_v1 --data digits --set data.name=folder:no --out {tmp_path}/new
"""
    alone, with_numpy = alone.strip(), with_numpy.strip()
    child = subprocess.run(
        [sys.executable, "-c", WITHOUT_A_FRAMEWORK, alone, with_numpy],
        text=True,
        capture_output=True,
    )
    assert child.returncode == 0, child.stderr
    told = child.stderr.splitlines()
    assert len(told) == len(alone.splitlines()) + len(with_numpy.splitlines())
    assert all(line.startswith("inception-tf: ") for line in told)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_may_not_be_written_to_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(paths.os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(UserError, match=r"^cannot write .*x.json: the folder .* is not writable"):
        paths.OUTPUT_FILE.convert(str(tmp_path / "x.json"), None, None)


@pytest.mark.parametrize("words", [(), ("benchmark",), ("experiment",)])
def test_a_group_of_commands_alone_prints_its_help(call, words):
    code, out, err = call(*words)
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: {' '.join(('inception-tf', *words))} [OPTIONS] COMMAND")
    assert "Commands:" in out


def test_debug_behind_two_dashes_is_an_argument(call):
    code, _, err = call("summary", "--", "--debug")
    assert code == 2
    assert "unknown network '--debug'" in err
    assert "Traceback" not in err
