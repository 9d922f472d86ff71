"""The page in Debian's Chromium: a prompt typed into it becomes a model that is seen, with nothing from elsewhere."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import pytest
from PIL import Image

PLUGIN = Path(__file__).parent / "engine" / "slow_pipeline.py"
PATIENCE = 120


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [Path(sys.executable).with_name("maquette"), "--plugin", str(PLUGIN), "serve", "--plugin", str(PLUGIN)]
    words = ["--port", str(port), "--data", str(tmp_path_factory.mktemp("service"))]
    server = subprocess.Popen([*command, *words])
    where = f"http://127.0.0.1:{port}"
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(f"{where}/readyz")
            break
        except OSError:
            time.sleep(0.2)
    yield where
    server.terminate()
    server.wait(30)


def until(driver, script):
    """The first value of a script that is true."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if value := driver.execute_script(f"return {script}"):
            return value
        time.sleep(0.2)
    pytest.fail(f"the page never came to: {script}")


def picture(driver):
    shot = driver.get_screenshot_as_png()
    if folder := os.environ.get("MAQUETTE_SCREENSHOTS"):
        name = f"page-{driver.get_window_size()['width']}.png"
        Path(folder, name).write_bytes(shot)
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"), np.int16)


def fill(driver, name, text):
    field = driver.find_element("id", name)
    field.clear()
    field.send_keys(text)


@pytest.mark.parametrize("width", [1280, 420])
def test_a_prompt_becomes_a_model_that_is_seen(browser, address, width):
    browser.set_window_size(width, 900)
    browser.get(address)
    until(browser, "document.querySelector('#pipeline option[value=slow]')")
    browser.execute_script("document.querySelector('#pipeline').value = 'slow'")
    fill(browser, "prompt", "a tetrahedron")
    fill(browser, "seed", "3")
    browser.find_element("id", "make").click()
    until(browser, "document.querySelector('model-viewer')?.loaded")
    browser.execute_script("document.querySelector('model-viewer').scrollIntoView({block: 'center'})")
    time.sleep(1)
    box = browser.execute_script(
        "const r = document.querySelector('model-viewer').getBoundingClientRect(); return [r.x, r.y, r.width, r.height]"
    )
    left, top, wide, high = (int(value) for value in box)
    shown = picture(browser)[max(top, 0) : top + high, max(left, 0) : left + wide].reshape(-1, 3)
    assert (np.abs(shown - shown[0]).max(1) > 24).mean() > 0.01, "nothing is seen in the viewer"
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth + 1")
    assert "seed 3" in browser.find_element("id", "about").text
    until(browser, "document.querySelector('#gallery img')?.naturalWidth")
    fields = "[...document.querySelectorAll('input, select, textarea')]"
    unnamed = browser.execute_script(
        f"return {fields}.filter((field) => !field.labels.length).map((field) => field.id)"
    )
    assert unnamed == []


def test_a_mistake_is_said_on_the_page(browser, address):
    browser.get(address)
    until(browser, "document.querySelector('#pipeline option[value=slow]')")
    browser.execute_script("document.querySelector('details').open = true")
    fill(browser, "formats", "exe")
    browser.find_element("id", "make").click()
    assert "'exe'" in until(browser, "document.querySelector('#problem').textContent")


def test_nothing_comes_from_elsewhere_and_nothing_breaks_the_policy(browser, address):
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert {urlparse(url).hostname for url in asked if url.startswith(("http", "ws"))} == {"127.0.0.1"}
    severe = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert [words for words in severe if "422" not in words] == []
