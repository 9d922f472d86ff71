"""SIGKILL with tasks waiting and under way: whoever is next ends each of them, once."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import struct
import threading
import time
from pathlib import Path

import httpx
import pytest

ENDED = ("SUCCEEDED", "FAILED")
KINDS = ({"steps": 20}, {"steps": 10, "then": [{"pipeline": "slow", "steps": 10}]})
"""Single pieces of work, and chains of two."""


def test_a_killed_server_loses_nothing_and_does_nothing_twice(tmp_path, new_server):
    kill_and_check(new_server(tmp_path), servers=1, engines=1)


@pytest.mark.slow
def test_servers_and_engines_killed_twenty_times(tmp_path, new_server, record_property):
    for kind, count in kill_and_check(new_server(tmp_path), servers=20, engines=20).items():
        record_property(kind, count)  # in the file of --junit-xml


def kill_and_check(server, servers, engines):
    """Tasks are sent without a pause meanwhile; counts of what became of them."""
    server.start().ready()
    accepted, stop = [], threading.Event()
    thread = threading.Thread(target=ask, args=(server.url, accepted, stop))
    thread.start()
    chance = random.Random(servers)
    try:
        for _ in range(servers):
            time.sleep(chance.uniform(0.2, 2.0))
            server.kill()
            server.start().ready()
        for _ in range(engines):
            time.sleep(chance.uniform(0.2, 2.0))
            os.kill(engine_of(server.process.pid), signal.SIGKILL)
            server.ready()
        stop.set()
        thread.join()
        ends = [check(server, identity, chained) for identity, chained in accepted]
    finally:
        stop.set()
        server.kill()
    assert len(ends) > 2
    return {"tasks": len(ends), **{kind: ends.count(kind) for kind in ENDED}}


def ask(url, accepted, stop):
    client, number = httpx.Client(base_url=url, timeout=5), 0
    while not stop.is_set():
        number += 1
        try:
            answer = client.post("/v1/tasks", json={"pipeline": "slow", **KINDS[number % 2]})
            if answer.status_code == 202:
                accepted.append((answer.json()["id"], bool(number % 2)))
        except httpx.TransportError:
            pass
        time.sleep(0.1)


def check(server, identity, chained):
    """A task that was accepted ended once, with all its files or with a reason; how it ended."""
    task = server.wait(identity)
    assert task["status"] == "SUCCEEDED" or "given up after 3 attempts" in task["error"], task
    ends = [state for _, state in server.events(identity) if state["status"] in ENDED]
    assert len(ends) == 1
    if task["status"] == "SUCCEEDED":
        wanted = {"model.glb", "thumbnail.png", *(("stage1.glb",) if chained else ())}
        assert set(task["files"]) == wanted
    for name, address in task["files"].items():
        content = server.client.get(address).content
        if name.endswith(".glb"):
            assert content[:4] == b"glTF"
            assert struct.unpack_from("<I", content, 8)[0] == len(content)
        else:
            assert content.endswith(b"IEND\xaeB`\x82")
    return task["status"]


def engine_of(server):
    """The process that has the device, once there is one."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        lists = Path(f"/proc/{server}/task").glob("*/children")  # a child belongs to the thread that started it
        for child in " ".join(path.read_text() for path in lists).split():
            with contextlib.suppress(OSError):  # it ended meanwhile
                if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                    return int(child)
        time.sleep(0.05)
    raise AssertionError("the server has no engine")
