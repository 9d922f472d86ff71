"""Engines in processes of their own: what a killed engine, a killed worker and a killed parent leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from maquette.errors import MaquetteError
from maquette.types import Request
from maquette_serve.engine.call_pool import BEHIND
from maquette_serve.engine.engine_setup import EngineSetup, Opened
from maquette_serve.engine.job import ENDS, Order
from maquette_serve.engine.replicas import LOST, Replicas

PLUGIN = str(Path(__file__).parent / "slow_pipeline.py")


class Watch:
    def __init__(self):
        self.events, self.over = [], threading.Event()

    def __call__(self, event):
        self.events.append(event)
        if event.kind in (*ENDS, LOST):
            self.over.set()

    def end(self, patience=60):
        assert self.over.wait(patience), "nothing was reported"
        return self.events[-1]


def order(prompt="", steps=1, **settings):
    return Order("slow", Request(prompt, steps=steps, seed=settings.pop("seed", 0)), **settings)


@pytest.fixture(scope="module")
def engines():
    setup = EngineSetup({"slow": Opened({"name": "slow", "seconds": 0.02})}, (PLUGIN,))
    replicas = Replicas(setup, 2)
    replicas.start(120)
    yield replicas
    replicas.close()


def test_orders_go_to_all_engines_and_calls_to_their_workers(engines):
    watches = [Watch() for _ in range(4)]
    for seed, watch in enumerate(watches):
        engines.submit(order(steps=5, seed=seed), watch)
    ends = [watch.end() for watch in watches]
    assert [end.kind for end in ends] == ["succeeded"] * 4
    assert [end.delivered.metadata["seed"] for end in ends] == [0, 1, 2, 3]
    assert {end.delivered.metadata["engine"] for end in ends} == set(engines.processes)
    assert not {end.delivered.metadata["worker"] for end in ends} & set(engines.processes)
    own = os.getpriority(os.PRIO_PROCESS, 0)  # who answers callers goes first, then the engine, then its workers
    for key, behind in (("engine", BEHIND), ("worker", 2 * BEHIND)):
        assert os.getpriority(os.PRIO_PROCESS, ends[0].delivered.metadata[key]) == min(own + behind, 19)


def test_a_cancel_reaches_the_engine(engines):
    watch = Watch()
    ticket = engines.submit(order(steps=100_000), watch)
    while not any(event.kind == "progress" for event in watch.events):
        time.sleep(0.01)
    engines.cancel(ticket)
    assert watch.end().kind == "cancelled"


def test_a_worker_that_dies_is_replaced_and_its_call_has_an_error(engines):
    killed, torn, after = Watch(), Watch(), Watch()
    for number, watch in ((0, killed), (1, torn), (2, after)):
        engines.submit(order(["kill the worker", "torn", ""][number]), watch)
    assert killed.end().kind == "failed"
    assert "internal error (BrokenProcessPool)" in killed.end().error
    assert torn.end().error == "the mesh is torn"
    assert after.end().kind == "succeeded"


def test_an_engine_that_dies_says_what_is_lost_and_comes_back(engines):
    before = set(engines.processes)
    watches = [Watch() for _ in range(4)]
    for watch in watches:
        engines.submit(order(steps=200), watch)
    victim = engines.processes[0]
    os.kill(victim, signal.SIGKILL)
    kinds = sorted(watch.end().kind for watch in watches)
    assert kinds == [LOST, LOST, "succeeded", "succeeded"]
    deadline = time.monotonic() + 60
    while len(set(engines.processes) - before) == 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    again = Watch()
    engines.submit(order(), again)
    assert again.end().kind == "succeeded"


def test_an_engine_that_cannot_open_its_pipelines_says_why():
    replicas = Replicas(EngineSetup({"slow": Opened({"name": "slow", "secnods": 1})}, (PLUGIN,)))
    with pytest.raises(MaquetteError, match="secnods"):
        replicas.start(60)


def test_engines_end_with_their_parent(tmp_path):
    code = f"""
        import sys, time
        from maquette_serve.engine.replicas import Replicas
        from maquette_serve.engine.engine_setup import EngineSetup, Opened
        if __name__ == "__main__":
            replicas = Replicas(EngineSetup({{"slow": Opened({{"name": "slow"}})}}, ({PLUGIN!r},)))
            replicas.start(60)
            print(replicas.processes[0], flush=True)
            time.sleep(60)
    """
    script = tmp_path / "parent.py"
    script.write_text(textwrap.dedent(code))
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{child}").exists()
