# SPDX-License-Identifier: Apache-2.0
"""A data folder with everything in it that people's folders have; docs/data.md shows what `inception-tf data` says of it.

python tests/messy_folder.py FOLDER
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("cat", "dog", "emu")


def image(path: Path, kind: int = 0, seed: int = 0, **options) -> Path:
    """Writes noise of a class's color, in the format of the path's ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 60, (48, 48, 3), np.uint8)
    pixels[..., kind % 3] += 150
    Image.fromarray(pixels).save(path, **options)
    return path


def make_messy_folder(root: Path) -> dict[str, int]:
    """Writes the folder.

    Args:
        root: An empty folder, or none.

    Returns:
        How many images each split has, and how many files there are for each reason not to read them.
    """
    for kind, name in enumerate(CLASSES):
        for number in range(8):
            image(root / "Train" / name / f"{number}.JPG", kind, seed=10 * kind + number)
        for number in range(2):
            image(root / "valid" / name / f"{number}.webp", kind, seed=100 + 10 * kind + number)
    train = root / "Train"
    image(train / "cat" / "photo.png", 0, 50)
    image(train / "cat" / "photo.bmp", 0, 51)
    image(train / "cat" / "photo.gif", 0, 52)
    dark = (np.arange(48 * 48) % 4096).astype(np.uint16).reshape(48, 48)  # 12 bits in 16
    Image.fromarray(dark).save(train / "cat" / "microscope.png")
    frames = [Image.new("RGB", (48, 48), (level, 0, 0)) for level in (0, 90, 180)]
    frames[0].save(train / "dog" / "moving.webp", save_all=True, append_images=frames[1:])
    (train / "dog" / "screenshot.jpeg").write_bytes(image(root / "x.png", 1, 53).read_bytes())
    (root / "x.png").unlink()
    image(train / "fox" / "only.jpg", 2, 54)  # a class of one image
    # Equal bytes in training and evaluation.
    (root / "valid" / "dog" / "copy.jpg").write_bytes((train / "dog" / "1.JPG").read_bytes())
    (train / "dog" / "linked.jpg").symlink_to("2.JPG")
    with open(os.fsencode(train / "emu") + b"/caf\xe9.jpg", "wb") as file:  # of an old archive
        file.write((train / "emu" / "0.JPG").read_bytes() + b"\0")
    # Not read, each for a reason of its own.
    (train / "gnu").mkdir()
    (train / "dog" / "scan.tif").write_bytes(b"II*\0")
    for number in range(3):
        (train / "emu" / f"IMG_{number}.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    (train / "cat" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (train / "cat" / "notes.txt").write_text("from the zoo\n")
    (train / "cat" / "README").write_text("from the zoo\n")
    (train / "cat" / "download.jpg").write_bytes(b"")
    (train / "cat" / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (train / "cat" / "._0.JPG").write_bytes(b"\0\5\x16\7" + bytes(60))
    (root / "__MACOSX" / "cat").mkdir(parents=True)
    (root / "__MACOSX" / "cat" / "._0.jpg").write_bytes(b"\0\5\x16\7" + bytes(60))
    image(train / "outside.jpg", 0, 55)
    (train / "dog" / "gone.jpg").symlink_to("nowhere.jpg")
    (train / "dog" / "loop.jpg").symlink_to("loop.jpg")
    (train / "dog" / "endless.jpg").symlink_to("/dev/zero")
    (train / "dog" / "up").symlink_to("..")
    os.mkfifo(train / "dog" / "pipe.jpg")
    image(train / "emu" / "2019" / "old.jpg", 2, 56)
    return {
        "train": 33,
        "validation": 7,
        "other ending: .heic": 3,
        "no regular files: pipes, sockets, devices": 2,
        "macOS metadata: ._*, __MACOSX": 2,
        "other ending: .tif": 1,
        "other ending: .db": 1,
        "other ending: .txt": 1,
        "no ending": 1,
        "empty files": 1,
        "hidden: .*": 1,
        "images outside class folders": 1,
        "links to missing files": 1,
        "links that lead back to themselves": 1,
        "links to folders": 1,
        "in folders inside class folders": 1,
    }


if __name__ == "__main__":
    make_messy_folder(Path(sys.argv[1]))
