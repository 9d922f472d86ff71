"""SIGKILL with tasks waiting and under way: whoever is next ends each of them, once."""

from __future__ import annotations

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
EACH = 4


def test_a_killed_server_loses_nothing_and_does_nothing_twice(tmp_path, new_server):
    # Two kills fit into three attempts.
    assert kill_and_check(new_server(tmp_path), servers=1, engines=1)["FAILED"] == 0


@pytest.mark.slow
def test_servers_and_engines_killed_twenty_times(tmp_path, new_server, record_property):
    server = new_server(tmp_path, "--replicas", "2")
    ordered, stop = [], threading.Event()
    thread = threading.Thread(target=order, args=(server.url, ordered, stop))
    thread.start()
    try:
        counts = kill_and_check(server, servers=20, engines=20, ordered=ordered, stop=stop)
    finally:
        stop.set()
        thread.join()
    for kind, count in counts.items():
        record_property(kind, count)  # in the file of --junit-xml


def order(url, ordered, stop):
    """Orders also at the moment of a kill; what was not answered with 202 is nobody's."""
    with httpx.Client(base_url=url, timeout=5) as client:
        while not stop.wait(1):
            number = len(ordered) % 2
            try:
                answer = client.post("/v1/tasks", json={"pipeline": "slow", **KINDS[number]})
            except httpx.TransportError:
                continue
            if answer.status_code == 202:
                ordered.append((answer.json()["id"], number))


def kill_and_check(server, servers, engines, ordered=(), stop=None):
    """Before each kill there are new tasks, and those that others order meanwhile; counts of what became of all."""
    server.start().ready()
    accepted, chance = [], random.Random(servers)

    def killed(kill):
        for number in range(EACH):
            made = server.make(**KINDS[number % 2])
            assert made.status_code == 202
            accepted.append((made.json()["id"], number % 2))
        time.sleep(chance.uniform(0.1, 1.0))
        kill()

    try:
        for _ in range(servers):
            killed(server.kill)
            server.start().ready()
        for _ in range(engines):
            killed(lambda: os.kill(engine_of(server.process.pid, chance), signal.SIGKILL))
        if stop is not None:
            stop.set()
        ends = [check(server, identity, chained) for identity, chained in (*accepted, *ordered)]
    finally:
        server.kill()
    return {"tasks": len(ends), **{kind: ends.count(kind) for kind in ENDED}}


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


def engine_of(server, chance):
    """A process that has a device, once there is one."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        lists = Path(f"/proc/{server}/task").glob("*/children")  # a child belongs to the thread that started it
        children = " ".join(path.read_text() for path in lists).split()
        engines = [child for child in children if b"spawn_main" in command_of(child)]
        if engines:
            return int(chance.choice(engines))
        time.sleep(0.05)
    raise AssertionError("the server has no engine")


def command_of(process):
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:  # it ended meanwhile
        return b""
