"""The engine beside the same weights behind a locked endpoint: short jobs among long ones, and throughput.

python benchmarks/serve_latency.py RUN [rounds=5] [seconds=20] [long=2] [short=4] [jobs=32]

Both serve at once in processes of their own and are loaded in turns, so that a noisy machine disturbs both alike. A
round is two loads of each. Waiting times: for `seconds`, `long` callers ask for 50 steps, one request after the other,
`short` ones for 4, with pauses of up to half a second. Throughput: `jobs` requests, the same for both, every fourth of
50 steps and the others of 4, are asked for by 8 callers without pauses, until all are done.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

LONG, SHORT = 50, 4
LOCKED = """
import sys, threading
from pathlib import Path
import uvicorn
from fastapi import FastAPI
from fastapi.responses import FileResponse
from maquette.assets import export, open_pipeline
from maquette.types import Request

pipeline, lock, folder, app = open_pipeline(sys.argv[1]), threading.Lock(), Path(sys.argv[3]), FastAPI()

@app.get("/readyz")
def readyz():
    return {}

@app.post("/generate")
def generate(body: dict):
    with lock:
        asset = pipeline(Request(body["prompt"], seed=body["seed"], steps=body["steps"]))
        path = export(asset, folder / f"{body['seed']}-{body['steps']}.glb")
        export(asset, folder / f"{body['seed']}-{body['steps']}.png")
    return FileResponse(path)

uvicorn.run(app, port=int(sys.argv[2]), log_level="error")
"""


@dataclass
class Load:
    """What came of a round."""

    short: list[float] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


async def by_engine(client: httpx.AsyncClient, body: dict) -> None:
    """One request to the service: made, followed until it is over, fetched."""
    task = (await client.post("/v1/tasks", json={"pipeline": "run", **body})).raise_for_status().json()
    async with client.stream("GET", f"/v1/tasks/{task['id']}/events") as events:
        async for line in events.aiter_lines():
            if line.startswith("data: "):
                task = json.loads(line.removeprefix("data: "))
    if "model.glb" not in task.get("files", ()):
        raise SystemExit(f"a task came to nothing: {task}")
    (await client.get(task["files"]["model.glb"])).raise_for_status()


async def by_lock(client: httpx.AsyncClient, body: dict) -> None:
    """One request to the locked endpoint."""
    (await client.post("/generate", json=body)).raise_for_status()


async def loaded(port: int, ask, seconds: float, long: int, short: int) -> Load:
    """A round of load."""
    load, end, chance = Load(), time.perf_counter() + seconds, random.Random(0)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=None) as client:

        async def caller(steps: int, number: int) -> None:
            while time.perf_counter() < end:
                if steps == SHORT:
                    await asyncio.sleep(chance.random() / 2)
                start = time.perf_counter()
                await ask(client, {"prompt": "a red chair", "seed": number, "steps": steps})
                if steps == SHORT:
                    load.short.append(time.perf_counter() - start)
                number += 1000

        async def looker() -> None:
            while time.perf_counter() < end:
                await asyncio.sleep(0.2)
                start = time.perf_counter()
                (await client.get("/readyz" if ask is by_lock else "/v1/tasks?size=5")).raise_for_status()
                load.answers.append(time.perf_counter() - start)

        callers = [*(caller(LONG, n) for n in range(long)), *(caller(SHORT, 100 + n) for n in range(short))]
        await asyncio.gather(looker(), *callers)
    return load


async def drained(port: int, ask, jobs: int) -> float:
    """Seconds in which a list of jobs is done."""
    waiting = [(number, LONG if number % 4 == 0 else SHORT) for number in range(jobs)]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=None) as client:

        async def caller() -> None:
            while waiting:
                number, steps = waiting.pop(0)
                await ask(client, {"prompt": "a red chair", "seed": number, "steps": steps})

        start = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(8)))
    return time.perf_counter() - start


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def started(command: list[str], port: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    for _ in range(1200):
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                return process
        except httpx.TransportError:
            pass
        time.sleep(0.25)
    raise SystemExit("a server did not start")


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


@dataclass
class Rounds:
    """What was measured, a value a round, the service over the endpoint where both do it."""

    p99: list[float] = field(default_factory=list)
    median: list[float] = field(default_factory=list)
    throughput: list[float] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)

    def add(self, ports: tuple[int, int], given: dict[str, int]) -> None:
        """One round more; whoever is first is second in the next one."""
        sides = list(zip(ports, (by_engine, by_lock), strict=True))
        order = (0, 1) if len(self.p99) % 2 == 0 else (1, 0)
        loads, times = {}, {}
        for side in order:
            loads[side] = asyncio.run(loaded(*sides[side], given["seconds"], given["long"], given["short"]))
        for side in order:
            times[side] = asyncio.run(drained(*sides[side], given["jobs"]))
        for share, ratios in ((0.99, self.p99), (0.5, self.median)):
            ratios.append(percentile(loads[0].short, share) / percentile(loads[1].short, share))
        self.throughput.append(times[1] / times[0])
        self.answers.append(1000 * percentile(loads[0].answers, 0.99))
        for side, name in ((0, "service "), (1, "endpoint")):
            short = loads[side].short
            waits = ", ".join(f"{percentile(short, share):.2f}" for share in (0.5, 0.99))
            print(
                f"{name}  {len(short):4d} short jobs, median and p99 {waits} s; the list in {times[side]:.1f} s",
                flush=True,
            )

    def told(self) -> str:
        """All rounds."""
        return f"""service over endpoint, n {len(self.p99)} rounds, median (least-most):
short jobs: p99 {spread(self.p99)}, median {spread(self.median)}
throughput {spread(self.throughput)}
answers of the API while the engine is busy, p99 {spread(self.answers)} ms"""


def main() -> None:
    run, *words = sys.argv[1:]
    given = {"rounds": 5, "seconds": 20, "long": 2, "short": 4, "jobs": 32}
    given |= {key: int(value) for key, value in (word.split("=") for word in words)}
    folder = Path(tempfile.mkdtemp())
    (folder / "locked.py").write_text(LOCKED)
    maquette = str(Path(sys.executable).with_name("maquette"))
    ports = free_port(), free_port()
    servers = [
        started([maquette, "serve", f"run={run}", "--data", str(folder / "data"), "--port", str(ports[0])], ports[0]),
        started([sys.executable, str(folder / "locked.py"), run, str(ports[1]), str(folder)], ports[1]),
    ]
    rounds = Rounds()
    try:
        for port, ask in zip(ports, (by_engine, by_lock), strict=True):
            asyncio.run(drained(port, ask, 2))  # warms up
        for _ in range(given["rounds"]):
            rounds.add(ports, given)
        print(rounds.told())
    finally:
        for server in servers:
            server.terminate()


if __name__ == "__main__":
    main()
