# SPDX-License-Identifier: Apache-2.0
"""Very many images: each answered once, in whole files, whatever is killed on the way."""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import itertools
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import warnings
from pathlib import Path

import grpc
import keras
import psutil
import pyarrow.parquet
import pytest
import ramps
from no_pictures import save_without_pictures

from inception_tf import UserError, cli
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.export.savedmodel import export
from inception_tf.serving.predict import predict

with warnings.catch_warnings():
    # Beam's and Google's packages warn of parts of theirs that are not installed.
    warnings.simplefilter("ignore")
    from apache_beam.io.filesystem import FileMetadata, MatchResult
    from apache_beam.io.localfilesystem import LocalFileSystem
    from apache_beam.runners.portability.fn_api_runner import worker_handlers
    from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

    from inception_tf.serving.batch import pipeline, runner, shards
    from inception_tf.serving.batch.pipeline import PredictShard, batch_predict

SIZE = 32
LABELS = ("tabby cat", "crane", "Ärmel", "rose", "wing", "fig")
SETTINGS = {"top": 2, "shard_size": 10, "batch_size": 4}


def network(seed: int = 0) -> keras.Model:
    images = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(8, 5, 4, name="conv")(images)
    x = keras.layers.GlobalMaxPooling2D()(x)
    model = keras.Model(images, keras.layers.Dense(len(LABELS), "softmax", name="logits")(x))
    for weight in model.weights:
        weight.assign(ramps.weight(f"{seed} {weight.path}", tuple(weight.shape)))
    return model


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return export(
        network(), LABELS, tmp_path_factory.mktemp("models") / "small", Preprocessing(SIZE)
    )


@pytest.fixture(scope="module")
def photos(test_data, tmp_path_factory):
    """A function that makes a folder of so many flowers, every 25th a file that TensorFlow cannot read."""
    good = sorted((test_data / "flowers12").rglob("*.jpg"))
    with (test_data / "bad_images/manifest_small.csv").open() as file:
        bad = [row["file"] for row in csv.DictReader(file) if row["tf_decode_image"] != "ok"]

    def make(count: int) -> Path:
        folder = tmp_path_factory.mktemp("photos")
        broken = itertools.cycle(test_data / "bad_images" / name for name in bad)
        for number, path in zip(range(count), itertools.cycle(good), strict=False):
            path = next(broken) if number % 25 == 7 else path
            (folder / f"{number:04}{path.suffix}").symlink_to(path)
        return folder

    return make


@pytest.fixture(scope="module")
def sixty(photos) -> Path:
    return photos(60)


@pytest.fixture(scope="module", autouse=True)
def each_model_is_opened_once():
    """In this process, for all calls of these tests: it is read in two seconds, and never changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "open_model", functools.cache(pipeline.open_model))
        yield


@pytest.fixture(scope="module")
def finish(model, sixty, tmp_path_factory):
    """A function of an ending: the prediction of sixty images in six shards, and its folder, not to be changed."""

    @functools.cache
    def predicted(ending: str):
        folder = tmp_path_factory.mktemp("finished")
        return batch_predict(model, f"{sixty}/*", f"{folder}/p.{ending}", **SETTINGS), folder

    return predicted


@pytest.fixture
def copy(finish, ending, tmp_path) -> Path:
    """The finished prediction again, to be changed."""
    return Path(shutil.copytree(finish(ending)[1], tmp_path / "copy"))


BOTH = pytest.mark.parametrize("ending", ["parquet", "jsonl"])


def call(*words, **settings) -> subprocess.Popen:
    """The command in a process of its own, which Ctrl-C reaches however the tests were started."""
    return subprocess.Popen(
        [sys.executable, "-m", "inception_tf", "batch-predict", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        **settings,
    )


def until(condition, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def rows(folder: Path, pattern: str) -> list[dict]:
    """All rows of the files that match, in the order of the files' names."""
    found = []
    for path in sorted(folder.glob(pattern)):
        if path.suffix == ".parquet":
            found += pyarrow.parquet.read_table(path).to_pylist()
        else:
            found += map(json.loads, path.read_text("utf-8").splitlines())
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_beams_servers_are_reached_from_this_machine_alone_and_grpc_stays_as_it_is(monkeypatch):
    class Server:
        def add_insecure_port(self, address: str) -> str:
            return address

    monkeypatch.setattr(grpc, "server", lambda pool: Server())
    make = grpc.server
    with runner._on_loopback():
        assert grpc.server is make
        assert worker_handlers.grpc.server(None).add_insecure_port("[::]:0") == "127.0.0.1:0"
    assert worker_handlers.grpc is grpc


def test_beams_module_is_as_before_after_a_failure():
    def fail():
        with runner._on_loopback():
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert worker_handlers.grpc is grpc


@functools.cache
def predicted(model: Path, images: Path) -> dict:
    """What `predict` says of each image."""
    return {a.image: a for a in predict(model, sorted(map(str, images.iterdir())), top=2)}


def is_each_once(out: Path, images: Path, model: Path, ending: str) -> None:
    """Every image has one row, good ones and bad ones apart, with what `predict` says of it."""
    expected = predicted(model, images)
    good, bad = rows(out, f"p-0*.{ending}"), rows(out, "p-bad-*.jsonl")
    assert [row["path"] for row in good] == [p for p, a in expected.items() if a.status == "ok"]
    assert {row["path"]: row["status"] for row in bad} == {
        path: answer.status for path, answer in expected.items() if answer.status != "ok"
    }
    assert len(bad) == sum(a.status != "ok" for a in expected.values()) > 0
    for row in good:
        assert row["status"] == "ok"
        assert row["labels"] == [label for label, _ in expected[row["path"]].top]
        scores = [score for _, score in expected[row["path"]].top]
        assert row["scores"] == pytest.approx(scores, abs=1e-6)


@BOTH
def test_each_image_has_one_row_and_bad_ones_lie_apart(model, sixty, finish, ending):
    result, folder = finish(ending)
    is_each_once(folder, sixty, model, ending)
    parts = [f"p-0000{i}-of-00006.{ending}" for i in range(6)]
    bad = [f"p-bad-0000{i}-of-00006.jsonl" for i in range(6)]
    assert sorted(contents(folder)) == sorted([*parts, *bad, "p-images.jsonl", "p-plan.json"])
    assert (result.images, result.shards, result.skipped, result.predicted) == (60, 6, 0, 60)
    assert result.parts == f"{folder}/p-*-of-00006.{ending}"
    assert result.bad == len(rows(folder, "p-bad-*"))


@BOTH
def test_a_second_call_does_nothing(model, sixty, finish, ending):
    first, folder = finish(ending)
    written = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    again = batch_predict(model, f"{sixty}/*", f"{folder}/p.{ending}", **SETTINGS)
    assert (again.skipped, again.predicted, again.bad) == (6, 0, first.bad)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == written


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flip(data: bytes) -> bytes:
    """One bit of a score, after which the file can be read."""
    scores = pyarrow.parquet.read_table(io.BytesIO(data))["scores"].to_pylist()
    place = data.index(struct.pack("<f", scores[0][0]))
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


DAMAGES = {
    "cut": ("p-00001", cut),
    "empty": ("p-00002", lambda data: b""),
    "a flipped bit": ("p-00003", flip),
    "the bad images cut": ("p-bad-00000", cut),
    "bad images of another kind": ("p-bad-00004", lambda data: b"[1]\n"),
}


@BOTH
def test_a_shard_that_cannot_be_read_is_written_again(model, sixty, copy, ending):
    before = contents(copy)
    # Lines have no checksum.
    names = [name for name in DAMAGES if (ending, name) != ("jsonl", "a flipped bit")]
    for start, damage in map(DAMAGES.get, names):
        [path] = copy.glob(f"{start}-*")
        assert damage(path.read_bytes()) != path.read_bytes()
        path.write_bytes(damage(path.read_bytes()))
    again = batch_predict(model, f"{sixty}/*", f"{copy}/p.{ending}", **SETTINGS)
    count = len(names)
    assert (again.skipped, again.damaged, again.predicted) == (6 - count, count, 10 * count)
    assert contents(copy) == before


@BOTH
def test_a_shard_without_one_of_its_files_or_with_another_shards_is_written_again(
    model, sixty, copy, ending
):
    before = contents(copy)
    (copy / f"p-00001-of-00006.{ending}").unlink()
    (copy / "p-bad-00003-of-00006.jsonl").unlink()
    shutil.copy(copy / f"p-00000-of-00006.{ending}", copy / f"p-00005-of-00006.{ending}")
    again = batch_predict(model, f"{sixty}/*", f"{copy}/p.{ending}", **SETTINGS)
    assert (again.skipped, again.damaged, again.predicted) == (3, 2, 30)
    assert contents(copy) == before


def test_pipes_devices_and_links_to_themselves_are_bad_images_at_once(
    model, sixty, tmp_path, capfd
):
    images = tmp_path / "images"
    images.mkdir()
    shutil.copy(sixty / "0000.jpg", images / "a.jpg")
    os.mkfifo(images / "b.jpg")
    (images / "c.jpg").symlink_to("/dev/zero")
    (images / "d.jpg").symlink_to(images / "b.jpg")
    words = ["batch-predict", str(model), "--input", f"{images}/*.jpg"]
    words += ["--output", f"{tmp_path}/out/p.jsonl"]
    assert cli.main(words) == 2
    out, err = capfd.readouterr()
    assert "images  4: 1 ok, 3 bad\n" in out
    assert err == (
        "inception-tf: 3 of 4 images cannot be read;"
        f" {tmp_path}/out/p-bad-*-of-00001.jsonl has the reasons\n"
    )
    assert {row["path"][-5:]: row["status"] for row in rows(tmp_path / "out", "p-bad-*")} == {
        "b.jpg": "cannot be read: it is a named pipe",
        "c.jpg": "cannot be read: it is a device",
        "d.jpg": "cannot be read: it is a named pipe",
    }


def test_no_word_where_all_images_are_read_and_one_where_a_shard_was_not(
    model, sixty, tmp_path, capfd
):
    words = ["batch-predict", str(model), "--input", f"{sixty}/0000.jpg"]
    words += ["--output", f"{tmp_path}/p.jsonl"]
    assert cli.main(words) == 0
    assert capfd.readouterr().err == ""
    part = tmp_path / "p-00000-of-00001.jsonl"
    part.write_bytes(b"")
    assert cli.main(words) == 0
    assert "files of 1 shards could not be read" in capfd.readouterr().err


def test_two_attempts_at_once_leave_one_whole_file(tmp_path):
    output = shards.parse_output(f"{tmp_path}/p.jsonl")
    path = output.part(0, 1)
    with shards.atomic_file(output, path) as one, shards.atomic_file(output, path) as other:
        for file in (one, other):
            file.write(b"the same\n")
    shards.remove_unfinished(output)
    assert contents(tmp_path) == {"p-00000-of-00001.jsonl": b"the same\n"}


@pytest.fixture
def one_shard(model, sixty, tmp_path):
    """A shard of four images that were begun, and the step that predicts it."""
    images = tmp_path / "images"
    images.mkdir()
    for name in ("0000.jpg", "0001.jpg", "0002.jpg", "0003.jpg"):
        shutil.copy(sixty / name, images)
    output = shards.parse_output(f"{tmp_path}/out/p.jsonl")
    lines = shards.list_images(f"{images}/*", output)
    plan = shards.BatchPlan(len(lines), shards.hash_image_list(lines), "model", "jsonl", 2, 10)
    (shard,) = shards.start_or_resume(output, plan, lines)
    step = PredictShard(str(model), output, plan, 3)
    step.setup()
    return images, shard, lambda: list(step.process(shard))


def test_an_image_that_is_gone_when_its_turn_comes_is_a_bad_one(one_shard, tmp_path):
    images, _, process = one_shard
    (images / "0002.jpg").unlink()
    process()
    assert rows(tmp_path / "out", "p-bad-*") == [
        {"path": f"{images}/0002.jpg", "status": "cannot be read: No such file or directory"}
    ]
    assert len(rows(tmp_path / "out", "p-0*")) == 3


def test_a_shard_that_another_attempt_finished_is_left(one_shard, tmp_path):
    _, _, process = one_shard
    process()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    process()
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


@BOTH
def test_a_name_that_is_no_utf_8_is_written_with_its_bytes(model, sixty, tmp_path, ending):
    odd = os.fsdecode(bytes(tmp_path) + b"/odd-\xff.jpg")
    shutil.copy(sixty / "0000.jpg", odd)
    batch_predict(model, f"{tmp_path}/*.jpg", f"{tmp_path}/out/p.{ending}")
    (row,) = rows(tmp_path / "out", "p-0*")
    assert row["path"] == f"{tmp_path}/odd-\\xff.jpg"


class Upload(io.BytesIO):
    """A file in an object store: it is there when it is closed."""

    def __init__(self, path: str):
        super().__init__()
        self.path = path

    def close(self):
        if not self.closed:
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            Path(self.path).write_bytes(self.getvalue())
        super().close()


class Far(LocalFileSystem):
    """`far://PATH`: another of Beam's file systems, with the files of this one."""

    @classmethod
    def scheme(cls):
        return "far"

    def create(self, path, *_):
        return Upload(here(path))

    def open(self, path, *arguments):
        return super().open(here(path), *arguments)

    def exists(self, path):
        return super().exists(here(path))

    def rename(self, sources, destinations):
        super().rename([*map(here, sources)], [*map(here, destinations)])

    def delete(self, paths):
        super().delete([*map(here, paths)])

    def match(self, patterns, limits=None):
        if not any(pattern.startswith("far:") for pattern in patterns):
            return super().match(patterns, limits)
        (found,) = super().match([*map(here, patterns)])
        return [
            MatchResult(
                found.pattern,
                [
                    FileMetadata(f"far:/{file.path}", file.size_in_bytes)
                    for file in found.metadata_list
                ],
            )
        ]


def here(path: str) -> str:
    return path.removeprefix("far:/")


def test_images_and_files_may_lie_in_any_file_system_that_beam_has(model, sixty, finish, tmp_path):
    batch_predict(model, f"far:/{sixty}/*", f"far:/{tmp_path}/far/p.jsonl", **SETTINGS)
    near, far = (contents(folder) for folder in (finish("jsonl")[1], tmp_path / "far"))
    assert {name: data.replace(b"far:/", b"") for name, data in far.items() if "0" in name} == {
        name: data for name, data in near.items() if "0" in name
    }
    assert len(near) == len(far) == 14


def test_another_runner_is_taken_by_beams_options(model, sixty, tmp_path):
    module = "apache_beam.runners.direct.direct_runner"
    options = [f"--runner={module}.BundleBasedDirectRunner"]
    result = batch_predict(model, f"{sixty}/*", f"{tmp_path}/p.jsonl", top=2, options=options)
    assert result.predicted == 60
    is_each_once(tmp_path, sixty, model, "jsonl")


@pytest.mark.parametrize("words", [[], ["--runner=DirectRunner"]])
def test_the_runner_here_is_not_the_one_that_beam_downloads(words):
    with runner.run_pipeline(runner.parse_options(words, workers=1)) as steps:
        assert type(steps.runner) is FnApiRunner


def test_another_prediction_is_refused_where_one_lies(model, sixty, finish, tmp_path):
    _, folder = finish("jsonl")
    words = {"saved_model": model, "images": f"{sixty}/*", "output": f"{folder}/p.jsonl"}
    before = contents(folder)
    shutil.copytree(sixty, tmp_path / "copy")
    other = Path(shutil.copytree(model, tmp_path / "other/1"))
    (data,) = other.glob("variables/variables.data-*")
    data.write_bytes(data.read_bytes()[::-1])
    changes = {
        "60 images, not 10": {"images": f"{sixty}/000*"},
        "other images": {"images": f"{tmp_path}/copy/*"},
        "another model": {"saved_model": other},
        "form jsonl, not parquet": {"output": f"{folder}/p.parquet"},
        "top 2, not 5": {"top": 5},
        "shard size 10, not 30": {"shard_size": 30},
    }
    for what, change in changes.items():
        with pytest.raises(UserError, match=f"is of a prediction with {what}; give another --out"):
            batch_predict(**words | SETTINGS | change)
    assert contents(folder) == before


MISTAKES = {
    "no file matches '{tmp}/*.jpg'; ": {"--input": "{tmp}/*.jpg"},
    "'{tmp}' is a folder; give a pattern such as '{tmp}/*.jpg'": {"--input": "{tmp}"},
    "cannot list 'nowhere://x/*': ": {"--input": "nowhere://x/*"},
    "'{tmp}/**' matches the output too; ": {"--input": "{tmp}/**"},
    "the output '{tmp}/p.csv' ends in neither .parquet nor .jsonl; ": {"--output": "{tmp}/p.csv"},
    "the output '{tmp}/p[1].jsonl' has one of *?[ in it; ": {"--output": "{tmp}/p[1].jsonl"},
    "cannot write '/proc/x/p-plan.json': No such file or": {"--output": "/proc/x/p.jsonl"},
    "cannot write 'nowhere://x/p-plan.json': ": {"--output": "nowhere://x/p.jsonl"},
    "'{tmp}' has neither a saved_model.pb nor a numbered version folder": {"": "{tmp}"},
    "'b.jpg' is no option of Beam; quote the pattern after --input": {"": "{model} b.jpg c.jpg"},
    "Beam has no option '--direct_num_worker'; did you mean 'direct_num_workers'?": {
        "--": "--direct_num_worker=2"
    },
    "argument --direct_num_workers: invalid int value: 'two'": {"--": "--direct_num_workers=two"},
    "Beam cannot use the runner 'Nowhere': ": {"--": "--runner=Nowhere"},
    "the number of workers is for the runner on this machine; set that of FlinkRunner": {
        "--workers": "2",
        "--": "--runner=FlinkRunner",
    },
}


@pytest.mark.parametrize("sentence", MISTAKES)
def test_a_mistake_is_one_sentence_and_nothing_is_written(model, sixty, tmp_path, capfd, sentence):
    words = {"": "{model}", "--input": f"{sixty}/*", "--output": "{tmp}/p.jsonl"}
    words = " ".join(f"{k} {v}" for k, v in (words | MISTAKES[sentence]).items())
    code = cli.main(["batch-predict", *words.format(tmp=tmp_path, model=model).split()])
    out, err = capfd.readouterr()
    assert (code, out) == (2, "")
    assert err.startswith("inception-tf: ")
    assert sentence.format(tmp=tmp_path) in err
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_saved_model_that_takes_no_encoded_images_is_refused(sixty, tmp_path):
    network().export(tmp_path / "plain", verbose=False)
    with pytest.raises(UserError, match="has no signature serving_default\\(image_bytes\\)"):
        batch_predict(tmp_path / "plain", f"{sixty}/*", f"{tmp_path}/out/p.jsonl")


def test_without_beam_the_sentence_says_what_to_install(capfd, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    assert cli.main(["batch-predict", str(tmp_path), "--input", "x", "--output", "p.jsonl"]) == 2
    assert (
        "batch-predict needs apache-beam: pip install 'inception_tf[beam]'"
        in capfd.readouterr().err
    )


@pytest.mark.parametrize("ending", ["jsonl"])
def test_what_a_worker_cannot_write_is_one_sentence(model, sixty, copy, ending):
    (copy / "p-00000-of-00006.jsonl").unlink()
    (copy / "p-unfinished").touch()  # a file where the folder has to be
    with pytest.raises(
        UserError, match="a worker stopped: .*p-unfinished.*; finished shards are kept; c"
    ):
        batch_predict(model, f"{sixty}/*", f"{copy}/p.{ending}", **SETTINGS)


@pytest.mark.alone
@pytest.mark.alone
@pytest.mark.slow
def test_a_thousand_images_on_two_workers_are_each_answered_once(model, photos, tmp_path):
    """In processes of their own, which nobody can reach from another machine."""
    images = photos(1000)
    words = (model, "--input", f"{images}/*", "--output", tmp_path / "p.parquet", "--top", "2")
    with call(*words, "--shard-size", "25", "--workers", "2") as started:
        until(lambda: list(tmp_path.glob("p-0*")))
        workers = psutil.Process(started.pid).children(recursive=True)
        listening = {
            connection.laddr.ip.removeprefix("::ffff:")
            for connection in psutil.net_connections("tcp")
            if connection.pid == started.pid and connection.status == psutil.CONN_LISTEN
        }
        out, err = started.communicate(timeout=120)
    assert started.returncode == 2, err
    assert (len(workers), listening) == (2, {"127.0.0.1"})
    is_each_once(tmp_path, images, model, "parquet")
    bad = len(rows(tmp_path, "p-bad-*"))
    assert [line.split("  ")[0] for line in out.splitlines()] == [
        *("images", "shards", "time", "ok in", "bad in")
    ]
    assert f"1000: {1000 - bad} ok, {bad} bad\n" in out
    assert "40: 40 done, 0 skipped because they exist\n" in out
    assert len(err.splitlines()) == 1  # libjpeg's words for a broken file do not name it


@pytest.mark.parametrize(
    ("workers", "count"), [(1, 100), pytest.param(2, 1000, marks=pytest.mark.slow)]
)
def test_a_call_that_is_killed_goes_on_to_the_same_files(model, photos, tmp_path, workers, count):
    images = photos(count)
    out, whole = tmp_path / "out", tmp_path / "whole"
    words = (model, "--input", f"{images}/*", "--output", out / "p.jsonl", "--top", "2")
    with call(*words, "--shard-size", "5", "--workers", workers) as started:
        until(lambda: len(list(out.glob("p-0*"))) > 3)
        children = psutil.Process(started.pid).children(recursive=True)
        started.kill()
        started.communicate()
    assert psutil.wait_procs(children, timeout=60)[1] == []
    done = len(list(out.glob("p-0*")))
    assert 3 < done < count // 5

    settings = {"top": 2, "shard_size": 5, "workers": workers}
    assert batch_predict(model, f"{images}/*", f"{out}/p.jsonl", **settings).skipped == done
    is_each_once(out, images, model, "jsonl")
    batch_predict(model, f"{images}/*", f"{whole}/p.jsonl", **settings)
    assert contents(out) == contents(whole)


def test_ctrl_c_ends_in_one_sentence(photos, tmp_path):
    model = save_without_pictures(tmp_path / "model", LABELS)
    words = (model, "--input", f"{photos(1000)}/*", "--output", tmp_path / "p.jsonl")
    with call(*words, "--shard-size", "1") as started:
        until(lambda: list(tmp_path.glob("p-0*")))
        started.send_signal(signal.SIGINT)
        _, err = started.communicate(timeout=60)
    assert started.returncode == 130
    assert err.endswith("inception-tf: stopped; finished shards are kept; call again to resume\n")


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.parametrize(
    ("lost", "code", "sentence"),
    [
        ("a worker", 2, "a worker process ended with code -9, often for lack of memory"),
        ("the caller", 130, "stopped; finished shards are kept; call again to resume"),
    ],
)
def test_where_a_process_is_lost_the_others_end(model, photos, tmp_path, lost, code, sentence):
    words = (model, "--input", f"{photos(1000)}/*", "--output", tmp_path / "p.jsonl")
    with call(*words, "--shard-size", "5", "--workers", "2") as started:
        until(lambda: list(tmp_path.glob("p-0*")))
        workers = psutil.Process(started.pid).children(recursive=True)
        if lost == "a worker":
            workers[0].kill()
        else:
            started.send_signal(signal.SIGINT)
        _, err = started.communicate(timeout=60)
    assert psutil.wait_procs(workers, timeout=60)[1] == []
    assert started.returncode == code
    assert sentence in err
    assert (
        len(err.strip().splitlines()) == 1
    )  # no traceback of gRPC's threads; click ends the line of ^C


# Beam's job server in Python has no option for the number of its workers.
JOB_SERVER = """
import sys
from apache_beam.runners.portability import local_job_service_main
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
made = FnApiRunner.__init__
def make(self, *arguments, **settings):
    made(self, *arguments, **settings)
    self._num_workers = 2
FnApiRunner.__init__ = make
local_job_service_main.run(sys.argv[1:])
"""


@pytest.mark.alone
@pytest.mark.slow
def test_two_workers_that_share_only_a_folder_do_the_work_of_a_portable_runner(
    model, photos, tmp_path
):
    """Beam's own job server and pool of workers, in folders of their own, as on other machines."""
    images = photos(200)
    ports = free_ports(2)
    with contextlib.ExitStack() as stack:
        for name, words in (
            ("server", ["-c", JOB_SERVER, "-p"]),
            ("worker", ["-m", "apache_beam.runners.worker.worker_pool_main", "--service_port"]),
        ):
            home = tmp_path / name
            home.mkdir()
            log = stack.enter_context((tmp_path / f"{name}.txt").open("wb"))
            child = subprocess.Popen(
                [sys.executable, *words, str(ports[name == "worker"])],
                cwd=home,
                env=os.environ
                | {"HOME": str(home), "TMPDIR": str(home)}
                # The pool starts `python` wherever it finds one.
                | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            stack.callback(child.wait)
            stack.callback(os.killpg, child.pid, signal.SIGKILL)
        for port in ports:
            until(lambda port=port: is_open(port))
        options = [
            "--runner=PortableRunner",
            f"--job_endpoint=localhost:{ports[0]}",
            "--environment_type=EXTERNAL",
            f"--environment_config=localhost:{ports[1]}",
        ]
        result = batch_predict(
            model,
            f"{images}/*",
            f"{tmp_path}/shared/p.parquet",
            top=2,
            shard_size=10,
            options=options,
        )
    assert (tmp_path / "worker.txt").read_text().count("Starting worker with command") == 2
    assert (result.predicted, result.shards) == (200, 20)
    is_each_once(tmp_path / "shared", images, model, "parquet")


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("localhost", port)) == 0


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
