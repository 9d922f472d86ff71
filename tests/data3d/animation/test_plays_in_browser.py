"""A file with clips plays in a browser, and nothing is asked of anybody else.

It needs Debian's `chromium` and `chromium-driver`; without them the test is skipped. The viewer is that of the
service's page.
"""

from __future__ import annotations

import io
import json
import shutil
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import pytest
from PIL import Image

from maquette import plugins
from maquette.assets import export
from maquette.types import Request

PAGE = """<!doctype html><body style="margin:0"><script type="module" src="model-viewer.min.js"></script>
<model-viewer src="walk.glb" animation-name="walk" autoplay camera-orbit="60deg 80deg auto"
 style="width:320px;height:320px"></model-viewer>"""
PATIENCE = 120.0
VIEWER = Path(__file__).parents[3] / "packages/serve/src/maquette_serve/web/vendor/model-viewer.min.js"


@pytest.fixture
def served(tmp_path, creatures):
    """The address of a page with a walking creature."""
    pipeline = plugins.build("pipelines", {"name": "animate"})
    export(pipeline(Request(mesh=creatures("biped", 0), options={"clip": "walk,idle"})), tmp_path / "walk.glb")
    shutil.copy(VIEWER, tmp_path / VIEWER.name)
    (tmp_path / "index.html").write_text(PAGE)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/index.html"
    server.shutdown()


def wait(driver, script: str):
    """The first value of a script that is true."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        value = driver.execute_script(f"const viewer = document.querySelector('model-viewer'); return {script}")
        if value:
            return value
        time.sleep(0.2)
    pytest.fail(f"the page never came to: {script}")


def picture(driver) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB"), np.int16)


@pytest.mark.slow
def test_clip_plays(browser, served):
    browser.get(served)
    assert wait(browser, "viewer.loaded && viewer.availableAnimations") == ["walk", "idle"]
    assert wait(browser, "viewer.duration") == pytest.approx(1.1, abs=0.01)
    before, shown = wait(browser, "viewer.currentTime"), picture(browser)
    assert shown[160, 160].tolist() != shown[5, 5].tolist(), "something is in the middle of the page"
    wait(browser, f"Math.abs(viewer.currentTime - {before}) > 0.3 && Math.abs(viewer.currentTime - {before}) < 0.8")
    browser.execute_script("document.querySelector('model-viewer').pause()")
    moved = np.abs(picture(browser) - shown).max(2) > 24
    assert moved.mean() > 0.002, "legs and arms are somewhere else"
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    hosts = {urlparse(url).hostname for url in asked if url.startswith(("http", "ws"))}
    assert hosts == {"127.0.0.1"}, asked
    assert any(url.endswith("walk.glb") for url in asked)
