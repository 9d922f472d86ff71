"""The page in Debian's Chromium: a prompt typed into it becomes a model that is seen, with nothing from elsewhere."""

from __future__ import annotations

import io
import json
import os
import re
import time
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import pytest
from PIL import Image

PATIENCE = 300  # a model is drawn without a graphics card, perhaps on a busy machine


@pytest.fixture(scope="module")
def address(server):
    return server.url


def until(driver, script):
    """The first value of a script that is true."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if value := driver.execute_script(f"return {script}"):
            return value
        time.sleep(0.1)
    pytest.fail(f"the page never came to: {script}")


def picture(driver, name):
    shot = driver.get_screenshot_as_png()
    if folder := os.environ.get("MAQUETTE_SCREENSHOTS"):
        Path(folder, f"{name}.png").write_bytes(shot)
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"), np.int16)


def fill(driver, name, text):
    field = driver.find_element("id", name)
    field.clear()
    field.send_keys(text)


def opened(driver, address, pipeline, width=1280):
    driver.set_window_size(width, 900)
    driver.get(address)
    until(driver, f"document.querySelector('#pipeline option[value={pipeline}]')")
    driver.execute_script(f"document.querySelector('#pipeline').value = '{pipeline}'")


def made(driver, count=1):
    """Waits for that many finished tasks in the viewer."""
    until(driver, f"[...document.querySelectorAll('model-viewer')].filter((one) => one.loaded).length >= {count}")


def pressed(driver, words, within="#about"):
    """Presses a button by its words."""
    until(
        driver, f"[...document.querySelectorAll('{within} button')].some((one) => one.textContent.trim() == '{words}')"
    )
    buttons = driver.find_elements("css selector", f"{within} button")
    next(one for one in buttons if one.text.strip() == words).click()


def seen(driver, name):
    """Whether anything but one colour comes to be in the viewer: it draws when the browser has time."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        # Each time: what comes into the page meanwhile moves the viewer.
        driver.execute_script("document.querySelector('model-viewer').scrollIntoView({block: 'center'})")
        time.sleep(1)
        box = driver.execute_script(
            "const r = document.querySelector('model-viewer').getBoundingClientRect();"
            " return [r.x, r.y, r.width, r.height]"
        )
        left, top, wide, high = (int(value) for value in box)
        shown = picture(driver, name)[max(top, 0) : top + high, max(left, 0) : left + wide].reshape(-1, 3)
        if (np.abs(shown - shown[0]).max(1) > 24).mean() > 0.01:
            return True
    return False


@pytest.mark.parametrize("width", [1280, 420])
def test_a_prompt_becomes_a_model_that_is_seen(browser, address, width):
    opened(browser, address, "slow", width)
    fill(browser, "prompt", "a tetrahedron")
    fill(browser, "seed", "3")
    browser.find_element("id", "make").click()
    made(browser)
    assert seen(browser, f"page-{width}"), "nothing is seen in the viewer"
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth + 1")
    assert "seed 3" in browser.find_element("id", "about").text
    until(browser, "document.querySelector('#gallery img')?.naturalWidth")


def test_a_model_is_painted_rigged_and_converted_by_its_buttons(browser, address, server):
    opened(browser, address, "modeller")
    fill(browser, "prompt", "a ball")
    fill(browser, "seed", "4")
    browser.find_element("id", "make").click()
    made(browser)
    pressed(browser, "Texture")
    assert browser.find_element("id", "next-title").text == "Texture: a ball"
    words = browser.switch_to.active_element
    assert words.get_attribute("name") == "prompt"
    words.clear()
    words.send_keys("old wood")
    browser.find_element("id", "next-make").click()
    until(browser, "document.querySelectorAll('#chain li').length == 2")
    made(browser)
    pressed(browser, "Rig")
    browser.find_element("id", "next-make").click()
    until(browser, "document.querySelectorAll('#chain li').length == 3")
    until(browser, "document.querySelector('model-viewer')?.alt.includes('rigger')")
    made(browser)
    assert "Retexture" in browser.find_element("id", "about").text
    assert seen(browser, "page-chain")
    assert browser.find_element("id", "chain").text.split() == ["modeller", "painter", "rigger"]
    pressed(browser, "modeller", "#chain")
    until(browser, "document.querySelector('#about p').textContent.includes('modeller')")
    browser.execute_script("document.querySelector('#about select').value = 'stl'")
    pressed(browser, "Download as")
    until(browser, "[...document.querySelectorAll('#gallery .note')].some((one) => one.textContent.includes('finish'))")
    newest = server.client.get("/v1/tasks?size=10").json()
    rigged = next(task for task in newest if task["pipeline"] == "rigger")
    painted = next(task for task in newest if task["id"] == rigged["request"]["mesh"])
    assert painted["request"]["prompt"] == "old wood"


def test_several_pieces_of_work_go_into_one_task_and_seeds_are_compared(browser, address):
    opened(browser, address, "modeller")
    fill(browser, "prompt", "two balls")
    fill(browser, "seed", "1")
    fill(browser, "count", "2")
    browser.find_element("id", "then-texture").click()
    browser.find_element("id", "make").click()
    finished = (
        "[...document.querySelectorAll('#gallery li')].filter((card) => card.textContent.includes('two balls, seed')"
    )
    until(browser, f"{finished} && !card.querySelector('label').hidden).length == 2")
    for box in browser.find_elements("css selector", "#gallery input")[:2]:
        box.click()
    browser.find_element("id", "compare").click()
    made(browser, 2)
    captions = [one.text for one in browser.find_elements("css selector", "figcaption")]
    assert sorted(captions) == [f"two balls · modeller · seed {seed}" for seed in (1, 2)]
    assert seen(browser, "page-compare")


ORDERED = """
window.ordered = [];
const fetched = window.fetch;
window.fetch = (path, options) => {
  if (path !== '/v1/tasks' || options?.method !== 'POST') return fetched(path, options);
  window.ordered.push(JSON.parse(options.body));
  return Promise.resolve(new Response('{"message": "kept by the test"}', { status: 400 }));
};
"""
"""Keeps what the page orders, and orders nothing."""
ANOTHER_ANIMATOR = """
import('/tasks.js').then(({pipelines, look, tasks}) => {
  pipelines.push({name: 'other', roles: ['animate'], needs_mesh: true});
  look([...tasks.values()].find((task) => task.pipeline === 'modeller' && !task.request.then?.length));
  arguments[0]();
});
"""
"""Lets the page know a second one, and look at a mesh without a skeleton."""


def test_a_clip_brings_a_skeleton_along_and_keeps_who_was_chosen(browser, address):
    opened(browser, address, "modeller")
    fill(browser, "prompt", "a plain ball")
    browser.find_element("id", "make").click()
    made(browser)
    browser.execute_script(ORDERED)
    browser.execute_async_script(ANOTHER_ANIMATOR)
    pressed(browser, "Animate")
    browser.execute_script("document.querySelector('#next [name=pipeline]').value = 'other'")
    browser.find_element("id", "next-make").click()
    until(browser, "window.ordered.length == 1")
    until(browser, "document.querySelector('#then-animate')")
    browser.find_element("id", "then-animate").click()
    browser.find_element("id", "make").click()
    button, form = until(browser, "window.ordered.length == 2 && window.ordered")
    assert [button["pipeline"], *(work["pipeline"] for work in button["then"])] == ["rigger", "other"]
    assert [work["pipeline"] for work in form["then"]] == ["rigger", "animate"]


def test_a_task_is_followed_also_while_the_service_is_away(browser, address, server):
    opened(browser, address, "slow")
    browser.execute_script(
        "const fetched = window.fetch; let away = 2; window.fetch = (path, options) =>"
        " String(path).endsWith('/events') && away-- > 0"
        " ? Promise.reject(new TypeError('away')) : fetched(path, options);"
    )
    fill(browser, "prompt", "patience")
    browser.find_element("id", "make").click()
    made(browser)
    assert "patience" in browser.find_element("id", "about").text


def test_a_task_that_is_removed_elsewhere_ends_on_the_page_too(browser, address, server):
    """It is cancelled first: whoever follows it hears of that, or that it is gone."""
    opened(browser, address, "slow")
    browser.execute_script("document.querySelector('details').open = true")
    fill(browser, "prompt", "not for long")
    fill(browser, "steps", "1000")
    browser.find_element("id", "make").click()
    card = "[...document.querySelectorAll('#gallery li')].find((one) => one.textContent.includes('not for long'))"
    until(browser, f"{card} && !{card}.querySelector('progress').hidden")
    task = next(one for one in server.client.get("/v1/tasks").json() if one["request"]["prompt"] == "not for long")
    assert server.client.delete(f"/v1/tasks/{task['id']}").status_code == 204
    until(browser, f"!({card}) || {card}.textContent.includes('canceled')")


def test_a_mistake_is_said_on_the_page(browser, address):
    opened(browser, address, "slow")
    browser.execute_script("document.querySelector('details').open = true")
    fill(browser, "formats", "exe")
    browser.find_element("id", "make").click()
    assert "'exe'" in until(browser, "document.querySelector('#problem').textContent")


ANY_WITH_A_NAME = "input, select, textarea, button, a, model-viewer, dialog, form, section, ol"
UNNAMED = """
const name = (one) => one.getAttribute('aria-label') || one.getAttribute('aria-labelledby') || one.alt
  || [...(one.labels ?? [])].map((label) => label.textContent.trim()).join('') || one.textContent.trim();
return [...document.querySelectorAll(arguments[0])]
  .filter((one) => one.checkVisibility() && !name(one)).map((one) => one.outerHTML.slice(0, 80));
"""
CONTRAST = """
const channel = (v) => v / 255 <= .03928 ? v / 255 / 12.92 : ((v / 255 + .055) / 1.055) ** 2.4;
const light = (colour) => {
  const [r, g, b] = colour.match(/[\\d.]+/g).map(Number);
  return .2126 * channel(r) + .7152 * channel(g) + .0722 * channel(b);
};
const ground = (one) => {
  const colour = one ? getComputedStyle(one).backgroundColor : 'rgb(255, 255, 255)';
  return colour.endsWith(', 0)') ? ground(one.parentElement) : colour;
};
const ratio = (one) => {
  const [a, b] = [light(getComputedStyle(one).color), light(ground(one))];
  return (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
};
return [...document.querySelectorAll('h1, h2, label, p, button, a, summary, small, span, legend')]
  .filter((one) => one.checkVisibility() && one.innerText?.trim() && ratio(one) < 4.5)
  .map((one) => [ratio(one), one.outerHTML.slice(0, 80)]);
"""
"""Texts whose contrast with what is behind them is below the 4.5 of WCAG 2 (AA)."""


def test_it_can_be_used_without_seeing_and_without_a_mouse(browser, address):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    opened(browser, address, "slow")
    assert browser.execute_script(UNNAMED, ANY_WITH_A_NAME) == []
    for role, name in (("status", "state"), ("alert", "problem")):
        assert browser.find_element("id", name).get_attribute("role") == role
    for theme in ("dark", "light"):
        browser.execute_script(f"document.documentElement.dataset.theme = '{theme}'")
        assert browser.execute_script(CONTRAST) == []
    reached = []
    while "make" not in reached and len(reached) < 40:
        ActionChains(browser).send_keys(Keys.TAB).perform()
        focused = browser.switch_to.active_element
        reached.append(focused.get_attribute("id") or focused.text)
        assert browser.execute_script("return getComputedStyle(arguments[0]).outlineStyle", focused) != "none"
    assert reached[0] == "Skip to the model"
    assert {"theme", "pipeline", "prompt", "seed", "count", "image", "mesh", "then-texture", "make"} <= {*reached}
    browser.find_element("css selector", "#gallery .open").send_keys(Keys.ENTER)
    pressed(browser, "Remesh")
    ActionChains(browser).send_keys(Keys.ESCAPE).perform()
    until(browser, "!document.querySelector('#next-dialog').open")


def test_the_addresses_are_described_by_a_page_of_ours(browser, address):
    browser.get(f"{address}/docs")
    until(browser, "document.querySelectorAll('tbody tr').length > 50")
    assert "POST /v1/tasks" in browser.find_element("id", "addresses").text


def test_nothing_comes_from_elsewhere_and_nothing_breaks_the_policy(browser, address):
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert {urlparse(url).hostname for url in asked if url.startswith(("http", "ws"))} == {"127.0.0.1"}
    severe = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    # An order that is refused, and the stream of a task that was removed elsewhere, if it is asked for once more.
    told = re.compile(r"status of 422|/v1/tasks/[^/]+/events .* status of 404")
    assert [words for words in severe if not told.search(words)] == []
