# SPDX-License-Identifier: Apache-2.0
"""Downloads from a real HTTP server on loopback: complete and checked, or nothing."""

from __future__ import annotations

import hashlib
import http.server
import json
import resource
import threading
import urllib.request
from email.message import Message

import numpy as np
import pytest
import torch_file

import inception_tf
from inception_tf.errors import UserError
from inception_tf.weights import fetch
from inception_tf.weights.hub import hub_repository, local_file

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()
COMMIT = "a" * 40


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self._answer(with_content=False)

    def do_GET(self):
        self._answer(with_content=True)

    def _answer(self, with_content):
        server = self.server
        server.requests.append((self.command, self.path))
        fault = server.faults.pop(0) if server.faults else 200
        if isinstance(fault, int) and fault != 200:
            self.send_error(fault)
            return
        content = server.files.get(self.path.rsplit("/", 1)[-1])
        if content is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        for name, value in server.headers.items():
            self.send_header(name, value)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(2**60 if fault == "huge" else len(content)))
        self.end_headers()
        if with_content and fault != "huge":
            self.wfile.write(content[: len(content) // 2] if fault == "torn" else content)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(fetch, "RETRY_DELAY_S", 0.01)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.files, server.headers, server.faults, server.requests = {"x.bin": CONTENT}, {}, [], []
    server.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("faults", [[], [500], [503, "torn"], ["torn", 429]])
def test_what_may_pass_is_tried_again_and_stdout_stays_empty(server, tmp_path, faults, capsys):
    server.faults = list(faults)
    done = fetch.download(f"{server.address}/x.bin", tmp_path / "x.bin", {"md5": ""})
    assert (tmp_path / "x.bin").read_bytes() == CONTENT
    assert len(server.requests) == len(faults) + 1
    assert (done.sha256, done.size) == (SHA256, len(CONTENT))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("faults", "requests", "reason"),
    [
        ([404], 1, "the server answers 404 Not Found"),
        ([403], 1, "the server answers 403 Forbidden"),
        ([500] * 9, 3, "the server answers 500"),
        (["torn"] * 9, 3, "the answer ended after 5,120 of 10,240 bytes"),
        (["huge"], 1, "the disk is full"),
    ],
)
def test_a_failure_leaves_nothing_and_says_where_the_file_goes(
    server, tmp_path, faults, requests, reason
):
    server.faults = faults
    with pytest.raises(UserError) as error:
        fetch.download(f"{server.address}/x.bin", tmp_path / "x.bin", {})
    assert reason in str(error.value)
    assert f"{server.address}/x.bin" in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert names(tmp_path) == []
    assert len(server.requests) == requests


def test_without_a_connection_the_sentence_has_the_address_and_the_place(server, tmp_path):
    server.shutdown()
    server.server_close()
    with pytest.raises(UserError) as error:
        fetch.download(f"{server.address}/x.bin", tmp_path / "x.bin", {})
    assert str(error.value) == (
        f"cannot download {server.address}/x.bin: Connection refused; try again, or put that file by hand at"
        f" {tmp_path / 'x.bin'}"
    )


def test_another_checksum_keeps_nothing_and_is_not_tried_again(server, tmp_path):
    with pytest.raises(UserError, match="has the sha1 checksum .* should have 00"):
        fetch.download(f"{server.address}/x.bin", tmp_path / "x.bin", {"sha1": "00"})
    assert names(tmp_path) == []
    assert len(server.requests) == 1


def test_a_full_disk_is_one_sentence_and_not_tried_again(server, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"cannot write .*: File too large"):
            fetch.download(f"{server.address}/x.bin", tmp_path / "x.bin", {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(tmp_path) == []
    assert len(server.requests) == 1


def test_without_a_published_checksum_the_first_download_is_trusted_and_kept(server, tmp_path):
    path = tmp_path / "x.bin"
    fetch.keep_record(path, fetch.download(f"{server.address}/x.bin", path, {}))
    record = json.loads((tmp_path / "x.bin.json").read_text())
    assert (record["sha256"], record["checked_by"]) == (SHA256, "")
    path.unlink()
    fetch.download(f"{server.address}/x.bin", path, {})  # the same again
    path.unlink()
    server.files["x.bin"] = CONTENT + b"changed"
    with pytest.raises(UserError, match="sent another file than at the first download"):
        fetch.download(f"{server.address}/x.bin", path, {})
    assert names(tmp_path) == ["x.bin.json"]


def test_a_branch_is_kept_with_the_revision_that_it_stood_for(server, tmp_path):
    server.headers = {"X-Repo-Commit": COMMIT, "X-Linked-Etag": f'"{SHA256}"'}
    path = tmp_path / "x.bin"
    for _ in range(2):
        done = fetch.download(f"{server.address}/o/r/resolve/main/x.bin", path, {})
        fetch.keep_record(path, done)
        path.unlink()
    assert (done.commit, done.checked_by) == (COMMIT, "its publisher")
    assert [one for _, one in server.requests] == [
        "/o/r/resolve/main/x.bin",
        f"/o/r/resolve/{COMMIT}/x.bin",
    ]


def test_a_checksum_in_the_answer_is_compared(server, tmp_path):
    server.headers = {"X-Linked-Etag": f'"{"0" * 64}"'}
    with pytest.raises(UserError, match="sha256 checksum"):
        fetch.download(f"{server.address}/x.bin", tmp_path / "x.bin", {})
    assert names(tmp_path) == []


def test_a_redirect_to_plain_http_is_not_followed():
    request = urllib.request.Request("https://example.org/x")
    with pytest.raises(UserError, match="which is not encrypted"):
        fetch._Redirects().redirect_request(
            request, None, 302, "Found", Message(), "http://example.org/x"
        )


# The Hub


@pytest.fixture
def hub(server, tmp_path, monkeypatch):
    package = pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    server.headers = {"X-Repo-Commit": COMMIT}
    yield server
    package.close_session()


@pytest.mark.usefixtures("short_networks")
def test_an_address_of_the_hub_loads(hub, tmp_path):
    model = inception_tf.create_model("inception_v1", classes=5, torch_padding=True)
    state = torch_file.state_of(model, "inception_v1")
    state["fc.bias"] = np.arange(5, dtype=np.float32)
    torch_file.write(tmp_path / "model.safetensors", state)
    hub.files["model.safetensors"] = (tmp_path / "model.safetensors").read_bytes()
    address = "hf://owner/repo/model.safetensors@v1"
    loaded = inception_tf.create_model(
        "inception_v1", classes=5, torch_padding=True, weights=address
    )
    np.testing.assert_array_equal(loaded.get_layer("Logits").bias, np.arange(5))
    assert ("HEAD", "/owner/repo/resolve/v1/model.safetensors") in hub.requests


def test_what_the_hub_has_not_is_one_sentence(hub):
    with pytest.raises(UserError, match=r"^cannot download http.*/o/r/resolve/main/none.bin: 404"):
        local_file("hf://o/r/none.bin")


@pytest.mark.parametrize(
    "address",
    ["hf://", "hf://o/r", "hf://o/r/", "hf://o/r/../../x", "hf://o/r/x@", "hf://o/r/x@a@b"],
)
def test_an_address_of_another_form_is_refused(address):
    with pytest.raises(UserError, match="is no address of a file; write hf://OWNER"):
        local_file(address)


def test_without_huggingface_hub_the_sentence_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(
        UserError, match=r"needs huggingface_hub: pip install 'inception_tf\[hub\]'"
    ):
        local_file("hf://o/r/x.safetensors")


def test_a_path_stays_what_it_is():
    assert local_file("x/y.h5") == "x/y.h5"
    assert hub_repository("hf://timm/inception_v3.tf_in1k/model.safetensors") == (
        "timm/inception_v3.tf_in1k"
    )
