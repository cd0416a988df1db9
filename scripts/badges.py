# SPDX-License-Identifier: Apache-2.0
"""Writes docs/badges/*.svg from setup.cfg and the workflow: `python scripts/badges.py`; a test holds them to both."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEIGHT, LETTER, MARGIN = 20, 6.6, 6  # pixels
FONT = "font-family='Verdana,DejaVu Sans,sans-serif' font-size='11' fill='#fff'"


def facts() -> dict[str, tuple[str, str]]:
    """File name → what it says: a subject, and a value."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", "utf-8")
    pythons = re.findall(
        r"Python :: (3\.\d+)", setup["metadata"]["classifiers"]
    )  # 3 alone is no version
    requires = setup["options"]["install_requires"]
    keras, tensorflow = (
        re.search(rf"^{name}>=([\d.]+)", requires, re.M)[1] for name in ("keras", "tensorflow")
    )
    workflow = (ROOT / ".github/workflows/tests.yml").read_text("utf-8")
    tested = re.findall(r'"(3\.\d+)"', workflow)
    return {
        "python": ("Python", " | ".join(pythons)),
        "keras": ("Keras", keras),
        "backends": ("backends", f"TensorFlow {tensorflow} | JAX | torch"),
        "tests": ("tests", f"on {' | '.join(tested)}"),
        "license": ("license", setup["metadata"]["license"]),
    }


def badge(subject: str, value: str) -> str:
    """An SVG: the subject on gray, the value on blue."""
    left, right = (round(len(text) * LETTER + 2 * MARGIN) for text in (subject, value))
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{left + right}' height='{HEIGHT}' role='img'"
        f" aria-label='{subject}: {value}'>"
        f"<rect width='{left + right}' height='{HEIGHT}' rx='3' fill='#1565c0'/>"
        f"<path d='M3 0h{left - 3}v{HEIGHT}h-{left - 3}a3 3 0 0 1-3-3v-14a3 3 0 0 1 3-3z' fill='#555'/>"
        f"<text x='{left / 2}' y='14' text-anchor='middle' {FONT}>{subject}</text>"
        f"<text x='{left + right / 2}' y='14' text-anchor='middle' {FONT}>{value}</text></svg>\n"
    )


def main() -> None:
    folder = ROOT / "docs" / "badges"
    folder.mkdir(exist_ok=True)
    for name, fact in facts().items():
        (folder / f"{name}.svg").write_text(badge(*fact), encoding="utf-8")


if __name__ == "__main__":
    main()
