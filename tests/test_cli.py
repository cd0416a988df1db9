# SPDX-License-Identifier: Apache-2.0
"""The commands as a user types them: output, sentences, exit codes."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import tensorflow as tf

from inception_tf import cli


@pytest.fixture
def call(capfd):
    """Runs a command and returns (exit code, stdout, stderr)."""

    def run(*words):
        code = cli.main([str(word) for word in words])
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """One short training on digits, through the command."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    words = "train --model inception_v1 --data digits --recipe digits --set model.size=32"
    words += (
        " --set model.width_multiplier=0.25 --set training.epochs=3 --set data.batch_size=64 --out"
    )
    assert cli.main([*words.split(), str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def saved_model(run_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved_models") / "digits"
    assert cli.main(["export", str(run_folder), "--to", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "gray.png"
    path.write_bytes(tf.io.encode_png(tf.fill((20, 20, 1), tf.constant(128, tf.uint8))).numpy())
    return path


@pytest.mark.parametrize("name", ["", *sorted(cli.COMMANDS), "benchmark forward"])
def test_help_says_what_the_command_does_and_gives_a_line_to_paste(call, name):
    code, out, err = call(*name.split(), "--help")
    assert (code, err) == (0, "")
    assert f"inception-tf {name}" in out
    assert re.search(r"^  inception-tf \w", out, re.M), "no example"


@pytest.mark.parametrize("name", ["", *sorted(cli.COMMANDS)])
def test_help_answers_within_half_a_second(name):
    command = [sys.executable, "-m", "inception_tf", *name.split(), "--help"]
    times = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - started)
    assert min(times) < 0.5


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("trian", "unknown command 'trian'; known: benchmark, .*; did you mean 'train'?"),
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
        ("train --model inception_v1 --data digits", "missing option '--out'"),
        ("train --out {tmp}/x --data digits", "train needs --model"),
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
            "train --out {tmp}/x --model inception_v1 --data digits --set a=1",
            "--set takes section.key=value",
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
        ("predict {tmp}/no x.png", "is not a folder"),
        ("export {tmp}", "is no run folder"),
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


def test_a_place_that_cannot_be_written_is_named(call):
    words = "benchmark forward --model inception_v1 --size 32 --batch-size 1 --steps 1 --json"
    code, _, err = call(*words.split(), "/proc/times.json")
    assert code == 2
    assert re.fullmatch(r"inception-tf: /proc/.*: No such file or directory\n", err)


def test_ctrl_c_saves_and_resume_goes_on(call, run_folder, tmp_path):
    """The real thing: a process, a signal, a second process."""
    words = "train --model inception_v1 --data digits --recipe digits --set model.size=32"
    words += f" --set model.width_multiplier=0.25 --set training.epochs=50 --out {tmp_path / 'run'}"
    process = subprocess.Popen(
        [sys.executable, "-m", "inception_tf", *words.split()],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    until(lambda: (tmp_path / "run" / "history.csv").exists() or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    sentence = err.splitlines()[-1]
    stopped = re.match(
        r"inception-tf: stopped at step (\d+), saved; go on with: inception-tf (.*)", sentence
    )
    assert stopped, sentence
    newest = max(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert newest == f"step-{int(stopped[1]):08d}"

    code, _, err = call(*stopped[2].split(), "--set", "training.epochs=2")
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
    assert rows["Mixed_3b"]["output size"] == "28x28x256"
    assert (rows["Mixed_3b"]["#3x3 reduce"], rows["Mixed_3b"]["#3x3"]) == (96, 128)
    assert rows["Conv2d_2c_3x3"]["depth"] == 2
    code, out, _ = call("summary", "inception_v3", "--format", "markdown")
    assert "| inception | Mixed_7c |  | 8x8x2048 | 3 |" in out


def test_evaluate_prints_and_writes_the_same(call, run_folder, tmp_path):
    report = tmp_path / "scores.json"
    code, out, err = call("evaluate", run_folder, "--data", "digits", "--json", report)
    result = json.loads(report.read_text())
    assert (code, err) == (0, "")
    assert result.keys() == {"top1", "top5", "images", "skipped"}
    assert (result["images"], result["skipped"]) == (360, 0)
    assert f"top1: {result['top1']:.2%} accuracy" in out
    trained = json.loads((run_folder / "report.json").read_text())
    assert result["top1"] == pytest.approx(trained["last"]["val_top1"], abs=0.01)


def test_a_run_of_other_classes_does_not_fit_the_data(call, run_folder, class_folders):
    folder = class_folders(blue=4, red=4)
    code, _, err = call("evaluate", run_folder, "--data", f"folder:{folder}")
    assert code == 2
    assert "has 10 classes and the data has 2" in err


def test_weights_of_another_class_count_are_refused(call, run_folder, class_folders):
    folder = class_folders(blue=4, red=4)
    code, _, err = call(
        "evaluate",
        run_folder / "model.keras",
        "--model",
        "inception_v1",
        "--data",
        f"folder:{folder}",
    )
    assert code == 2
    assert len(err.splitlines()) == 1


def test_an_export_verifies(call, saved_model):
    code, out, err = call("verify", saved_model)
    assert (code, err) == (0, "")
    assert "FAILED" not in out


def test_predict_gives_the_same_from_run_and_saved_model(call, run_folder, saved_model, image):
    answers = []
    for path in (run_folder, saved_model, saved_model / "1"):
        code, out, err = call("predict", path, image, "--top", "3", "--json")
        assert (code, err) == (0, "")
        answers.append(json.loads(out)[0])
    assert [len(answer["top"]) for answer in answers] == [3, 3, 3]
    for answer in answers[1:]:
        for one, other in zip(answers[0]["top"], answer["top"], strict=True):
            assert one["label"] == other["label"]
            assert one["score"] == pytest.approx(other["score"], abs=1e-4)


def test_what_is_no_image_is_named_and_the_others_are_answered(call, saved_model, image, tmp_path):
    text = tmp_path / "text.png"
    text.write_text("no image")
    code, out, err = call("predict", saved_model, text, image, tmp_path / "missing.png")
    assert code == 2
    assert "gray.png" in out
    assert err.splitlines() == [
        f"inception-tf: {text}: not a JPEG or PNG image",
        f"inception-tf: {tmp_path / 'missing.png'}: cannot be read: No such file or directory",
    ]


def test_an_image_that_is_none_stops_a_training_with_its_name(call, class_folders, tmp_path):
    folder = class_folders(blue=4, red=4)
    for bad in folder.glob("red/*.png"):
        bad.write_bytes(b"no image at all")
    code, _, err = call(
        *f"train --model inception_v1 --data folder:{folder} --out {tmp_path / 'run'}".split(),
        *[
            "--set",
            "model.size=32",
            "--set",
            "data.batch_size=4",
            "--set",
            "model.width_multiplier=0.25",
        ],
    )
    assert code == 2
    assert re.search(
        r"inception-tf: an image cannot be read: .*red/\d\.png: not a JPEG or PNG image;", err
    )
