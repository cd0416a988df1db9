# SPDX-License-Identifier: Apache-2.0
"""The client by the Open Inference Protocol: its messages, tensors and sentences, and a real server of it."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from fake_server import serving
from mlserver import needed_python, of_pixels, run_mlserver

from inception_tf import UserError, cli
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.export.runtime_folder import write_description
from inception_tf.serving import Client
from inception_tf.serving.client.v2_messages import MESSAGES
from inception_tf.serving.client.v2_tensors import from_json, from_raw, to_raw

HERE = Path(__file__).parent / "v2"
SIZE = 8  # as the server of `triton_protos.py` has it
LABELS = ("red", "green", "blue")


def png(color: tuple[int, int, int]) -> bytes:
    return tf.io.encode_png(np.full((5, 5, 3), color, np.uint8)).numpy()


RED, BLUE = png((255, 0, 0)), png((0, 0, 255))


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    """The folder of an export, of which a client of pixels reads the labels and the preprocessing."""
    folder = tmp_path_factory.mktemp("saved_models") / "colors"
    (folder / "1").mkdir(parents=True)
    write_description(folder / "1", LABELS, Preprocessing(SIZE))
    return folder


@pytest.fixture(scope="module")
def rpc():
    """The address of the gRPC server, without a model."""
    pytest.importorskip("tritonclient")
    server = subprocess.Popen(
        [sys.executable, HERE / "triton_protos.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with server:
        yield f"grpc://127.0.0.1:{server.stdout.readline().strip()}/v2"


def names(answers):
    return [answer.top[0][0] for answer in answers]


# Messages and tensors.


def test_the_messages_are_those_of_tritons_protos():
    pytest.importorskip("tritonclient")
    program = """
import json
from tritonclient.grpc import service_pb2
def fields(message):
    return {f.name: (f.number, f.type) for f in message.fields}
found = {}
def walk(message):
    found[message.name] = fields(message)
    for nested in message.nested_types:
        walk(nested)
for message in service_pb2.DESCRIPTOR.message_types_by_name.values():
    walk(message)
print(json.dumps(found))
"""
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout
    theirs = json.loads(output)
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto

    for message, fields in MESSAGES.items():
        for field in fields:
            kind = "message" if field.type in MESSAGES else field.type
            number = FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")
            assert theirs[message][field.name] == [field.number, number], (message, field.name)


def test_tensors_come_back_as_they_were():
    texts = np.array([b"", b"a\x00", b"\xff" * 300], object)
    raw = to_raw(texts)
    assert raw[:10] == b"\0\0\0\0\2\0\0\0a\0"  # little endian, as Triton's documents say
    assert from_raw(raw[:10], "BYTES", [2]).tolist() == ["", "a\x00"]
    numbers = np.array([[1.5, -2]], np.float32)
    np.testing.assert_array_equal(from_raw(to_raw(numbers), "FP32", [1, 2]), numbers)
    nested = {"datatype": "INT64", "shape": [2, 1], "data": [[7], [8]]}
    assert from_json(nested).tolist() == [[7], [8]]
    coded = {"datatype": "BYTES", "shape": [1], "data": ["YQ=="]}
    assert from_json(coded).tolist() == ["YQ=="]
    assert from_json(coded | {"parameters": {"content_type": "base64"}}).tolist() == ["a"]


# gRPC.


@pytest.mark.parametrize("model", ["encoded", "typed", "silent", "busy"])
def test_grpc_sends_encoded_images_and_reads_both_forms_of_contents(rpc, model):
    with Client(f"{rpc}/models/{model}/versions/7", batch_size=2) as client:
        answers = client.predict([b"a", b"b", b"c"], top=2)
    assert names(answers) == ["a", "b", "c"]
    assert [label for label, _ in answers[0].top] == ["a", "7"]
    assert answers[0].top[0][1] == float(np.float32(0.123456789))


def test_grpc_prepares_pixels_and_names_the_classes(rpc, exported):
    with Client(rpc, model="pixels", export=exported) as client:
        red, bad, blue = client.predict([RED, b"no image", BLUE], top=3)
    assert [label for label, _ in red.top] == ["red", "green", "blue"]
    assert red.top[0][1] == 2
    assert (bad.status, bad.top) == ("not a JPEG, PNG, WebP, BMP or GIF image", ())
    assert blue.top[0] == ("blue", 2)


def test_pixels_without_the_export_say_what_to_name(rpc, exported, tmp_path):
    with pytest.raises(
        UserError, match=r"takes pixels, images FP32 \[-1, 8, 8, 3\], and not .* --export FOLDER"
    ):
        Client(rpc, model="pixels").predict([RED])
    for labels, size, sentence in (
        (LABELS, 9, r"takes images FP32 \[-1, 8, 8, 3\], and .* prepares images of 9x9x3"),
        (LABELS[:2], SIZE, r"gives probabilities FP32 \[-1, 3\], and .* has 2 labels"),
    ):
        write_description(tmp_path, labels, Preprocessing(size))
        with pytest.raises(UserError, match=sentence):
            Client(rpc, model="pixels", export=tmp_path).predict([RED])
    with pytest.raises(UserError, match="has no preprocessing.json; name the folder"):
        Client(rpc, model="pixels", export=tmp_path.parent / "none").predict([RED])
    with pytest.raises(UserError, match="takes encoded images, which it prepares itself"):
        Client("http://host/v1/models/m", export=exported)


def test_grpc_ends_with_its_time_and_names_what_is_not_there(rpc):
    with pytest.raises(UserError, match=r"models/slow did not reply within 0\.2 seconds"):
        Client(rpc, model="slow", timeout=0.2).predict([b"x"])
    with pytest.raises(
        UserError, match="replied NOT_FOUND, Request for unknown model: 'unknown'; check"
    ):
        Client(rpc, model="unknown").predict([b"x"])


def test_grpc_tells_versions_and_whether_they_are_ready(rpc):
    assert Client(rpc, model="encoded").status() == {1: "AVAILABLE", 2: "NOT_READY"}
    assert Client(rpc, model="encoded", version="2").status() == {"2": "NOT_READY"}


@pytest.mark.parametrize(
    ("model", "what"), [("lying", r"the shape \[-1, 7\]"), ("cut", "BYTES that end within")]
)
def test_grpc_refuses_contents_that_are_no_such_tensor(rpc, model, what):
    with pytest.raises(
        UserError, match=f"not reply as a model of inception-tf export does: {what}"
    ):
        Client(rpc, model=model).predict([b"x"])


def test_a_request_larger_than_a_server_takes_says_what_to_set(rpc):
    with (
        Client(rpc, model="encoded", request_bytes=10**8, retries=0) as client,
        pytest.raises(UserError, match="replied RESOURCE_EXHAUSTED, .*; send fewer or smaller"),
    ):
        client.predict([bytes(3_000_000)] * 2)
    with Client(rpc, model="encoded") as client:
        assert len(client.predict([bytes(3_000_000)] * 2, top=1)) == 2


# REST.

ENCODED = {
    "name": "demo",
    "versions": ["3"],
    "inputs": [{"name": "image_bytes", "datatype": "BYTES", "shape": [-1]}],
    "outputs": [],
}
PIXELS = {
    "name": "demo",
    "inputs": [{"name": "images", "datatype": "FP32", "shape": [-1, SIZE, SIZE, 3]}],
    "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}],
}


def outputs(texts: list[str]) -> dict:
    n = len(texts)

    def tensor(name, kind, data, *shape):
        return {"name": name, "datatype": kind, "shape": [n, *shape], "data": data}

    scores = [0.75, 0.25] * n
    labels = [label for text in texts for label in (text, "other")]
    return {
        "outputs": [
            tensor("status", "BYTES", ["ok"] * n),
            tensor("top_classes", "BYTES", labels, 2),
            tensor("top_scores", "FP32", scores, 2),
            tensor("probabilities", "FP32", scores, 2),
        ]
    }


@contextlib.contextmanager
def v2(infer, metadata=ENCODED, extensions=()):
    """Yields (fake, address); `infer(body)` → as a script of `fake_server` gives."""
    holder = []

    def script(number, body):
        path = holder[0].paths[-1]
        if path == "/v2":
            return 200, {"name": "fake", "extensions": list(extensions)}
        if path.endswith("/infer"):
            return infer(body)
        return (200, b"") if path.endswith("/ready") else (200, metadata)

    with serving(script) as (fake, address):
        holder.append(fake)
        yield fake, address.replace("/v1/", "/v2/")


def test_rest_sends_json_where_the_server_has_nothing_else():
    def infer(body):
        (tensor,) = json.loads(body)["inputs"]
        assert tensor["parameters"] == {"content_type": "base64"}
        assert (tensor["name"], tensor["datatype"], tensor["shape"]) == (
            "image_bytes",
            "BYTES",
            [2],
        )
        return 200, outputs(tensor["data"])

    with v2(infer) as (fake, address), Client(address + "/versions/3") as client:
        answers = client.predict([b"a", b"bc"], top=2)
        assert client.status() == {"3": "AVAILABLE"}
    assert names(answers) == ["YQ==", "YmM="]
    assert answers[0].top[1] == ("other", 0.25)
    assert "/v2/models/demo/versions/3/infer" in fake.paths


def test_rest_sends_bytes_after_the_json_where_the_server_has_that_and_reads_them(exported):
    sent = []

    def infer(body):
        sent.append(body)
        scores = np.array([[0.5, 0.3, 0.2]], "<f4").tobytes()
        reply = {"name": "probabilities", "datatype": "FP32", "shape": [1, 3]}
        text = json.dumps({"outputs": [reply | {"parameters": {"binary_data_size": 12}}]}).encode()
        return 200, text + scores, {"Inference-Header-Content-Length": str(len(text))}

    with (
        v2(infer, PIXELS, ["binary_tensor_data"]) as (_, address),
        Client(address, export=exported) as client,
    ):
        (answer,) = client.predict([RED], top=1)
    assert answer.top == (("red", 0.5),)
    head, values = sent[0][: -4 * SIZE * SIZE * 3], sent[0][-4 * SIZE * SIZE * 3 :]
    asked = json.loads(head)
    assert asked["inputs"][0]["parameters"] == {"binary_data_size": len(values)}
    pixels = np.frombuffer(values, "<f4").reshape(SIZE, SIZE, 3)
    np.testing.assert_allclose(pixels, np.broadcast_to([1, -1, -1], pixels.shape), atol=1e-6)


DEEP = b"[" * 200_000
OUTPUT = {"name": "probabilities", "datatype": "FP32", "shape": [1, 2], "data": [0.5, 0.5]}
STRANGE = {
    "no JSON object": DEEP,
    "no 'outputs'": {},
    "'int' object is not iterable": {"outputs": 3},
    "no 'name'": {"outputs": [{"datatype": "FP32", "shape": [1], "data": [1]}]},
    r"the type 'FP8'": {"outputs": [OUTPUT | {"datatype": "FP8"}]},
    r"the shape \[-1, 2\]": {"outputs": [OUTPUT | {"shape": [-1, 2]}]},
    "cannot reshape": {"outputs": [OUTPUT | {"shape": [2, 2]}]},
    r"the shape \[1000000000, 1000000000\]": {"outputs": [OUTPUT | {"shape": [10**9, 10**9]}]},
    "data that are no list": {"outputs": [OUTPUT | {"data": "ab"}]},
    "BYTES that are no text": {"outputs": [OUTPUT | {"datatype": "BYTES"}]},
    "no 'status'": {"outputs": [OUTPUT]},
    "2 predictions for 1 images": outputs(["a", "b"]),
}


@pytest.mark.parametrize("what", STRANGE)
def test_an_answer_of_another_kind_is_a_sentence(what):
    with (
        v2(lambda body: (200, STRANGE[what])) as (_, address),
        Client(address) as client,
        pytest.raises(
            UserError, match=f"not reply as a model of inception-tf export does: .*{what}"
        ),
    ):
        client.predict([b"x"], top=2)


METADATA = {
    "inputs a FP32 .*, b FP32": ENCODED
    | {"inputs": [{"name": n, "datatype": "FP32", "shape": [1]} for n in "ab"]},
    "inputs images UINT8": ENCODED
    | {"inputs": [{"name": "images", "datatype": "UINT8", "shape": [-1]}]},
    "no 'shape'": ENCODED | {"inputs": [{"name": "images", "datatype": "UINT8"}]},
    "'int' object is not iterable": ENCODED | {"inputs": 1},
}


@pytest.mark.parametrize("what", METADATA)
def test_metadata_of_another_kind_are_a_sentence(what):
    with (
        v2(None, METADATA[what]) as (_, address),
        Client(address) as client,
        pytest.raises(UserError, match=f"not reply as a model .*: .*{what}"),
    ):
        client.predict([b"x"])


def test_errors_are_those_of_the_other_api():
    with (
        v2(lambda body: (400, {"error": "bad \x1b[31mshape"})) as (_, address),
        pytest.raises(UserError, match=r"replied 400, bad \\x1b\[31mshape; request"),
    ):
        Client(address).predict([b"x"])


# The command.


def test_predict_takes_the_export_that_a_server_of_pixels_serves(rpc, exported, tmp_path, capfd):
    (tmp_path / "red.png").write_bytes(RED)
    words = ["predict", f"{rpc}/models/pixels", str(tmp_path / "red.png"), "--top", "1"]
    assert cli.main([*words, "--export", str(exported)]) == 0
    assert re.search(r"red\.png +red +2\.0000", capfd.readouterr().out)
    assert cli.main(words) == 2
    assert "takes pixels" in capfd.readouterr().err
    assert cli.main(["predict", str(tmp_path), "x.png", "--export", str(exported)]) == 2
    assert "--export is for a server's address" in capfd.readouterr().err


def test_the_grpc_client_of_encoded_images_imports_no_tensorflow(rpc):
    program = """
import sys
from inception_tf.serving import Client
assert Client(sys.argv[1], model="encoded").predict([b"x"], top=2)[0].top[0][0] == "x"
assert not {"tensorflow", "keras", "tensorflow_serving"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program, rpc], check=True)


# A real server.


@pytest.fixture(scope="module")
def mlserver(short_networks, digits_run, tmp_path_factory):
    """(REST address, gRPC address, the export of `digits`) of MLServer with two models."""
    needed_python()
    from inception_tf.classifiers import open_run
    from inception_tf.data.sources.open import open_source
    from inception_tf.export.runtimes import export_runtime

    folder, _ = export_runtime(
        open_run(digits_run),
        open_source("digits"),
        tmp_path_factory.mktemp("saved_models") / "digits",
        format="onnx",
        images=20,
    )
    described = {
        "digits": of_pixels(folder, 10),
        "lengths": {
            "implementation": "runtimes.Lengths",
            "parameters": {"content_type": "base64"},
            "inputs": [
                {
                    "name": "image_bytes",
                    "datatype": "BYTES",
                    "shape": [-1],
                    "parameters": {"content_type": "base64"},
                }
            ],
        },
    }
    with run_mlserver(tmp_path_factory.mktemp("models"), described) as addresses:
        yield *addresses, folder


@pytest.mark.slow
@pytest.mark.parametrize("way", ["rest", "grpc"])
def test_a_real_server_gives_the_answers_of_the_run(mlserver, digits_run, tmp_path, way):
    from inception_tf.data.sources.open import open_source
    from inception_tf.serving.predict import predict

    rest, rpc, folder = mlserver
    address = rest if way == "rest" else rpc
    images = open_source("digits").split("test").images[:40]
    paths = []
    for number, image in enumerate(images):
        paths.append(f"{tmp_path}/{number}.png")
        tf.io.write_file(paths[-1], tf.io.encode_png(image))
    (tmp_path / "bad.png").write_bytes(b"no image")
    paths.append(str(tmp_path / "bad.png"))
    with Client(address, model="digits", export=folder) as client:
        found = client.predict(paths, top=10)
        assert client.status() == {None: "AVAILABLE"}  # MLServer lists no versions of one alone
    for ours, theirs in zip(predict(digits_run, paths, top=10), found, strict=True):
        assert (ours.image, ours.status) == (theirs.image, theirs.status)
        expected = dict(ours.top)
        for label, score in theirs.top:
            assert score == pytest.approx(expected[label], abs=1e-5)
    assert found[0].top[0][0] == predict(digits_run, paths[:1])[0].top[0][0]
    with Client(address, model="digits", version="v1", export=folder) as client:
        assert client.predict(paths[:1], top=1)[0].status == "ok"


@pytest.mark.slow
@pytest.mark.parametrize("way", ["rest", "grpc"])
def test_a_real_server_takes_bytes_and_its_errors_are_sentences(mlserver, way):
    rest, rpc, _ = mlserver
    address = rest if way == "rest" else rpc
    with Client(address, model="lengths", batch_size=2) as client:
        found = client.predict([b"\xff\xd8\x00" * 5, b"\x00", bytes(300)], top=2)
    assert names(found) == ["15", "1", "300"]
    assert [label for label, _ in found[0].top] == ["15", "other"]
    with pytest.raises(UserError, match="replied (404|NOT_FOUND), .*check the model's name"):
        Client(address, model="absent").predict([b"x"])
    with pytest.raises(UserError, match="replied (404|NOT_FOUND), "):
        Client(address, model="digits", version="v9").predict([b"x"])
