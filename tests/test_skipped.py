# SPDX-License-Identifier: Apache-2.0
"""Images that cannot be read are skipped, counted and named; too many of them end the pass."""

from __future__ import annotations

import logging
import re
import threading

import numpy as np
import pytest
import tensorflow as tf

from inception_tf.config import DataConfig
from inception_tf.data import pipeline
from inception_tf.data.decoding import transforms
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.data.skipped import BadImages
from inception_tf.data.sources.open import Split
from inception_tf.errors import UserError
from inception_tf.host import files

PLAIN = DataConfig(batch_size=4, box_area=None, flip=False, max_bad=0.5)
STEPS = transforms.evaluation_steps(Preprocessing(8, None))


@pytest.fixture
def spoilt(class_folders):
    """40 good images whose gray says which one they are, and what was spoilt: {path: why}."""
    folder = class_folders(gray=40) / "gray"
    paths = [str(folder / f"{number}.jpg") for number in range(40)]
    good = tf.io.read_file(paths[0]).numpy()
    reasons = {}
    for number, data, reason in (
        (3, b"%PDF, or so it says", "not a JPEG, PNG, WebP, BMP or GIF image"),
        (17, good[:60], "damaged: cannot be decoded"),
        (30, b"", "empty"),
    ):
        tf.io.write_file(paths[number], data)
        reasons[paths[number]] = reason
    return Split(np.array(paths), np.arange(40) % 2), reasons


def test_evaluation_leaves_them_out_and_names_them(spoilt, caplog):
    split, reasons = spoilt
    bad = BadImages(split, limit=0.1)
    with caplog.at_level(logging.WARNING, "inception_tf"):
        batches = list(pipeline.evaluation_batches(split, STEPS, batch_size=8, bad=bad))
    index = np.concatenate([index for _, index in batches])
    assert index.tolist() == [n for n in range(40) if n not in (3, 17, 30)]
    for pixels, places in batches:
        shown = np.round((pixels[:, 0, 0, 0].numpy() + 1) * 127.5)
        np.testing.assert_array_equal(shown, places)
    assert bad.reasons == reasons
    for path, reason in reasons.items():
        assert f"skipped {path}: {reason}" in caplog.text


def test_training_draws_another_in_their_place_the_same_on_every_run(spoilt):
    split, reasons = spoilt

    def stream(start):
        bad = BadImages(split, 0.5)
        data = pipeline.training_batches(
            split, PLAIN, size=8, classes=2, seed=0, epochs=3, start=start, bad=bad
        )
        shown = [np.round((x[:, 0, 0, 0].numpy() + 1) * 127.5) for x, _ in data]
        return shown, bad

    whole, bad = stream(0)
    assert bad.reasons == reasons
    assert len(whole) == 30
    assert not {3, 17, 30} & set(np.concatenate(whole).astype(int))
    rest, _ = stream(7)
    np.testing.assert_array_equal(rest, whole[7:])


def test_more_than_the_limit_end_the_pass_with_the_list(spoilt):
    split, reasons = spoilt
    bad = BadImages(split, limit=0.05)
    with pytest.raises(tf.errors.OpError):
        list(pipeline.evaluation_batches(split, STEPS, batch_size=8, bad=bad))
    assert bad.exceeded
    sentence = str(bad.error())
    assert sentence.startswith("3 of 40 images cannot be read, more than 5.00%: ")
    for path, reason in reasons.items():
        assert f"{path} ({reason})" in sentence


def test_an_image_met_twice_counts_once(spoilt):
    split, _ = spoilt
    bad = BadImages(split, limit=0.03)
    bad.note(3, "empty")
    bad.note(3, "empty")
    assert bad.count == 1
    with pytest.raises(UserError, match="2 of 40 images cannot be read"):
        bad.note(4, "empty")


def test_a_long_list_is_cut_short():
    bad = BadImages(Split(np.array([f"{n}.png" for n in range(50)]), np.zeros(50, int)), limit=1.0)
    for index in range(30):
        bad.note(index, "empty")
    assert " and 10 more; " in str(bad.error())


def test_a_record_whose_checksum_is_wrong_is_skipped(tmp_path):
    from example_files import write

    from inception_tf.data.sources.open import open_source

    pixels = tf.io.encode_png(np.full((8, 8, 3), 7, np.uint8)).numpy()
    file = tmp_path / "test-0"
    write(file, [(pixels, n % 2) for n in range(10)])
    content = bytearray(file.read_bytes())
    content[content.index(b"IDAT", 4 * len(content) // 10) + 6] ^= 1  # in the image of record 4
    file.write_bytes(content)
    split = open_source(f"tfrecord:{file}").split("test")
    bad = BadImages(split, limit=0.1)
    seen = [
        i
        for _, index in pipeline.evaluation_batches(split, STEPS, batch_size=4, bad=bad)
        for i in index
    ]
    assert bad.reasons == {f"{file} record 4": "damaged: cannot be decoded"}
    assert len(seen) == 9


def _lose(path):
    path.unlink()


def _replace_by_a_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("lose", "sentence"),
    [
        (_lose, "is missing, and was there when"),
        (_replace_by_a_folder, "is a folder, and only regular"),
    ],
)
def test_a_lost_file_is_no_damage_and_ends_the_pass(class_folders, monkeypatch, lose, sentence):
    monkeypatch.setattr(files, "RETRY_DELAYS_S", (0.01,))
    folder = class_folders(gray=8) / "gray"
    paths = [folder / f"{number}.jpg" for number in range(8)]
    split = Split(np.array(list(map(str, paths))), np.arange(8) % 2)
    lose(paths[5])
    bad = BadImages(split, 0.5)
    with pytest.raises(tf.errors.OpError):
        list(pipeline.evaluation_batches(split, STEPS, batch_size=4, bad=bad))
    assert bad.count == 0
    assert re.match(f"{paths[5]} {sentence}", str(bad.failure()))


@pytest.mark.parametrize("kind", ["file", "records"])
def test_a_file_that_a_share_loses_for_a_moment_is_read(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(files, "RETRY_DELAYS_S", (0.05,) * 400)
    pixels = [tf.io.encode_jpeg(np.full((8, 8, 3), n, np.uint8)).numpy() for n in range(6)]
    if kind == "records":
        from example_files import write

        from inception_tf.data.sources.open import open_source

        file = tmp_path / "test-0"
        write(file, [(image, n % 2) for n, image in enumerate(pixels)])
        split = open_source(f"tfrecord:{file}").split("test")
    else:
        for number, image in enumerate(pixels):
            (tmp_path / f"{number}.jpg").write_bytes(image)
        file = tmp_path / "3.jpg"
        split = Split(np.array([f"{tmp_path}/{n}.jpg" for n in range(6)]), np.arange(6) % 2)
    bad = BadImages(split, 0.0)
    batches = pipeline.evaluation_batches(split, STEPS, batch_size=8, bad=bad)
    away = tmp_path / "away"
    file.rename(away)
    # Once it was waited for, so that it was missed before.
    waiting = threading.Event()
    wait_for = bad.wait_for

    def waited(index):
        waiting.set()
        wait_for(index)

    bad.wait_for = waited
    thread = threading.Thread(target=lambda: (waiting.wait(60), away.rename(file)))
    thread.start()
    (batch,) = batches
    thread.join()
    np.testing.assert_array_equal(np.round((batch[0][:, 0, 0, 0].numpy() + 1) * 127.5), range(6))
    assert (bad.count, bad.failure(), waiting.is_set()) == (0, None, True)


def test_reasons_are_read_while_others_are_written():
    """A dict that is iterated while another thread writes to it raises an error."""
    count = 20_000
    bad = BadImages(Split(np.array([f"{n}.png" for n in range(count)]), np.zeros(count, int)), 1.0)
    log = logging.getLogger("inception_tf")
    log.disabled = True
    try:
        writer = threading.Thread(target=lambda: [bad.note(n, "empty") for n in range(count)])
        writer.start()
        while writer.is_alive():
            assert all(reason == "empty" for reason in bad.reasons.values())
        writer.join()
    finally:
        log.disabled = False
    assert bad.count == count
