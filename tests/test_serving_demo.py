# SPDX-License-Identifier: Apache-2.0
"""The page for people, in a browser: what is dropped on it, what it shows, whom it talks to."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import socket
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import keras
import psutil
import pytest
import ramps
import requests
import tensorflow as tf
from demo_picture import browser, demo, drop, wait

from inception_tf import cli
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.export.savedmodel import export
from inception_tf.serving.predict import predict

SIZE = 32
ENDS_WITHIN_S = 5.0  # of a signal, whatever hangs; half a second on an idle machine
ODD = ("pillow/pil_sample_cmyk.jpg", "pngsuite/basi6a16.png", "pillow/hopper_orientation_6.jpg")
LABELS = ("crane", "rose", "crane", "Ärmel <b>", "wing", "fig")  # ImageNet has two cranes


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    images = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(8, 5, 4, name="conv")(images)
    x = keras.layers.GlobalMaxPooling2D()(x)
    network = keras.Model(images, keras.layers.Dense(len(LABELS), "softmax", name="logits")(x))
    for weight in network.weights:
        weight.assign(ramps.weight(weight.path, tuple(weight.shape)))
    return export(
        network, LABELS, tmp_path_factory.mktemp("models") / "flowers", Preprocessing(SIZE)
    )


@pytest.fixture(scope="module")
def running(model):
    with demo(model.parent, "--top", "6") as (address, process):
        yield address, process


@pytest.fixture(scope="module")
def chromium():
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("no browser; bring one with: apt-get install chromium chromium-driver")
    with browser() as driver:
        yield driver


@pytest.fixture
def page(chromium, running):
    chromium.get(running[0])
    return chromium


def bars(page) -> list[tuple[str, float, str]]:
    """Name, length and percentage of each bar of the newest image, from the longest."""
    wait(page, "document.querySelector('article meter')")
    return page.execute_script(
        "return [...document.querySelectorAll('article:first-child .bar')].map(bar => ["
        "bar.querySelector('dt').innerText.trim(), bar.querySelector('meter').value,"
        "bar.querySelector('dd').innerText])"
    )


def problem(page) -> str:
    return wait(page, "document.querySelector('article:first-child .problem')?.innerText")


@pytest.fixture(scope="module")
def shown(model, test_data):
    """A function of an image: what the page has to show of it."""
    odd = [test_data / "bad_images" / name for name in ODD]
    images = [*sorted((test_data / "flowers12").rglob("*.jpg"))[:3], *odd]
    answers = predict(model, list(map(str, images)), top=6)
    assert {answer.status for answer in answers} == {"ok"}
    rows = {
        answer.image: [[n, pytest.approx(s, abs=1e-6), f"{100 * s:.0f}%"] for n, s in answer.top]
        for answer in answers
    }
    return lambda image: rows[str(image)]


@pytest.fixture(scope="module")
def flower(test_data) -> Path:
    return min((test_data / "flowers12").rglob("*.jpg"))


def png(width: int, height: int) -> bytes:
    """A PNG file whose header tells of more pixels than come."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    )


def test_an_image_that_is_dropped_is_named_as_the_saved_model_names_it(page, shown, flower):
    drop(page, flower)
    assert bars(page) == shown(flower)
    assert sorted(name for name, *_ in bars(page)) == sorted(LABELS)
    assert wait(page, "document.querySelector('article img')?.naturalWidth") == 224


def test_the_page_says_what_it_is_of(page):
    assert wait(page, "document.title") == "flowers"
    words = wait(page, "document.querySelector('h1')?.parentElement.innerText")
    assert words.split() == ["flowers", "Version", "1,", "6", "classes"]


@pytest.mark.parametrize("name", ODD)
def test_an_odd_image_reaches_the_model_as_it_is(page, shown, test_data, name):
    image = test_data / "bad_images" / name
    drop(page, image)
    assert bars(page) == shown(image)


def test_what_cannot_be_read_is_told_with_the_models_reason_and_the_next_image_is_named(
    page, shown, flower, tmp_path
):
    text = tmp_path / "text.jpg"
    text.write_bytes(b"no image")
    drop(page, text)
    assert problem(page) == "This image cannot be read: not a JPEG, PNG, WebP, BMP or GIF image"
    assert not page.execute_script("return document.querySelector('article meter')")
    drop(page, flower)
    assert bars(page) == shown(flower)


def test_a_file_that_claims_to_be_huge_is_refused_by_the_model(page, tmp_path):
    image = tmp_path / "huge.png"
    image.write_bytes(png(20000, 20000))
    drop(page, image)
    assert problem(page).endswith("20000x20000 pixels, at most 50000000 are read")


def test_the_page_sends_requests_to_its_server_alone(page, running, flower):
    wait(page, "document.querySelector('#image button')")
    drop(page, flower)
    bars(page)
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    urls = [
        urlsplit(message["params"]["request"]["url"])
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
    # chrome: and data: stay inside the browser.
    asked = {url.netloc for url in urls if url.scheme in ("http", "https", "ws", "wss")}
    assert asked == {urlsplit(running[0]).netloc}


def test_the_server_listens_on_loopback_alone(running):
    assert urlsplit(running[0]).hostname == "127.0.0.1"
    listening = {
        connection.laddr
        for connection in psutil.net_connections("tcp")
        if connection.pid == running[1].pid and connection.status == psutil.CONN_LISTEN
    }
    assert listening == {("127.0.0.1", urlsplit(running[0]).port)}


@pytest.mark.parametrize(
    ("end", "request_hangs"),
    [
        (signal.SIGINT, False),
        (signal.SIGTERM, True),
        pytest.param(signal.SIGINT, True, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, False, marks=pytest.mark.slow),
    ],
)
def test_the_server_sends_no_request_and_ends_cleanly(
    model, tmp_path, monkeypatch, end, request_hangs
):
    """Whoever would go to the network goes to a proxy here."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        monkeypatch.delenv("no_proxy", raising=False)
        with demo(model) as (address, process):
            connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
            connection.request("GET", "/")
            page = connection.getresponse().read().decode()
            if request_hangs:
                connection.putrequest("POST", "/classify")
                connection.putheader("X-Demo-Token", token_of(page))
                connection.putheader("Content-Length", "99")
                connection.endheaders()
            process.send_signal(end)
            out, err = process.communicate(timeout=30)
            connection.close()
        proxy.setblocking(False)
        with pytest.raises(BlockingIOError):
            proxy.accept()
    assert (process.returncode, out, err) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken_is_one_sentence(model, capfd):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert cli.main(["demo", str(model), "--port", str(port), "--no-open"]) == 2
    out, err = capfd.readouterr()
    sentence = f"port {port} cannot be taken: Address already in use; give another with --port"
    assert (out, err) == ("", f"inception-tf: {sentence}\n")


def test_what_is_no_saved_model_is_one_sentence(tmp_path, capfd):
    assert cli.main(["demo", str(tmp_path), "--no-open"]) == 2
    assert "has neither a saved_model.pb nor a numbered version folder" in capfd.readouterr().err


def test_several_images_are_shown_each_with_its_classes(page, shown, test_data):
    images = sorted((test_data / "flowers12").rglob("*.jpg"))[:3]
    drop(page, *images)
    wait(page, "document.querySelectorAll('article meter').length == 18")
    names = page.execute_script(
        "return [...document.querySelectorAll('article')].map(card => card.querySelector('dt').innerText.trim())"
    )
    assert names[::-1] == [shown(image)[0][0] for image in images]


def token_of(page: str) -> str:
    return re.search(r'token = "([\w-]+)"', page).group(1)


@pytest.fixture(scope="module")
def token(running):
    return token_of(requests.get(running[0], timeout=60).text)


def test_an_image_of_the_page_is_classified(running, token, shown, flower):
    answer = requests.post(
        f"{running[0]}/classify", flower.read_bytes(), headers={"X-Demo-Token": token}, timeout=60
    )
    assert answer.json()["status"] == "ok"
    assert [name for name, _ in answer.json()["classes"]] == [name for name, *_ in shown(flower)]


@pytest.mark.parametrize(
    ("path", "headers", "code"),
    [
        ("/classify", {}, 403),
        ("/classify", {"X-Demo-Token": "guessed"}, 403),
        ("/classify", {"Host": "evil.example:17861"}, 400),
        ("/gradio_api/queue/join", {}, 403),
        ("/gradio_api/run/predict", {"X-Demo-Token": ""}, 403),
    ],
)
def test_what_is_no_image_of_the_page_is_refused_before_it_is_read(running, path, headers, code):
    """A path in JSON, as Gradio's pages took it, is answered like everything else."""
    for content in ({"data": [{"path": "/etc/passwd"}]}, {"data": [{"path": "/missing"}]}):
        answer = requests.post(running[0] + path, json=content, headers=headers, timeout=60)
        assert answer.status_code == code
        assert "passwd" not in answer.text


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "[::1]:80", ""])
def test_a_foreign_host_is_refused(running, host):
    answer = requests.get(running[0], headers={"Host": host}, timeout=60)
    assert answer.status_code == 400
    assert "token" not in answer.text


@pytest.mark.parametrize(
    "path", ["/..%2f..%2fetc/passwd", "/file=/etc/passwd", "/proc/self/environ"]
)
def test_no_file_is_served(running, path):
    assert requests.get(running[0] + path, timeout=60).status_code == 404


def test_an_upload_that_is_too_large_is_refused_by_its_header(running, token):
    at = urlsplit(running[0])
    head = f"POST /classify HTTP/1.1\r\nHost: {at.netloc}\r\nX-Demo-Token: {token}\r\nContent-Length: {2**40}\r\n\r\n"
    with socket.create_connection((at.hostname, at.port)) as connection:
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


class Endless(tf.Module):
    """A model whose first answer takes hours."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")], autograph=False)
    def serve(self, image_bytes):
        count = tf.size(image_bytes, tf.int64)
        (end,) = tf.while_loop(lambda i: i < 10**15, lambda i: (i + 1,), (count,))
        scores = tf.fill([count, len(LABELS)], tf.cast(end, tf.float32))
        return {"probabilities": scores, "status": tf.fill([count], "ok")}


@pytest.mark.parametrize(
    "end", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_it_ends_while_a_computation_hangs(tmp_path, end):
    endless = Endless()
    tf.saved_model.save(endless, str(tmp_path / "1"), {"serving_default": endless.serve})
    (tmp_path / "1/assets/labels.txt").write_text("\n".join(LABELS), encoding="utf-8")
    with demo(tmp_path / "1") as (address, process):
        token = token_of(requests.get(address, timeout=60).text)
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(
                requests.post,
                f"{address}/classify",
                data=b"x",
                headers={"X-Demo-Token": token},
                timeout=60,
            )
            used = psutil.Process(process.pid).cpu_times().user
            while psutil.Process(process.pid).cpu_times().user < used + 0.2:  # it computes
                assert not asked.done(), asked.result().text
                time.sleep(0.05)
            start = time.monotonic()
            process.send_signal(end)
            out, err = process.communicate(timeout=20)
            assert time.monotonic() - start < ENDS_WITHIN_S
            with pytest.raises(requests.ConnectionError):
                asked.result()
    assert (process.returncode, out, err) == (0, "", "")
