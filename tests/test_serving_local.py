# SPDX-License-Identifier: Apache-2.0
"""A real export behind a real HTTP server and a gRPC service, asked for real JPEGs in parallel."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import re
import shutil
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import forked
import grpc
import keras
import numpy as np
import psutil
import pytest
import ramps
import requests
import slow_images
import tensorflow as tf
from google.protobuf import any_pb2
from no_pictures import save_without_pictures
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    inference_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from inception_tf import UserError, cli
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.export import sample_requests, warmup
from inception_tf.export.savedmodel import export
from inception_tf.serving import Client
from inception_tf.serving.client import http
from inception_tf.serving.local_server import Batching, run_local_server
from inception_tf.serving.local_server import __main__ as local_server
from inception_tf.serving.local_server.cancellation import Cancellation
from inception_tf.serving.local_server.model import LocalModel, ServedError

LABELS = ("bluebell", "buttercup", "colts foot", "cowslip", "crocus", "daffodil", "Gänseblümchen")
TOLERANCE = 1e-5  # of a probability: in a batch of another size the last bits differ
# Small, so that a test can fill it: 16 images run or wait.
BATCHING = Batching(
    max_batch_size=8, batch_timeout_micros=3_000, max_enqueued_batches=2, num_batch_threads=1
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    images = keras.Input((64, 64, 3))
    x = keras.layers.GlobalMaxPooling2D()(keras.layers.Conv2D(16, 5, 4, name="conv")(images))
    network = keras.Model(images, keras.layers.Dense(len(LABELS), "softmax", name="logits")(x))
    ramps.fill(network)
    to = tmp_path_factory.mktemp("saved_models") / "flowers"
    return export(network, LABELS, to, Preprocessing(64))


@pytest.fixture(scope="module")
def cold(folder, tmp_path_factory) -> Path:
    """The same without its warm-up, whose requests wait for others to join them, and prepare every signature."""
    to = tmp_path_factory.mktemp("cold") / "1"
    log = shutil.ignore_patterns(Path(warmup.WARMUP_FILE).name)
    return Path(shutil.copytree(folder, to, ignore=log))


@pytest.fixture(scope="module")
def servers(folder, cold):
    starting = (
        run_local_server(folder, "flowers"),
        run_local_server(cold, "flowers", BATCHING),
    )
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(subprocess, "Popen", forked.popen)
            started = list(pool.map(stack.enter_context, starting))
        yield started


@pytest.fixture(scope="module", autouse=True)
def short_pauses():
    """Between the tries of a request: the queue of `BATCHING` is empty again in milliseconds."""
    with pytest.MonkeyPatch.context() as patch:
        for setting in ("BACKOFF", "JITTER"):
            patch.setattr(http, setting, 0.02)
        yield


@pytest.fixture(scope="module")
def plain(servers):
    return servers[0]


@pytest.fixture(scope="module")
def batched(servers):
    return servers[1]


@pytest.fixture(scope="module")
def signatures(folder):
    loaded = tf.saved_model.load(str(folder))
    yield loaded.signatures
    del loaded  # which owns the variables


@pytest.fixture(scope="module")
def flowers(test_data) -> list[Path]:
    kinds = sorted((test_data / "flowers12" / "test").iterdir())
    return [path for kind in kinds for path in sorted(kind.iterdir())[:3]]


@pytest.fixture(scope="module")
def bad(test_data, signatures) -> list[Path]:
    """Files that the SavedModel itself refuses."""
    paths = [
        p for p in sorted((test_data / "bad_images").rglob("*")) if p.suffix in (".jpg", ".png")
    ]
    chosen = random.Random(0).sample(paths, 120)
    data = tf.constant([path.read_bytes() for path in chosen])
    status = signatures["serving_default"](image_bytes=data)["status"].numpy()
    refused = [path for path, words in zip(chosen, status, strict=True) if words != b"ok"]
    assert len(refused) >= 20
    return refused


@pytest.fixture(scope="module")
def expected(signatures, flowers, bad):
    """{path: (status, best classes, their scores)}, of the SavedModel in this process."""
    paths = [*flowers, *bad]
    data = tf.constant([path.read_bytes() for path in paths])
    found = {k: v.numpy() for k, v in signatures["serving_default"](image_bytes=data).items()}
    return {
        str(path): (status.decode(), [c.decode() for c in classes], scores)
        for path, status, classes, scores in zip(
            paths, found["status"], found["top_classes"], found["top_scores"], strict=True
        )
    }


@pytest.fixture(params=["rest", "grpc", "batched rest", "batched grpc"])
def address(request, plain, batched) -> str:
    served = batched if request.param.startswith("batched") else plain
    return getattr(served, request.param.split()[-1])


def compare(answers, expected):
    for answer in answers:
        status, classes, scores = expected[answer.image]
        assert answer.status == status
        if status != "ok":
            assert answer.top == ()
            continue
        assert [label for label, _ in answer.top] == classes
        np.testing.assert_allclose([score for _, score in answer.top], scores, atol=TOLERANCE)


def test_jpegs_posted_in_parallel_get_the_answers_of_the_savedmodel(address, flowers, expected):
    assert len({tuple(classes) for _, classes, _ in map(expected.get, map(str, flowers))}) > 1

    def ask(number):
        mine = random.Random(number).sample(flowers, 10)
        with Client(address, batch_size=4, parallel=2, retries=8) as client:
            answers = client.predict(mine)
        assert [answer.image for answer in answers] == [str(path) for path in mine]
        return answers

    with ThreadPoolExecutor(4) as pool:
        for answers in pool.map(ask, range(4)):
            compare(answers, expected)


def test_bad_images_among_good_ones_fail_alone(address, flowers, bad, expected):
    """In one request with good ones, and in requests at the same time, which a batch may join."""

    def ask(number):
        mine = random.Random(number).sample([*flowers[:20], *bad[:20]], 12)
        with Client(address, batch_size=1 + number % 4, parallel=2, retries=8) as client:
            return client.predict(mine)

    with ThreadPoolExecutor(4) as pool:
        answers = [answer for found in pool.map(ask, range(4)) for answer in found]
    compare(answers, expected)
    assert {answer.status == "ok" for answer in answers} == {True, False}


def test_rest_and_grpc_agree_to_the_last_bit(plain, flowers, bad):
    images = [*flowers[:5], *bad[:3], "missing.jpg"]
    found = [Client(at, parallel=1).predict(images, top=3) for at in (plain.rest, plain.grpc)]
    assert found[0] == found[1]
    assert found[0][-1].status == "cannot be read: No such file or directory"
    assert [len(answer.top) for answer in found[0]] == [3] * 5 + [0] * 4


def test_arrays_get_the_answers_of_their_pixels(address, signatures):
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    direct = signatures["image_tensor"](images=tf.constant(pixels[np.newaxis]))
    with Client(address) as client:
        first, second = client.predict([pixels, pixels[:50]])
    np.testing.assert_allclose(
        [score for _, score in first.top], direct["top_scores"][0], atol=TOLERANCE
    )
    assert first.top != second.top


def test_the_command_answers_as_from_the_folder(plain, folder, flowers, tmp_path, capfd):
    (tmp_path / "text.jpg").write_text("no image")
    found = []
    for source in (str(folder), plain.rest, plain.grpc):
        words = [str(flowers[0]), str(tmp_path / "text.jpg"), "missing.jpg", "--json"]
        assert cli.main(["predict", source, *words]) == 2
        out, err = capfd.readouterr()
        answers = json.loads(out)
        scores = [place.pop("score") for place in answers[0]["top"]]
        found.append((answers, err, scores))
    for answers, err, scores in found[1:]:
        assert (answers, err) == found[0][:2]
        np.testing.assert_allclose(scores, found[0][2], atol=TOLERANCE)


# REST as it goes over the wire.


def post(address: str, body, **more) -> tuple[int, dict]:
    data = body if isinstance(body, bytes) else json.dumps(body)
    reply = requests.post(f"{address}:predict", data=data, timeout=30, **more)
    return reply.status_code, reply.json()


def coded(path: Path) -> dict:
    return {"b64": base64.b64encode(path.read_bytes()).decode()}


def test_rows_and_columns_are_the_same_answers(plain, flowers):
    images = [coded(path) for path in flowers[:3]]
    code, rows = post(plain.rest, {"instances": images})
    assert code == 200
    assert set(rows["predictions"][0]) == {"probabilities", "top_classes", "top_scores", "status"}
    assert len(rows["predictions"][0]["probabilities"]) == len(LABELS)
    named = {"instances": [{"image_bytes": image} for image in images]}
    assert post(plain.rest, named | {"signature_name": "serving_default"}) == (200, rows)
    for inputs in (images, {"image_bytes": images}):
        code, columns = post(plain.rest, {"inputs": inputs})
        assert code == 200
        for name, column in columns["outputs"].items():
            assert column == [row[name] for row in rows["predictions"]]


def test_a_content_type_is_not_looked_at(plain, flowers):
    body = {"instances": [coded(flowers[0])]}
    curl = {"headers": {"Content-Type": "application/x-www-form-urlencoded"}}
    assert post(plain.rest, body, **curl) == post(plain.rest, body)
    assert post(plain.rest, b"{", **curl)[0] == 400


def test_decoded_images_go_as_numbers(plain, signatures):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 9, 8, 3), np.uint8)
    body = {"signature_name": "image_tensor", "instances": pixels.tolist()}
    code, found = post(plain.rest, body)
    direct = signatures["image_tensor"](images=tf.constant(pixels))["probabilities"]
    assert code == 200
    np.testing.assert_allclose(
        [row["probabilities"] for row in found["predictions"]], direct, atol=TOLERANCE
    )


REFUSED = {
    "no json": (b"{", "Unrecognized request format"),
    "a list": ([1], "Missing 'inputs' or 'instances' key"),
    "no key": ({"instance": []}, "Missing 'inputs' or 'instances' key"),
    "both keys": ({"instances": [""], "inputs": [""]}, "Missing 'inputs' or 'instances' key"),
    "nothing": ({"instances": []}, "No values in 'instances' array"),
    "no list": ({"instances": "x"}, "No values in 'instances' array"),
    "no base64": ({"instances": [{"b64": "!"}]}, "not formatted correctly for base64"),
    "a number": ({"instances": [{"b64": 1}]}, "not formatted correctly for base64"),
    "another input": ({"instances": [{"image": ""}]}, "keys must be equal to: image_bytes"),
    "another column": ({"inputs": {"image": [""]}}, "inputs are {image_bytes}, got {image}"),
    "signature": (
        {"signature_name": "x", "instances": [""]},
        'Serving signature key "x" not found.',
    ),
    "numbers": ({"instances": [1, 2]}, "Failed to convert"),
    "ragged": ({"instances": [[1], [1, 2]]}, "Encountered list at unexpected size"),
    "rank": ({"signature_name": "image_tensor", "instances": [[1]]}, "images has shape (1, 1)"),
    "no pixels": (
        {"signature_name": "image_tensor", "inputs": np.zeros((1, 0, 2, 3)).tolist()},
        "images has shape (1, 0), not",
    ),
}


NESTED = b"[" * 200_000 + b"]" * 200_000
REFUSED |= {
    "nested": (b'{"instances": ' + NESTED + b"}", ""),
    "nested base64": (b'{"instances": [{"b64": ' + b"[" * 900 + b"]" * 900 + b"}]}", "base64"),
    "nested rows": ({"instances": json.loads("[" * 900 + "]" * 900)}, ""),
    "a list as signature": ({"signature_name": [[]], "instances": [""]}, "must be a string"),
    "a number as signature": ({"signature_name": 1, "instances": [""]}, "must be a string"),
    "no text": (b'{"instances": ["\\ud800"]}', ""),
    "a large number": (b'{"signature_name": "image_tensor", "instances": [[[[1e400]]]]}', ""),
    "an object": ({"instances": {"b64": ""}}, "No values in 'instances' array"),
    "null": ({"instances": [None]}, ""),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_request_that_cannot_be_run_is_400_with_its_reason(plain, kind):
    body, words = REFUSED[kind]
    for content_type in ("application/json", "text/plain"):
        code, found = post(plain.rest, body, headers={"Content-Type": content_type})
        assert (code, set(found)) == (400, {"error"})
        assert words in found["error"] or (kind, content_type) == ("no json", "text/plain")


@pytest.mark.parametrize(
    "path",
    [
        *("/v2", "/v2/models", "/v2/models/flowers/infer", "/v2/repository/index"),
        *("/v2/repository/models/flowers/unload", "/v2/repository/models/flowers/load"),
        *("/v1/models/flowers/versions/1", "/v1/models/flowers/metadata", "/metrics"),
        *("/v1/models/flowers:classify", "/openapi.json", "/docs", "/v1/models/flowers:explain"),
    ],
)
def test_paths_of_kserves_own_say_what_is_lacking_and_change_nothing(plain, path):
    root = plain.rest.partition("/v1/")[0]
    for method in ("GET", "POST"):
        reply = requests.request(method, root + path, json={}, timeout=30)
        assert reply.status_code == 404
        assert reply.json()["error"].startswith(f"{path} is not served: this server, for tests, ")
    assert Client(plain.rest).status() == {None: "AVAILABLE"}


def test_what_is_not_served_is_404(plain, batched):
    for served in (plain, batched):
        other = served.rest.replace("flowers", "other")
        assert post(other, {"instances": [""]})[0] == 404
        with pytest.raises(UserError, match="replied 404, Model with name other does not exist; "):
            Client(other).predict([b""])
        with pytest.raises(UserError, match=r"/versions/7 replied 404"):
            Client(served.rest, version=7).predict([b""])
        assert Client(served.rest).status() == {None: "AVAILABLE"}


# gRPC as it goes over the wire.


@pytest.fixture(scope="module")
def stub(plain):
    with grpc.insecure_channel(urlsplit(plain.grpc).netloc) as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


def predict_request(signature="", inputs=None, name="flowers") -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = name, signature
    for key, value in (inputs or {}).items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    return request


def test_grpc_has_every_signature(stub, signatures, flowers):
    data = [flowers[0].read_bytes(), b"no image"]
    direct = signatures["serving_default"](image_bytes=tf.constant(data))
    request = predict_request(inputs={"image_bytes": data})
    reply = stub.Predict(request)
    assert (reply.model_spec.version.value, reply.model_spec.signature_name) == (
        1,
        "serving_default",
    )
    assert set(reply.outputs) == set(direct)
    for name, tensor in reply.outputs.items():
        np.testing.assert_array_equal(tf.make_ndarray(tensor), direct[name].numpy())

    request.output_filter.append("status")
    assert set(stub.Predict(request).outputs) == {"status"}

    pixels = {"images": np.zeros((1, 8, 8, 3), np.uint8)}
    found = stub.Predict(predict_request("image_tensor", pixels)).outputs["probabilities"]
    assert tf.make_ndarray(found).shape == (1, len(LABELS))

    classify = classification_pb2.ClassificationRequest()
    classify.model_spec.name, classify.model_spec.signature_name = "flowers", "classify"
    for serialized in sample_requests.sample_encoded_calls(data)[1].inputs["inputs"]:
        classify.input.example_list.examples.add().ParseFromString(serialized)
    good, refused = stub.Classify(classify).result.classifications
    assert [c.label.encode() for c in good.classes] == direct["top_classes"].numpy()[0].tolist()
    np.testing.assert_array_equal([c.score for c in good.classes], direct["top_scores"][0])
    assert {(c.label, c.score) for c in refused.classes} == {("", 0.0)}


def test_the_example_that_stands_beside_an_export_runs(plain, folder, flowers, expected, capfd):
    text = (folder.parent / "README.md").read_text("utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", text, re.S)
    for theirs, ours in (
        ("localhost:8500", urlsplit(plain.grpc).netloc),
        ("photo.jpg", str(flowers[0])),
    ):
        assert theirs in program
        program = program.replace(theirs, ours)
    exec(compile(program, "README.md", "exec"), {})
    status, *lines = capfd.readouterr()[0].splitlines()
    assert status == "ok"
    assert [line.split(" ", 1)[1] for line in lines] == expected[str(flowers[0])][1]


def test_the_curl_line_that_stands_beside_an_export_runs(
    plain, folder, flowers, expected, tmp_path
):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    readme = (folder.parent / "README.md").read_text(encoding="utf-8")
    (line,) = [part for part in re.findall(r"```sh\n(.*?)```", readme, re.DOTALL) if "curl" in part]
    shutil.copy(flowers[0], tmp_path / "photo.jpg")
    here = line.replace("http://localhost:8501", plain.rest.partition("/v1/")[0])
    answer = subprocess.run(["bash", "-c", here], cwd=tmp_path, capture_output=True, check=True)
    (row,) = json.loads(answer.stdout)["predictions"]
    status, classes, scores = expected[str(flowers[0])]
    assert (row["status"], row["top_classes"]) == (status, classes)
    np.testing.assert_allclose(row["top_scores"], scores, atol=TOLERANCE)


def test_grpc_tells_signatures_and_state(stub, plain):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "flowers"
    packed: any_pb2.Any = stub.GetModelMetadata(request).metadata["signature_def"]
    found = get_model_metadata_pb2.SignatureDefMap()
    assert packed.Unpack(found)
    assert {"serving_default", "image_tensor", "classify"} <= set(found.signature_def)
    assert Client(plain.grpc).status() == {1: "AVAILABLE"}
    assert Client(plain.grpc, version=1).status() == {1: "AVAILABLE"}


STATUSES = {
    "NOT_FOUND": (predict_request(name="other"), r"request: Latest\(other\)"),
    "FAILED_PRECONDITION": (predict_request("x"), 'Serving signature key "x" not found'),
    "INVALID_ARGUMENT": (predict_request(inputs={"x": [b""]}), "inputs are {image_bytes}, got {x}"),
}


@pytest.mark.parametrize("status", STATUSES)
def test_a_grpc_call_that_cannot_be_run_has_its_status(stub, status):
    request, words = STATUSES[status]
    with pytest.raises(grpc.RpcError, match=words) as caught:
        stub.Predict(request)
    assert caught.value.code().name == status


def test_a_kernels_error_is_its_own_sentence(stub):
    empty = {"images": np.zeros((1, 0, 8, 3), np.uint8)}
    with pytest.raises(grpc.RpcError) as caught:
        stub.Predict(predict_request("image_tensor", empty))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    # Two kernels refuse it, whichever runs first.
    sentences = ("assertion failed: [inner 3 dims of ", "input image must be of non-zero size")
    assert caught.value.details().startswith(sentences)


def test_versions_labels_and_other_calls_are_refused_as_the_server_refuses_them(stub, plain):
    with pytest.raises(UserError, match=r"replied NOT_FOUND, .*Specific\(flowers, 7\)"):
        Client(plain.grpc, version=7).predict([b""])
    with pytest.raises(UserError, match="INVALID_ARGUMENT, Unrecognized servable version label: x"):
        Client(plain.grpc, label="x").predict([b""])
    with pytest.raises(grpc.RpcError) as caught:
        stub.MultiInference(inference_pb2.MultiInferenceRequest())
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


# Batching.


def test_the_requests_of_the_warm_up_are_run_first(folder, tmp_path):
    model = save_without_pictures(tmp_path / "1", LABELS, ("image_tensor",))
    (model / "assets.extra").mkdir()
    shutil.copy(folder / warmup.WARMUP_FILE, model / warmup.WARMUP_FILE)
    with pytest.raises(ServedError, match='Serving signature key "serving_default" not found'):
        LocalModel(model, "flowers", None)


@pytest.fixture(scope="module")
def joining(cold) -> LocalModel:
    return LocalModel(cold, "flowers", Batching(max_batch_size=8, batch_timeout_micros=500_000))


def test_requests_at_the_same_time_run_as_one_batch(joining, flowers):
    """One image waits its time for company; as many as fill a batch do not."""

    def ask(path):
        start = time.monotonic()
        joining.run(
            "serving_default", {"image_bytes": sample_requests.bytes_array([path.read_bytes()])}
        )
        return time.monotonic() - start

    assert ask(flowers[0]) > 0.5
    with ThreadPoolExecutor(8) as pool:
        assert max(pool.map(ask, flowers[:8])) < 0.5


def test_a_request_larger_than_a_batch_is_refused(batched):
    for address in (batched.rest, batched.grpc):
        with (
            Client(address, batch_size=9) as client,
            pytest.raises(
                UserError,
                match=r"(400|INVALID_ARGUMENT), Task size 9 is larger than maximum .* size 8;",
            ),
        ):
            client.predict([b"x"] * 9)


def test_a_full_queue_is_503_and_clients_that_try_again_get_through(batched, flowers, expected):
    body = json.dumps({"instances": [coded(path) for path in flowers[:8]]}).encode()
    with ThreadPoolExecutor(32) as pool:
        replies = list(pool.map(lambda _: post(batched.rest, body), range(48)))
    assert {code for code, _ in replies} == {200, 503}
    (words,) = {found["error"] for code, found in replies if code == 503}
    assert "batch scheduling queue to which this task was submitted is full" in words

    def ask(_):
        with Client(batched.rest, batch_size=8, retries=8) as client:
            return client.predict(flowers[:8])

    with ThreadPoolExecutor(12) as pool:
        for answers in pool.map(ask, range(12)):
            compare(answers, expected)


# Clients that give up.


def seconds_of_servers() -> float:
    times = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return sum(time.user + time.system for time in times)


@pytest.mark.parametrize("kind", ["rest", "grpc"])
def test_a_client_that_gives_up_ends_its_computation_and_no_other(plain, flowers, kind):
    """Of 200 images of 2 megapixels with 50 scans, a twelfth of a second each, a few are read."""
    address, slow = getattr(plain, kind), slow_images.jpeg_of_scans(50, 1500)
    before = seconds_of_servers()
    with (
        Client(address, timeout=0.5, batch_size=200, retries=0) as client,
        pytest.raises(UserError, match="did not reply within 0.5 second"),
    ):
        client.predict([slow] * 200)
    with Client(address) as client:
        (answer,) = client.predict([flowers[0]])
    assert answer.status == "ok"
    spent, last = seconds_of_servers() - before, 0.0
    while spent > last + 0.05 and spent < 5:
        time.sleep(0.2)
        spent, last = seconds_of_servers() - before, spent
    assert spent < 5


def test_a_batch_is_computed_for_the_clients_that_are_left(joining):
    """The one that gives up is its last, under whose cancellation TensorFlow would compute it."""
    slow = slow_images.jpeg_of_scans(50, 2000)
    request = ("serving_default", {"image_bytes": sample_requests.bytes_array([slow] * 4)})
    gone = Cancellation()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(joining.run, *request)
        time.sleep(0.2)  # it waits for others
        last = pool.submit(joining.run, *request, gone)
        time.sleep(0.1)  # the batch is full, and is computed
        gone.cancel()
    assert [list(reply.result()["status"]) for reply in (first, last)] == [[b"ok"] * 4] * 2
    with pytest.raises(ServedError, match="the client has given up"):
        joining.run(*request, gone)


# The process.


@pytest.mark.skipif(not os.path.exists("/proc/net/tcp"), reason="looks into /proc")
def test_it_listens_on_this_machine_alone(plain):
    wanted = {urlsplit(address).port for address in (plain.rest, plain.grpc)}
    seen = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if not os.path.exists(table):
            continue
        for line in Path(table).read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            host, port = local.split(":")
            if state == "0A" and int(port, 16) in wanted:  # it listens
                assert host in ("0100007F", "0000000000000000FFFF00000100007F")
                seen.add(int(port, 16))
    assert seen == wanted


def test_a_server_that_does_not_start_says_why(tmp_path, capsys):
    with (
        pytest.raises(UserError, match=r"has neither a saved_model\.pb nor a numbered version"),
        run_local_server(tmp_path),
    ):
        pass
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"torn")
    reason = r"process ended with 2: local_server: --batching must be JSON with integers above 0"
    with (
        pytest.raises(RuntimeError, match=reason),
        run_local_server(tmp_path, batching=Batching(max_batch_size=0)),
    ):
        pass
    assert local_server.main([str(tmp_path / "1"), "m"]) == 2
    assert re.fullmatch("local_server: .*Cannot parse file.*\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "the following arguments are required: folder, name; see python -m inception_tf"),
        (["nowhere", "m"], "'nowhere' is not a folder; give saved_models/NAME"),
        (
            ["x", "m", "--rest-port", "x"],
            "argument --rest-port: invalid int value: 'x'; see python",
        ),
        (["x", "m", "--rest-port", "70000"], "--rest-port must be in [0, 65535], got 70000"),
        (["x", "m", "--batching", "{"], "--batching must be JSON with integers above 0, such as"),
        (["x", "m", "--batching", '{"rows": 1}'], "known: max_batch_size, batch_timeout_micros"),
        (["x", "m", "--batching", '{"max_batch_size": 0}'], "integers above 0"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence(words, sentence, capsys):
    assert local_server.main(words) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("local_server: ")
    assert sentence in err


def test_a_port_that_is_taken_is_one_sentence(folder, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert local_server.main([str(folder), "m", "--rest-port", str(port)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"local_server: port {port} cannot be taken: ")
    assert err.endswith("give another with --rest-port\n")


def test_a_failure_of_ours_is_one_sentence_and_a_traceback_where_asked_for(monkeypatch, capsys):
    def fail(asked):
        raise ValueError("a bug\nof several lines")

    monkeypatch.setattr(local_server, "_serve", fail)
    assert local_server.main(["x", "m"]) == 1
    expected = "local_server: internal error: ValueError: a bug; --debug shows where\n"
    assert capsys.readouterr().err == expected
    assert local_server.main(["x", "m", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err
