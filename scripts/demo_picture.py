# SPDX-License-Identifier: Apache-2.0
"""Draws docs/demo.png: `scripts/demo_picture.py SAVED_MODEL PNG IMAGE...` drops the images on the page of `inception-tf demo`, in Chromium."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

SIZE = (900, 960)  # pixels
PATIENCE = 120  # seconds for the page to answer
LOOK_EVERY = 0.05  # seconds
# Chromium's own traffic is off; what is left is the page's.
SWITCHES = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


@contextlib.contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    """A Chromium of this machine without a window and with its own profile."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    with tempfile.TemporaryDirectory() as profile:
        for switch in (
            *SWITCHES,
            f"--user-data-dir={profile}",
            "--window-size={},{}".format(*SIZE),
        ):
            options.add_argument(switch)
        driver = webdriver.Chrome(options, service)
        try:
            yield driver
        finally:
            driver.quit()


@contextlib.contextmanager
def demo(*words) -> Iterator[tuple[str, subprocess.Popen]]:
    """The command on a free port, and its page's address."""
    command = [sys.executable, "-m", "inception_tf", "demo", *map(str, words)]
    with subprocess.Popen(
        [*command, "--port", "0", "--no-open"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(process.stderr.read())
            yield line.split(" at ")[1].split()[0], process
        finally:
            process.terminate()


def wait(driver: webdriver.Chrome, script: str):
    """What a line of JavaScript gives, once that is something."""
    waiting = WebDriverWait(driver, PATIENCE, LOOK_EVERY)
    return waiting.until(lambda d: d.execute_script(f"return {script}"))


def drop(driver: webdriver.Chrome, *paths: Path) -> None:
    """Drops files on the page's place for images, as a hand does."""
    wait(driver, "document.querySelector('#image button')")
    place = driver.find_element(By.CSS_SELECTOR, "#image button").rect
    where = {"x": place["x"] + place["width"] / 2, "y": place["y"] + place["height"] / 2}
    data = {"items": [], "files": [*map(str, paths)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        driver.execute_cdp_cmd("Input.dispatchDragEvent", {"type": kind, "data": data} | where)


def main(saved_model: str, picture: str, *images: str) -> None:
    with demo(saved_model) as (address, _), browser() as driver:
        driver.get(address)
        drop(driver, *(Path(image).resolve() for image in images))
        # With its heat map each has two figures.
        wait(driver, f"document.querySelectorAll('article img').length == {2 * len(images)}")
        wait(driver, "[...document.images].every(image => image.complete)")
        time.sleep(1)
        driver.save_screenshot(picture)


if __name__ == "__main__":
    main(*sys.argv[1:])
