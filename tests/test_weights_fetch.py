# SPDX-License-Identifier: Apache-2.0
"""Published weights by name, against a real HTTP server on loopback with releases made here."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import tarfile
import threading
import time

import keras
import numpy as np
import pytest
import ramps

import inception_tf
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.errors import UserError
from inception_tf.models import list_models
from inception_tf.weights import fetch as fetching
from inception_tf.weights.fetch import fetch
from inception_tf.weights.releases import RELEASES, Release, find_release, names_for
from inception_tf.weights.view import read_view


class _Server(http.server.ThreadingHTTPServer):
    """Serves one file; `faults` are taken one a request: slow, torn, busy."""

    def __init__(self, content: bytes):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content, self.faults, self.requests = content, [], 0


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.requests += 1
        fault = server.faults.pop(0) if server.faults else ""
        if fault == "busy":
            self.send_error(503)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(server.content)))
        self.end_headers()
        half = len(server.content) // 2
        self.wfile.write(server.content[:half])
        if fault == "slow":
            time.sleep(0.5)
        if fault != "torn":
            self.wfile.write(server.content[half:])

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A network's weights in this project's own form, and the outputs that they give."""
    keras.utils.set_random_seed(0)
    model = inception_tf.create_model("inception_v1", input_shape=(32, 32, 3))
    ramps.fill(model)
    path = tmp_path_factory.mktemp("published") / "v1.weights.h5"
    model.save_weights(path)
    images = ramps.images(2, 32, 32, 3)
    return path, images, np.asarray(model(images))


@pytest.fixture
def server(published):
    server = _Server(published[0].read_bytes())
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def release(server, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(fetching, "PAUSE", 0.01)
    return Release(
        name="test",
        network="inception_v1",
        source="own",
        address=f"http://127.0.0.1:{server.server_port}/v1.weights.h5",
        member="",
        checksum=f"sha256:{hashlib.sha256(server.content).hexdigest()[:8]}",
        licence="Apache-2.0",
        classes=1000,
        preprocessing=Preprocessing(224, 0.875, "unit"),
        accuracy=(0.0, 0.0),
    )


def _files():
    return sorted(p.name for p in fetching.cache_folder().rglob("*") if p.is_file())


def test_weights_are_fetched_once_and_give_the_published_outputs(release, server, published):
    _, images, expected = published
    for _ in range(2):
        model = inception_tf.create_model(
            "inception_v1", input_shape=(32, 32, 3), weights=str(fetch(release))
        )
        np.testing.assert_allclose(model(images), expected, atol=1e-6)
    assert server.requests == 1
    assert read_view(fetch(release)) == release.preprocessing
    assert _files() == ["inception_v1.weights.h5", "v1.weights.h5"]


@pytest.mark.parametrize("faults", [["slow"], ["torn"], ["busy", "torn"]])
def test_a_slow_torn_or_refused_answer_is_waited_for_or_tried_again(release, server, faults):
    server.faults = list(faults)
    fetch(release)
    assert server.requests == len(faults) + (faults != ["slow"])
    assert _files() == ["inception_v1.weights.h5", "v1.weights.h5"]


def test_without_a_network_the_sentence_names_the_file_and_its_place(release, server, published):
    server.faults = ["busy"] * 9
    place = fetching.cache_folder() / "inception_v1-test" / "v1.weights.h5"
    with pytest.raises(UserError) as error:
        fetch(release)
    assert f"put that file by hand at {place} and call again" in str(error.value)
    assert _files() == []
    place.write_bytes(published[0].read_bytes())
    fetch(release)
    assert server.requests == fetching.TRIES


def test_a_wrong_checksum_is_refused_and_the_file_removed(release):
    wrong = dataclasses.replace(release, checksum="sha256:00000000")
    with pytest.raises(
        UserError, match=r"has the sha256 checksum [0-9a-f]{64} and should have 00000000"
    ):
        fetch(wrong)
    assert _files() == []


def test_a_torn_file_put_there_by_hand_is_refused(release, published):
    place = fetching.cache_folder() / "inception_v1-test" / "v1.weights.h5"
    place.parent.mkdir(parents=True)
    place.write_bytes(published[0].read_bytes()[:1000])
    with pytest.raises(UserError, match="checksum"):
        fetch(release)


def test_an_archive_is_unpacked_and_a_damaged_one_is_refused(release, server, published, tmp_path):
    path = tmp_path / "v1.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(published[0], "folder/inside.weights.h5")
    content = path.read_bytes()
    packed = dataclasses.replace(
        release,
        address=release.address.replace("v1.weights.h5", "v1.tar.gz"),
        member="inside.weights.h5",
        checksum="",
    )
    server.content = content[: len(content) // 2]
    with pytest.raises(UserError, match="is damaged or holds no inside.weights.h5"):
        fetch(packed)
    (fetching.cache_folder() / "inception_v1-test" / "v1.tar.gz").unlink()
    server.content = content
    assert fetch(packed).exists()
    assert _files() == ["inception_v1.weights.h5", "v1.tar.gz"]


def test_the_background_class_is_left_out(release, server, tmp_path):
    model = inception_tf.create_model("inception_v1", classes=1001)
    path = tmp_path / "background.weights.h5"
    model.save_weights(path)
    server.content = path.read_bytes()
    converted = fetch(dataclasses.replace(release, classes=1001, checksum=""))
    plain = inception_tf.create_model("inception_v1", weights=str(converted))
    for name in ("kernel", "bias"):
        theirs = np.asarray(getattr(model.get_layer("Logits"), name))
        np.testing.assert_array_equal(getattr(plain.get_layer("Logits"), name), theirs[..., 1:])


def test_a_release_is_found_by_its_name_and_imagenet_is_the_first():
    assert find_release("inception_v3", "imagenet").name == "slim_2016"
    assert find_release("inception_v3", "torchvision").switches == {"count_padding": True}
    with pytest.raises(
        UserError, match="unknown weights of inception_v4 'slim_2015'; known: .*'slim_2016'"
    ):
        find_release("inception_v4", "slim_2015")


def test_every_release_is_of_a_network_and_named_once():
    assert {release.network for release in RELEASES} <= set(list_models())
    for name in list_models():
        assert len(set(names_for(name))) == len(names_for(name))


def test_the_builder_takes_a_release_by_name(release, published, monkeypatch):
    from inception_tf.weights import releases

    monkeypatch.setattr(releases, "RELEASES", (release,))
    _, images, expected = published
    model = inception_tf.InceptionV1(weights="imagenet", input_shape=(32, 32, 3))
    np.testing.assert_allclose(model(images), expected, atol=1e-6)
    with pytest.raises(UserError, match="1000 classes in the file and 10 in the model"):
        inception_tf.InceptionV1(weights="test", classes=10)
