# SPDX-License-Identifier: Apache-2.0
"""The client against servers that do as they are told: order, batches, retries, time limits, sentences."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import tensorflow as tf
from fake_server import Fake, K, answered, row, serving
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from inception_tf import UserError, cli
from inception_tf.data.skipped import OK
from inception_tf.serving import Client
from inception_tf.serving.client import client, http, rpc_channel


def willing(number, body):
    return 200, answered(body)


def names(answers):
    return [answer.top[0][0] for answer in answers]


# Images in order and in batches.


def test_answers_come_in_the_order_asked_whichever_request_ends_first():
    images = [str(i).encode() for i in range(40)]

    def slow_at_first(number, body):
        time.sleep(0.05 if number % 3 == 0 else 0)
        return 200, answered(body)

    with serving(slow_at_first) as (fake, address), Client(address, batch_size=3) as asked:
        answers = asked.predict(images)
    assert names(answers) == [str(i) for i in range(40)]
    assert [answer.image for answer in answers] == [str(i) for i in range(40)]
    assert len(fake.bodies) == 14
    assert set(fake.paths) == {"/v1/models/demo:predict"}


def test_as_many_requests_as_asked_for_are_on_their_way():
    now, most, lock = [0], [0], threading.Lock()

    def counting(number, body):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.05)
        with lock:
            now[0] -= 1
        return willing(number, body)

    with serving(counting) as (_, address):
        for parallel in (1, 3):
            most[0] = 0
            with Client(address, batch_size=1, parallel=parallel) as asked:
                asked.predict([b"x"] * 6)
            assert most == [parallel]


def test_images_are_read_as_they_are_sent():
    taken = []

    def images():
        for i in range(100):
            taken.append(i)
            yield b"x"

    with (
        serving(lambda *_: (404, {"error": "no"})) as (_, address),
        Client(address, batch_size=1, parallel=2) as asked,
        pytest.raises(UserError),
    ):
        asked.predict(images())
    assert len(taken) < 10


def test_no_request_is_larger_than_stated_and_too_large_an_image_is_refused_alone():
    limit = 8_000
    images = [b"a" * 3000, b"b" * 1500, b"c" * 7000, b"d" * 2500, b"e", b"f" * 5300]
    with serving(willing) as (fake, address), Client(address, request_bytes=limit) as asked:
        answers = asked.predict(images)
    assert [answer.status == "ok" for answer in answers] == [True, True, False, True, True, False]
    assert answers[2].status == "9349 bytes as sent, at most 6976 fit a request"
    assert [name[0] for name in names([a for a in answers if a.top])] == ["a", "b", "d", "e"]
    assert len(fake.bodies) == 2
    assert max(map(len, fake.bodies)) <= limit


def test_a_file_that_cannot_be_read_is_refused_in_its_place(tmp_path):
    good = tmp_path / "good"
    good.write_bytes(b"good")
    paths = [str(good), str(tmp_path / "missing.jpg"), tmp_path, good]
    with serving(willing) as (_, address), Client(address, batch_size=2) as asked:
        answers = asked.predict(paths)
        assert asked.predict([tmp_path / "missing.jpg"])[0].top == ()
        assert asked.predict([]) == []
    assert [answer.image for answer in answers] == [str(path) for path in paths]
    assert [answer.status for answer in answers] == [
        "ok",
        "cannot be read: No such file or directory",
        "cannot be read: it is a folder",
        "ok",
    ]


def test_scores_are_the_float32_that_the_network_gave():
    with serving(willing) as (_, address), Client(address) as asked:
        (answer,) = asked.predict([b"x"], top=1)
    assert answer.top == (("x", float(np.float32(0.123456789))),)


def test_what_the_server_refuses_has_its_reason_and_no_classes():
    bad = {
        "status": "empty",
        "top_classes": [""] * 2,
        "top_scores": [0, 0],
        "probabilities": [0] * K,
    }
    with (
        serving(lambda *_: (200, {"predictions": [bad, row(b"x")]})) as (_, address),
        Client(address) as asked,
    ):
        first, second = asked.predict([b"", b"x"], top=1)
    assert (first.status, first.top) == ("empty", ())
    assert second.status == OK


def test_a_bare_nan_is_read():
    text = json.dumps({"predictions": [row(b"x") | {"probabilities": [float("nan")] * K}]})
    assert "NaN" in text
    with serving(lambda *_: (200, text.encode())) as (_, address), Client(address) as asked:
        assert names(asked.predict([b"x"])) == ["x"]


def test_an_array_is_sent_as_a_png_of_the_same_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)
    np.testing.assert_array_equal(tf.io.decode_png(client._png(pixels, 0)), pixels)
    turned = pixels.swapaxes(0, 1)[:, ::-1]
    np.testing.assert_array_equal(tf.io.decode_png(client._png(turned, 0)), turned)


def test_one_client_serves_several_threads():
    with serving(willing) as (_, address), Client(address, batch_size=2) as asked:

        def ask(i):
            return names(asked.predict([f"{i}-{j}".encode() for j in range(5)]))

        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(ask, range(24)))
    assert found == [[f"{i}-{j}" for j in range(5)] for i in range(24)]


# Tries and time.


@pytest.fixture
def short_pauses(monkeypatch):
    """Between the tries of a request."""
    for setting in ("BACKOFF", "JITTER"):
        monkeypatch.setattr(http, setting, 0.01)
    monkeypatch.setattr(rpc_channel, "BACKOFF", 0.01)


@pytest.mark.usefixtures("short_pauses")
@pytest.mark.parametrize("code", [429, 503])
def test_an_overloaded_server_is_asked_again(code):
    def script(number, body):
        return (code, {"error": "full"}) if number < 2 else willing(number, body)

    with serving(script) as (fake, address), Client(address) as asked:
        assert names(asked.predict([b"x"])) == ["x"]
    assert len(fake.bodies) == 3
    assert len(set(fake.bodies)) == 1


def test_a_connection_that_was_dropped_is_made_again():
    def script(number, body):
        return None if number == 0 else willing(number, body)

    with serving(script) as (fake, address), Client(address) as asked:
        assert names(asked.predict([b"x"])) == ["x"]
    assert len(fake.bodies) == 2


def test_a_server_may_say_when_to_come_again(monkeypatch):
    def script(number, body):
        return (503, {}, {"Retry-After": "1"}) if number == 0 else willing(number, body)

    with serving(script) as (_, address), Client(address) as asked:
        start = time.monotonic()
        asked.predict([b"x"], top=1)
        assert 1 <= time.monotonic() - start < 5


@pytest.mark.parametrize("when", ["soon", "", "1e9", "-3", "9" * 400, "Thu, 99 Foo 2026"])
def test_a_pause_that_is_no_time_is_not_kept(monkeypatch, when):
    monkeypatch.setattr(http, "BACKOFF_LIMIT", 0.1)

    def script(number, body):
        return (503, {}, {"Retry-After": when}) if number == 0 else willing(number, body)

    with serving(script) as (fake, address), Client(address) as asked:
        assert names(asked.predict([b"x"])) == ["x"]
    assert len(fake.bodies) == 2


def test_a_server_cannot_order_a_long_sleep(monkeypatch):
    monkeypatch.setattr(http, "BACKOFF_LIMIT", 0.1)

    def script(number, body):
        return (429, {}, {"Retry-After": "3600"}) if number == 0 else willing(number, body)

    with serving(script) as (_, address), Client(address) as asked:
        start = time.monotonic()
        asked.predict([b"x"], top=1)
        assert time.monotonic() - start < 3


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_server_that_comes_up_late_is_found():
    port, fake = free_port(), Fake(willing)
    with (
        contextlib.ExitStack() as stack,
        Client(f"http://127.0.0.1:{port}/v1/models/demo") as asked,
    ):
        timer = threading.Timer(0.3, lambda: stack.enter_context(fake.listen(port)))
        timer.start()
        try:
            assert names(asked.predict([b"x"])) == ["x"]
        finally:
            timer.join()


def test_time_that_has_run_out_is_not_spent_again():
    def script(number, body):
        time.sleep(1)
        return willing(number, body)

    with serving(script) as (fake, address), Client(address, timeout=0.2) as asked:
        start = time.monotonic()
        with pytest.raises(
            UserError, match=r"demo did not reply within 0\.2 seconds; allow it more"
        ):
            asked.predict([b"x"])
        assert time.monotonic() - start < 0.9
    assert len(fake.bodies) == 1


# Sentences.

CODES = {
    400: "replied 400, the words; request a version",
    401: "replied 401, the words; give a user",
    403: "replied 403, the words; request access from its administrator",
    404: "replied 404, the words; check the model's name",
    413: "replied 413, the words; send fewer or smaller images",
    429: "replied 429, the words; try again when it has less load",
    500: "replied 500, the words; the server's log says more",
    503: "replied 503, the words; check that it runs",
    504: "replied 504, the words; allow it more time",
}


@pytest.mark.parametrize("code", CODES)
def test_each_code_is_a_sentence_and_only_overload_is_asked_again(code):
    with (
        serving(lambda *_: (code, {"error": "the\n words."})) as (fake, address),
        Client(address, retries=1) as asked,
        pytest.raises(UserError, match=f"^{re.escape(address)} {CODES[code]}"),
    ):
        asked.predict([b"x"])
    assert len(fake.bodies) == (2 if code in (429, 503) else 1)


BODIES = {
    # As TensorFlow Serving writes it, escaped as in C: not JSON.
    b"{ \"error\": \"Missing \\'inputs\\' or \\'instances\\' key\" }": "Missing 'inputs' or 'instances' key",
    b'{"detail": "Not Found"}': "Not Found",
    b"<h1>Bad gateway</h1>": "<h1>Bad gateway</h1>",
    b'["a"]': r'\["a"\]',
    b'{"error": {"code": 5}}': r'{"error": {"code": 5}}',
    b"[" * 200_000: r"\[{300}",
    b'{"error": "' + b"\\u001b[2J" + b'"}': r"\\x1b\[2J",
    b"": "without a message",
    b"\xff\xfe": "\ufffd\ufffd",
    b"x" * 5000: "x{300}",
}


@pytest.mark.parametrize("body", BODIES)
def test_words_are_found_in_every_kind_of_body(body):
    with (
        serving(lambda *_: (404, body)) as (_, address),
        Client(address) as asked,
        pytest.raises(UserError, match=f" replied 404, {BODIES[body]}; "),
    ):
        asked.predict([b"x"])


STRANGE = {
    "no JSON object, but '<html>'": b"<html>",
    r"no JSON object, but '\[1\]'": [1],
    "no list of predictions": {"outputs": 1},
    "2 predictions for 1 images": {"predictions": [row(b"x")] * 2},
    "no 'status'": {"predictions": [{"output_0": [0.5]}]},
    "list indices must be integers": {"predictions": [[0.1, 0.9]]},
    "has no len": {"predictions": [row(b"x") | {"probabilities": 1}]},
    "zip": {"predictions": [row(b"x") | {"top_scores": [1]}]},
    "no JSON object, but '\\[\\[": b"[" * 200_000,
    "no JSON object": b'{"a":' * 200_000,
    "no JSON object, but '9999": b"9" * 5_000,
    "too large": {"predictions": [row(b"x") | {"top_scores": [10**400, 1]}]},
    "a class that is no text": {"predictions": [row(b"x") | {"top_classes": [1, None]}]},
    "a status or a class": {"predictions": [row(b"x") | {"status": ["ok"]}]},
    "not iterable": {"predictions": [row(b"x") | {"top_classes": 1}]},
    "could not convert": {"predictions": [row(b"x") | {"top_scores": ["a", "b"]}]},
}


@pytest.mark.parametrize("what", STRANGE)
def test_an_answer_of_another_kind_of_server_or_model_is_named(what):
    with (
        serving(lambda *_: (200, STRANGE[what])) as (_, address),
        Client(address) as asked,
        pytest.raises(
            UserError, match=f"not reply as a model of inception-tf export does: .*{what}"
        ),
    ):
        asked.predict([b"x"], top=2)


@pytest.mark.parametrize("place", [b"\xff\xfe", b"http://[", b"http://\x00/"])
def test_a_redirect_to_no_address_is_a_sentence(place):
    moved = (302, b"moved", {"Location": place.decode("latin1")})
    with (
        serving(lambda *_: moved) as (_, address),
        Client(address) as asked,
        pytest.raises(UserError, match=r"replied 302, moved|cannot be reached"),
    ):
        asked.predict([b"x"])


@pytest.mark.parametrize("states", [1, [1], [{"version": "x", "state": 1}], [{}], None])
def test_states_of_another_kind_are_a_sentence(states):
    with (
        serving(lambda *_: (200, {"model_version_status": states})) as (_, address),
        Client(address) as asked,
        pytest.raises(UserError, match="no states of versions"),
    ):
        asked.status()


def test_a_redirect_is_not_followed():
    moved = (302, b"moved", {"Location": "http://127.0.0.1:1/"})
    with (
        serving(lambda *_: moved) as (fake, address),
        Client(address) as asked,
        pytest.raises(UserError, match="replied 302, moved"),
    ):
        asked.predict([b"x"])
    assert len(fake.bodies) == 1


def test_a_server_that_is_not_there_is_one_sentence():
    port = free_port()
    with (
        Client(f"http://127.0.0.1:{port}/v1/models/demo", retries=1) as asked,
        pytest.raises(
            UserError, match=f"{port}/v1/models/demo cannot be reached: Connection refused"
        ),
    ):
        asked.predict([b"x"])


def test_more_classes_than_the_server_names_are_refused():
    wider = {"predictions": [row(b"x") | {"probabilities": [0.1] * 3}]}
    with serving(lambda *_: (200, wider)) as (_, address), Client(address) as asked:
        assert len(asked.predict([b"x"], top=2)[0].top) == 2
        with pytest.raises(
            UserError, match="returns the 2 best of 3 classes, not 5; request top 2"
        ):
            asked.predict([b"x"])


ARGUMENTS = {
    "image 1 is float32": [b"", np.zeros((2, 2, 3), np.float32)],
    r"image 0 is uint8 \(2, 2\); give uint8 \(H, W, 3\)": [np.zeros((2, 2), np.uint8)],
    "takes a list of images; for one": "cat.jpg",
}


@pytest.mark.parametrize("sentence", ARGUMENTS)
def test_images_of_another_kind_are_refused(sentence):
    with (
        Client("http://127.0.0.1:1/v1/models/m") as asked,
        pytest.raises(UserError, match=sentence),
    ):
        asked.predict(ARGUMENTS[sentence])


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"timeout": 0}, "timeout must be above 0 seconds, got 0"),
        ({"retries": -1}, "retries must be at least 0, got -1"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"request_bytes": 1}, "request_bytes must be at least 2048, got 1"),
        ({"parallel": 0}, "parallel must be at least 1, got 0"),
    ],
)
def test_a_setting_outside_its_range_is_refused(setting, sentence):
    with pytest.raises(UserError, match=sentence):
        Client("http://127.0.0.1:1/v1/models/m", **setting)
    with (
        Client("http://127.0.0.1:1/v1/models/m") as asked,
        pytest.raises(UserError, match="top must be at least 1, got 0"),
    ):
        asked.predict([b"x"], top=0)


def test_the_status_is_read_in_both_forms():
    version = {"version": "3", "state": "AVAILABLE", "status": {"error_code": "OK"}}
    for body, found in (
        ({"model_version_status": [version]}, {3: "AVAILABLE"}),
        ({"name": "demo", "ready": True}, {None: "AVAILABLE"}),
    ):
        with (
            serving(lambda *_, body=body: (200, body)) as (fake, address),
            Client(address) as asked,
        ):
            assert asked.status() == found
        assert fake.paths == ["/v1/models/demo"]
    with (
        serving(lambda *_: (200, {"name": "demo"})) as (_, address),
        Client(address) as asked,
        pytest.raises(UserError, match="no model_version_status"),
    ):
        asked.status()


def test_without_requests_the_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "requests", None)
    for name in ("rest", "http"):
        monkeypatch.delitem(sys.modules, f"inception_tf.serving.client.{name}", raising=False)
    with pytest.raises(
        UserError, match=r"a server.s REST API needs requests: pip install .*\[serve\]"
    ):
        Client("http://127.0.0.1:1/v1/models/m")


# The command.


def test_predict_asks_a_server_and_names_what_it_cannot_read(tmp_path, capfd):
    (tmp_path / "cat.jpg").write_bytes(b"cat")
    with serving(willing) as (_, address):
        words = ["predict", address, str(tmp_path / "cat.jpg"), "missing.jpg", "--top", "1"]
        assert cli.main(words) == 2
        out, err = capfd.readouterr()
        assert re.search(r"cat\.jpg +cat +0\.1235", out)
        assert err == "inception-tf: missing.jpg: cannot be read: No such file or directory\n"
        assert cli.main([*words[:3], "--top", "1", "--json"]) == 0
    score = float(np.float32(0.123456789))
    assert json.loads(capfd.readouterr()[0]) == [
        {
            "image": str(tmp_path / "cat.jpg"),
            "status": "ok",
            "top": [{"label": "cat", "score": score}],
        }
    ]


def test_predict_gives_a_server_the_time_it_is_told(capfd, tmp_path):
    (tmp_path / "x").write_bytes(b"x")

    def script(number, body):
        time.sleep(0.5)
        return willing(number, body)

    with serving(script) as (_, address):
        assert cli.main(["predict", address, str(tmp_path / "x"), "--timeout", "0.1"]) == 2
    assert capfd.readouterr()[1].endswith(
        "did not reply within 0.1 seconds; allow it more time: timeout, --timeout\n"
    )


def test_a_rest_client_imports_neither_tensorflow_nor_its_protos(tmp_path):
    (tmp_path / "x").write_bytes(b"x")
    program = """
import sys
from inception_tf import cli
assert cli.main(["predict", *sys.argv[1:], "--top", "1"]) == 0
heavy = {"tensorflow", "keras", "tensorflow_serving", "google.protobuf", "grpc"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    with serving(willing) as (_, address):
        subprocess.run([sys.executable, "-c", program, address, tmp_path / "x"], check=True)
    lazy = "import sys, inception_tf.serving as s; assert not {'numpy', 'requests'} & set(sys.modules); s.Client"
    subprocess.run([sys.executable, "-c", lazy], check=True)


# gRPC.


class Predictions(prediction_service_pb2_grpc.PredictionServiceServicer):
    """`script(number, request)` → None, or the (status, message) to end with."""

    def __init__(self, script):
        self.script, self.requests = script, []

    def Predict(self, request, context):
        self.requests.append(request)
        refused = self.script(len(self.requests) - 1, request)
        if refused:
            context.abort(*refused)
        rows = [row(data[-1:]) for data in tf.make_ndarray(request.inputs["image_bytes"])]
        reply = predict_pb2.PredictResponse()
        for name in rows[0]:
            values = tf.make_tensor_proto([row[name] for row in rows])
            reply.outputs[name].CopyFrom(values)
        return reply


class Models(model_service_pb2_grpc.ModelServiceServicer):
    def GetModelStatus(self, request, context):
        reply = get_model_status_pb2.GetModelStatusResponse()
        reply.model_version_status.add(version=request.model_spec.version.value, state=20)
        return reply


@contextlib.contextmanager
def grpc_serving(script):
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", -1)])
    service = Predictions(script)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(Models(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield service, f"grpc://127.0.0.1:{port}/v1/models/demo"
    finally:
        server.stop(None).wait()


def test_grpc_asks_the_model_and_version_of_its_address_in_order():
    images = [bytes([97 + i]) for i in range(7)]
    with grpc_serving(lambda *_: None) as (service, address):
        with Client(address + "/versions/2", batch_size=3) as asked:
            answers = asked.predict(images, top=2)
            assert asked.status() == {2: "LOADING"}
        with Client(address, label="new") as asked:
            asked.predict([b"x"], top=1)
    assert names(answers) == list("abcdefg")
    assert answers[0].top[0][1] == float(np.float32(0.123456789))
    *first, last = [request.model_spec for request in service.requests]
    assert {(s.name, s.version.value, s.signature_name) for s in first} == {
        ("demo", 2, "serving_default")
    }
    assert last.version_label == "new"


@pytest.mark.usefixtures("short_pauses")
@pytest.mark.parametrize("status", ["UNAVAILABLE", "RESOURCE_EXHAUSTED"])
def test_grpc_asks_an_overloaded_server_again_also_with_large_requests(status):
    def script(number, _):
        return (grpc.StatusCode[status], "full") if number < 2 else None

    with grpc_serving(script) as (service, address), Client(address) as asked:
        assert names(asked.predict([bytes(1_000_000) + b"x"] * 3)) == ["x"] * 3
    assert len(service.requests) == 3


def test_grpc_without_retries_asks_once():
    script = lambda *_: (grpc.StatusCode.UNAVAILABLE, "full")  # noqa: E731
    with (
        grpc_serving(script) as (service, address),
        Client(address, retries=0) as asked,
        pytest.raises(UserError, match="demo replied UNAVAILABLE, full; check that it runs"),
    ):
        asked.predict([b"x"])
    assert len(service.requests) == 1


def test_grpc_statuses_are_the_sentences_of_rest():
    for status, sentence in (
        ("NOT_FOUND", "replied NOT_FOUND, words; check the model's name"),
        ("FAILED_PRECONDITION", "replied FAILED_PRECONDITION, words; request a version"),
        ("INTERNAL", "replied INTERNAL, words; the server's log"),
    ):
        script = lambda *_, status=status: (grpc.StatusCode[status], "words")  # noqa: E731
        with (
            grpc_serving(script) as (service, address),
            Client(address) as asked,
            pytest.raises(UserError, match=sentence),
        ):
            asked.predict([b"x"])
        assert len(service.requests) == 1


def test_a_grpc_call_ends_with_its_time():
    with (
        grpc_serving(lambda *_: time.sleep(1)) as (_, address),
        Client(address, timeout=0.2) as asked,
        pytest.raises(UserError, match=r"did not reply within 0\.2 seconds"),
    ):
        asked.predict([b"x"])


def test_a_grpc_server_that_is_not_there_is_one_sentence():
    with (
        Client(f"grpc://127.0.0.1:{free_port()}/v1/models/demo", retries=1) as asked,
        pytest.raises(UserError, match="replied UNAVAILABLE, .*refused.*; check that it runs"),
    ):
        asked.predict([b"x"])
