"""The engine beside the same weights behind a locked endpoint: short jobs among long ones, and throughput.

python benchmarks/serve_latency.py RUN [rounds=3] [seconds=30] [long=2] [short=4]

Both serve at once in processes of their own and are loaded in turns, so that a noisy machine disturbs both alike.
`long` callers ask for 50 steps, one request after the other, `short` ones for 4, with pauses of up to half a second.
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
    steps: int = 0


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
                load.steps += steps
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


def main() -> None:
    run, *words = sys.argv[1:]
    given = {"rounds": 3, "seconds": 30, "long": 2, "short": 4, **{k: int(v) for k, v in (w.split("=") for w in words)}}
    folder = Path(tempfile.mkdtemp())
    (folder / "locked.py").write_text(LOCKED)
    maquette = str(Path(sys.executable).with_name("maquette"))
    ports = free_port(), free_port()
    servers = [
        started([maquette, "serve", f"run={run}", "--data", str(folder / "data"), "--port", str(ports[0])], ports[0]),
        started([sys.executable, str(folder / "locked.py"), run, str(ports[1]), str(folder)], ports[1]),
    ]
    try:
        p99, throughput, answers = [], [], []
        for _ in range(given["rounds"]):
            rounds = [
                asyncio.run(loaded(port, ask, given["seconds"], given["long"], given["short"]))
                for port, ask in zip(ports, (by_engine, by_lock), strict=True)
            ]
            p99.append(percentile(rounds[0].short, 0.99) / percentile(rounds[1].short, 0.99))
            throughput.append(rounds[0].steps / rounds[1].steps)
            answers.append(1000 * percentile(rounds[0].answers, 0.99))
            print([(len(load.short), round(percentile(load.short, 0.5), 3), load.steps) for load in rounds])
        print(f"p99 of short jobs over the locked endpoint's: {spread(p99)}, n {len(p99)}")
        print(f"steps a second over the locked endpoint's: {spread(throughput)}")
        print(f"answers of the API while the engine is busy, p99: {spread(answers)} ms")
    finally:
        for server in servers:
            server.terminate()


if __name__ == "__main__":
    main()
