# SPDX-License-Identifier: Apache-2.0
"""Published weights by name, against a real HTTP server on loopback with releases made here."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import tarfile
import threading
import time

import caffe_file
import keras
import numpy as np
import pytest
import ramps
import tensorflow as tf
from small_runs import only

import inception_tf
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.errors import UserError
from inception_tf.host.files import cache_folder
from inception_tf.models import find_network, list_models
from inception_tf.weights import fetch, registry
from inception_tf.weights.download import fetch_release
from inception_tf.weights.metadata import read_metadata
from inception_tf.weights.names import bvlc, slim
from inception_tf.weights.registry import RELEASES, Release, find_release, release_names

pytestmark = pytest.mark.usefixtures("short_networks", "shorter_network")
SHORTENED = ("googlenet",)


@pytest.fixture(scope="module")
def shorter_network():
    """Releases are those of any network; each is converted by a model of it."""
    with only("inception_v1", "Conv2d_1a_7x7", "Mixed_5c"):
        yield


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
            time.sleep(0.1)
        if fault != "torn":
            self.wfile.write(server.content[half:])

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def published(shorter_network, tmp_path_factory):
    """A network's checkpoint as slim publishes them, one file for 1,001 classes, and the outputs it gives."""
    model = inception_tf.create_model("inception_v1", input_shape=(32, 32, 3), classes=1001)
    ramps.fill(model)
    names = slim.slim_names(find_network("inception_v1"))
    arrays = {names[weight.path]: weight.numpy() for weight in model.weights}
    path = tmp_path_factory.mktemp("published") / "v1.ckpt"
    tf.raw_ops.Save(filename=str(path), tensor_names=list(arrays), data=list(arrays.values()))
    logits = keras.Model(model.input, inception_tf.endpoints(model)["Logits"])
    images = ramps.images(2, 32, 32, 3)
    return path, images, keras.ops.softmax(logits(images)[:, 1:])  # without the background


@pytest.fixture
def server(published):
    server = _Server(published[0].read_bytes())
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def release(server, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(fetch, "RETRY_DELAY_S", 0.01)
    return Release(
        name="test",
        network="inception_v1",
        source="slim",
        address=f"http://127.0.0.1:{server.server_port}/v1.ckpt",
        member="",
        checksum=f"sha256:{hashlib.sha256(server.content).hexdigest()[:8]}",
        license="Apache-2.0",
        classes=1001,
        preprocessing=Preprocessing(224, 0.9, "torch"),  # no other release's
        accuracy=(0.0, 0.0),
    )


def _files():
    return sorted(p.name for p in cache_folder().rglob("*") if p.is_file())


def test_weights_are_fetched_once_and_give_the_published_outputs(release, server, published):
    _, images, expected = published
    for _ in range(2):
        model = inception_tf.create_model(
            "inception_v1", input_shape=(32, 32, 3), weights=str(fetch_release(release))
        )
        np.testing.assert_allclose(model(images), expected, atol=1e-6)
    assert server.requests == 1
    assert read_metadata(fetch_release(release)).preprocessing == release.preprocessing
    assert _files() == ["inception_v1.weights.h5", "v1.ckpt", "v1.ckpt.json"]


@pytest.mark.parametrize("faults", [["slow"], ["torn"], ["busy", "torn"]])
def test_a_slow_torn_or_refused_answer_is_waited_for_or_tried_again(release, server, faults):
    server.faults = list(faults)
    fetch_release(release)
    assert server.requests == len(faults) + (faults != ["slow"])
    assert _files() == ["inception_v1.weights.h5", "v1.ckpt", "v1.ckpt.json"]


def test_without_a_network_the_sentence_names_the_file_and_its_place(release, server, published):
    server.faults = ["busy"] * 9
    place = cache_folder() / "inception_v1-test" / "v1.ckpt"
    with pytest.raises(UserError) as error:
        fetch_release(release)
    assert f"try again, or put that file by hand at {place}" in str(error.value)
    assert _files() == []
    place.write_bytes(published[0].read_bytes())
    fetch_release(release)
    assert server.requests == fetch.ATTEMPTS


def test_a_download_of_a_wrong_checksum_is_not_kept(release):
    wrong = dataclasses.replace(release, checksum="sha256:00000000")
    with pytest.raises(
        UserError, match=r"has the sha256 checksum [0-9a-f]{64} and should have 00000000"
    ):
        fetch_release(wrong)
    assert _files() == []


def test_a_torn_file_put_there_by_hand_is_refused(release, published):
    place = cache_folder() / "inception_v1-test" / "v1.ckpt"
    place.parent.mkdir(parents=True)
    place.write_bytes(published[0].read_bytes()[:1000])
    with pytest.raises(UserError, match="checksum .* it is left as it is: replace it"):
        fetch_release(release)
    assert place.stat().st_size == 1000


def test_two_that_download_one_release_at_once_download_it_once(release, server):
    server.faults = ["slow"]
    threads = [threading.Thread(target=fetch_release, args=(release,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.requests == 1
    assert _files() == ["inception_v1.weights.h5", "v1.ckpt", "v1.ckpt.json"]


def test_an_archive_that_unpacks_to_more_than_the_network_needs_is_refused(
    release, server, tmp_path
):
    inside = tarfile.TarInfo("inside.ckpt")
    inside.size = 2**28  # more than the network needs
    with tarfile.open(tmp_path / "v1.tar.gz", "w:gz") as archive:
        archive.fileobj.write(inside.tobuf())
    server.content = (tmp_path / "v1.tar.gz").read_bytes()
    address = release.address.replace("v1.ckpt", "v1.tar.gz")
    packed = dataclasses.replace(release, address=address, member="inside.ckpt", checksum="")
    with pytest.raises(
        UserError, match="unpacks to 268,435,456 bytes, and the network needs at most"
    ):
        fetch_release(packed)


def test_every_address_is_encrypted_and_every_checksum_is_of_a_known_kind():
    for release in RELEASES:
        assert release.address.startswith("https://"), release
        assert release.checksums.keys() <= {"md5", "sha1", "sha256", "sha384"}, release
    # Stated by their publishers, or by OpenVINO's model zoo; the others are trusted on first use.
    unstated = [release.name for release in RELEASES if not release.checksum]
    assert sorted(set(unstated)) == [
        *("slim_2016", "timm_gluon", "timm_tf", "timm_tf_adv", "timm_tf_ens_adv"),
    ]


def test_an_archive_is_unpacked_and_a_damaged_one_is_refused(release, server, published, tmp_path):
    path = tmp_path / "v1.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(published[0], "folder/inside.ckpt")
    content = path.read_bytes()
    packed = dataclasses.replace(
        release,
        address=release.address.replace("v1.ckpt", "v1.tar.gz"),
        member="inside.ckpt",
        checksum="",
    )
    server.content = content[: len(content) // 2]
    with pytest.raises(UserError, match="is damaged or has no inside.ckpt"):
        fetch_release(packed)
    (cache_folder() / "inception_v1-test" / "v1.tar.gz").unlink()
    server.content = content
    assert fetch_release(packed).exists()
    assert _files() == ["inception_v1.weights.h5", "v1.tar.gz", "v1.tar.gz.json"]


# BVLC's GoogLeNet, in a Caffe file of the real one's names, shapes and age


@pytest.fixture(scope="module")
def googlenet(tmp_path_factory):
    model = inception_tf.GoogLeNet(aux_logits=True)
    ramps.fill(model)
    names = bvlc.bvlc_names(find_network("googlenet"))
    weights = {names[weight.path]: weight.numpy() for weight in model.weights}
    content = b"".join(
        caffe_file.layer(layer, *caffe_arrays(layer, weights), old=True)
        for layer in dict.fromkeys(name.rsplit("/", 1)[0] for name in weights)
    )
    return model, content


def caffe_arrays(layer, weights):
    """Kernels as output, input, height, width; what Caffe flattens is flat, channels first."""
    kernel = weights[f"{layer}/kernel"]
    kernel = kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T
    return kernel.reshape(len(kernel), -1) if layer.endswith("/fc") else kernel, weights[
        f"{layer}/bias"
    ]


def test_bvlcs_googlenet_is_fetched_checked_by_sha1_and_converted_once(
    release, server, googlenet, monkeypatch
):
    theirs, server.content = googlenet
    checksum = hashlib.sha1(server.content).hexdigest()
    made = dataclasses.replace(
        find_release("googlenet", "bvlc"),
        address=release.address.replace("v1.ckpt", "bvlc_googlenet.caffemodel"),
        checksum=f"sha1:{checksum}",
    )
    with pytest.raises(UserError, match=f"has the sha1 checksum {checksum} and should have 405fc5"):
        fetch_release(
            dataclasses.replace(made, checksum=find_release("googlenet", "bvlc").checksum)
        )
    assert _files() == []
    monkeypatch.setattr(registry, "RELEASES", (made,))
    for _ in range(2):
        model = inception_tf.GoogLeNet(weights="imagenet", aux_logits=True)
    assert server.requests == 2  # the refused one and this one
    assert _files() == [
        "bvlc_googlenet.caffemodel",
        "bvlc_googlenet.caffemodel.json",
        "googlenet.weights.h5",
    ]
    for ours, expected in zip(model.weights, theirs.weights, strict=True):
        np.testing.assert_array_equal(ours, expected, err_msg=ours.path)
    assert read_metadata(fetch_release(made)).preprocessing == Preprocessing(
        224, None, "caffe", stored=256
    )


def test_bvlcs_release_is_as_its_readme_says():
    # BVLC/caffe models/bvlc_googlenet/readme.md.
    release = find_release("googlenet", "imagenet")
    assert release.file == "bvlc_googlenet.caffemodel"
    assert release.checksums["sha1"] == "405fc5acd08a3bb12de8ee5e23a96bec22f08204"
    assert (release.license, release.accuracy) == ("unrestricted", (68.7, 88.9))


def test_a_release_is_found_by_its_name_and_imagenet_is_the_first():
    assert find_release("inception_v3", "imagenet").name == "slim_2016"
    assert find_release("inception_v3", "torchvision").switches == {
        "count_padding": True,
        "batch_norm_scale": True,
    }
    with pytest.raises(
        UserError, match="unknown weights of inception_v4 'slim_2015'; known: .*'slim_2016'"
    ):
        find_release("inception_v4", "slim_2015")


def test_every_release_is_of_a_network_and_named_once():
    assert {release.network for release in RELEASES} <= set(list_models())
    for name in list_models():
        assert len(set(release_names(name))) == len(release_names(name))


def test_the_builder_takes_a_release_by_name(release, published, monkeypatch):
    monkeypatch.setattr(registry, "RELEASES", (release,))
    _, images, expected = published
    model = inception_tf.InceptionV1(weights="imagenet", input_shape=(32, 32, 3))
    np.testing.assert_allclose(model(images), expected, atol=1e-6)
    with pytest.warns(UserWarning, match="the classifier is new.* 1000 classes, and the model 10"):
        other = inception_tf.InceptionV1(weights="test", classes=10, input_shape=(32, 32, 3))
    last = "Mixed_5c_b0_0_conv"
    kernels = (one.get_layer(last).kernel for one in (model, other))
    np.testing.assert_array_equal(*kernels)
