# SPDX-License-Identifier: Apache-2.0
"""The page for people, in a browser: what is dropped on it, what it shows, whom it talks to."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import struct
import sys
import zlib
from pathlib import Path
from urllib.parse import urlsplit

import keras
import psutil
import pytest
import ramps
from demo_picture import browser, demo, drop, wait

from inception_tf import cli
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.export.savedmodel import export
from inception_tf.serving.predict import predict

SIZE = 32
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
        pytest.skip("no chromium and chromedriver on this machine")
    with browser() as driver:
        yield driver


@pytest.fixture
def page(chromium, running):
    chromium.get(running[0])
    return chromium


def bars(page) -> list[tuple[str, float, str]]:
    """Name, length and percentage of each bar, from the longest."""
    wait(page, "document.querySelector('#label meter')")
    return page.execute_script(
        "return [...document.querySelectorAll('#label .confidence-set')].map(bar => ["
        "bar.querySelector('dt').innerText.trim(), bar.querySelector('meter').value,"
        "bar.querySelector('dd').innerText])"
    )


def problem(page) -> str:
    return wait(page, "document.querySelector('#problem')?.innerText")


def shown(model: Path, image: Path) -> list[list]:
    """What the page has to show of an image."""
    (answer,) = predict(model, [str(image)], top=6)
    assert answer.status == "ok"
    return [[n, pytest.approx(s, abs=1e-6), f"{100 * s:.0f}%"] for n, s in answer.top]


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


def test_an_image_that_is_dropped_is_named_as_the_saved_model_names_it(page, model, test_data):
    image = next((test_data / "flowers12").rglob("*.jpg"))
    drop(page, image)
    assert bars(page) == shown(model, image)
    assert sorted(name for name, *_ in bars(page)) == sorted(LABELS)
    assert wait(page, "document.querySelector('#image img')?.naturalWidth") == 224


def test_the_page_says_what_it_is_of(page):
    assert wait(page, "document.title") == "flowers"
    words = wait(page, "document.querySelector('h1')?.parentElement.innerText")
    assert words.split("\n\n") == ["flowers", "Version 1, 6 classes"]


@pytest.mark.parametrize(
    "name",
    ["pillow/pil_sample_cmyk.jpg", "pngsuite/basi6a16.png", "pillow/hopper_orientation_6.jpg"],
)
def test_an_odd_image_reaches_the_model_as_it_is(page, model, test_data, name):
    image = test_data / "bad_images" / name
    drop(page, image)
    assert bars(page) == shown(model, image)


def test_what_cannot_be_read_is_told_with_the_models_reason_and_the_next_image_is_named(
    page, model, test_data, tmp_path
):
    text = tmp_path / "text.jpg"
    text.write_bytes(b"no image")
    drop(page, text)
    assert problem(page) == "This image cannot be read: not a JPEG, PNG, WebP, BMP or GIF image"
    assert not page.execute_script("return document.querySelector('#label meter')")
    wait(page, "document.querySelector('#image button[aria-label=\"Remove Image\"]')").click()
    wait(page, "!document.querySelector('#problem') && !document.querySelector('#image img')")
    image = next((test_data / "flowers12").rglob("*.jpg"))
    drop(page, image)
    assert bars(page) == shown(model, image)


def test_a_file_that_claims_to_be_huge_is_refused_by_the_model(page, tmp_path):
    image = tmp_path / "huge.png"
    image.write_bytes(png(20000, 20000))
    drop(page, image)
    assert problem(page).endswith("20000x20000 pixels, at most 50000000 are read")


def test_the_page_asks_nobody_but_its_server(page, running, test_data):
    wait(page, "document.querySelector('#image button')")
    drop(page, next((test_data / "flowers12").rglob("*.jpg")))
    bars(page)
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    urls = [
        urlsplit(message["params"]["request"]["url"])
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
    # chrome: and data: stay inside the browser.
    asked = {url.netloc for url in urls if url.scheme not in ("chrome", "data", "blob")}
    assert asked == {urlsplit(running[0]).netloc}


def test_the_server_listens_on_loopback_alone(running):
    assert urlsplit(running[0]).hostname == "127.0.0.1"
    listening = {
        connection.laddr
        for connection in psutil.net_connections("tcp")
        if connection.pid == running[1].pid and connection.status == psutil.CONN_LISTEN
    }
    assert listening == {("127.0.0.1", urlsplit(running[0]).port)}


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_the_server_asks_nobody_and_ends_cleanly(model, tmp_path, monkeypatch, end):
    """Whoever would go to the network goes to a proxy here."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        monkeypatch.delenv("no_proxy", raising=False)
        with demo(model) as (address, process):
            at = urlsplit(address)
            with socket.create_connection((at.hostname, at.port)) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                assert connection.recv(100).startswith(b"HTTP/1.1 200")
                assert list(tmp_path.iterdir())
                process.send_signal(end)
                out, err = process.communicate(timeout=30)
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


def test_without_gradio_the_sentence_says_what_to_install(model, capfd, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert cli.main(["demo", str(model), "--port", "0", "--no-open"]) == 2
    assert "demo needs gradio: pip install 'inception_tf[demo]'" in capfd.readouterr().err
