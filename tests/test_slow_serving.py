# SPDX-License-Identifier: Apache-2.0
"""The local server answers a good image while others keep it busy."""

from __future__ import annotations

import io
import os
import threading
import time

import keras
import numpy as np
import pytest
import ramps
import slow_images
from PIL import Image

from inception_tf.data.preprocessing import Preprocessing
from inception_tf.export.savedmodel import export
from inception_tf.serving import Client
from inception_tf.serving.local_server import run_local_server

SIZE = 32


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    images = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(8, 5, 4)(images))
    model = keras.Model(images, keras.layers.Dense(3, "softmax")(x))
    for weight in model.weights:
        weight.assign(ramps.weight(weight.path, tuple(weight.shape)))
    to = tmp_path_factory.mktemp("models") / "slow"
    folder = export(model, ("a", "b", "c"), to, Preprocessing(SIZE), warm_up=(1,))
    with run_local_server(folder) as addresses:
        yield addresses


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("kind", ["rest", "grpc"])
@pytest.mark.parametrize(
    ("scans", "status"), [(300, "a JPEG with too many scans"), (50, "ok")], ids=["refused", "read"]
)
def test_a_good_image_is_answered_in_a_second_beside_as_many_slow_ones_as_there_are_cores(
    server, tmp_path, kind, scans, status
):
    slow, good = tmp_path / "slow.jpg", tmp_path / "good.png"
    slow.write_bytes(slow_images.jpeg_of_scans(scans))
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(buffer, "PNG")
    good.write_bytes(buffer.getvalue())
    address = getattr(server, kind)
    answers = []

    def ask_slow():
        with Client(address, timeout=60) as client:
            answers.extend(client.predict([str(slow)] * 4))

    with Client(address, timeout=60) as client:
        client.predict([str(good)])
        threads = [threading.Thread(target=ask_slow) for _ in range(os.cpu_count() or 1)]
        for thread in threads:
            thread.start()
        longest = 0.0
        while any(thread.is_alive() for thread in threads):
            start = time.monotonic()
            (answer,) = client.predict([str(good)])
            longest = max(longest, time.monotonic() - start)
            assert answer.status == "ok"
    for thread in threads:
        thread.join()
    print(f"{kind}, {scans} scans: {longest:.2f} s")
    assert {answer.status.startswith(status) for answer in answers} == {True}
    assert longest < 1
