"""Serve a trained run and ask it from another part of the program: orders that overlap, progress as it happens, one
cancelled.

    python examples/serve.py                                    after examples/pretrain.py
    python examples/serve.py run=runs/mine port=8123 'prompts=[a tall red chair]'

The server is `maquette serve RUN` in a process of its own; the rest is what any client does
(`maquette_serve.client`). Files go to runs/pretrain/served. Two of the orders are the same prompt and seed: their
meshes are the same bytes, though other orders run beside them.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from maquette.assets import find_generator
from maquette.cli import run
from maquette.config import checked, load, read_words
from maquette.errors import MaquetteError
from maquette_serve.client import AsyncClient


@dataclass
class ServeConfig:
    """Every prompt is ordered once, the first one twice."""

    run: str = "runs/pretrain"
    out: str = "${run}/served"
    port: int = 8123
    prompts: list[str] = field(default_factory=lambda: ["a tall red chair", "a wide blue table", "a green car"])


def main(words: list[str]) -> None:
    config: ServeConfig = checked(load(ServeConfig, read_words(words)))
    if not config.prompts:
        raise MaquetteError("there is nothing to ask for; give prompts=[a red chair]")
    asyncio.run(ask(config, find_generator(config.run)))


async def ask(config: ServeConfig, generator: Path) -> None:
    out = Path(config.out)
    async with serving(generator, out / "service", config.port) as url, AsyncClient(url) as client:
        unwanted = await client.make("generator", "a car that nobody waits for", steps=200)
        orders = [("first", config.prompts[0]), *((f"{i:02d}", prompt) for i, prompt in enumerate(config.prompts))]
        files = await asyncio.gather(*(order(client, name, prompt, out) for name, prompt in orders))
        await client.cancel(unwanted.id)  # where it is not over; it ends after the step that is being computed
        same = files[0].read_bytes() == files[1].read_bytes()
        print(f"the same prompt and seed gave the same bytes: {same}\nmeshes:   {out}")


async def order(client: AsyncClient, name: str, prompt: str, out: Path) -> Path:
    """One mesh, with a line each time something happens to it."""
    task = await client.make("generator", prompt, seed=7)
    async for state in client.follow(task.id):
        print(f"{name}: {state.status.lower()} {state.progress} %  {prompt}")
    return await client.download(await client.wait(task.id), "model.glb", out / f"{name}.glb")


@asynccontextmanager
async def serving(generator: Path, data: Path, port: int):
    """`maquette serve` as long as it is needed; gives its address."""
    data.mkdir(parents=True, exist_ok=True)
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        raise MaquetteError(f"port {port} is taken; give port=N") from None
    words = ["serve", f"generator={generator}", "--data", str(data), "--port", str(port)]
    with (data / "server.log").open("w") as log:
        server = subprocess.Popen([sys.executable, "-m", "maquette.cli", *words], stdout=log, stderr=log)
    try:
        await ready(f"http://127.0.0.1:{port}", server, data / "server.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()  # it ends what it is computing, keeps what is waiting, and leaves
        server.wait()


async def ready(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    async with httpx.AsyncClient() as client:
        while server.poll() is None:
            try:
                if (await client.get(f"{url}/readyz")).is_success:
                    return
            except httpx.TransportError:
                pass  # it is not listening yet
            await asyncio.sleep(0.2)
    said = log.read_text().strip().splitlines() or ["without a word"]
    raise MaquetteError(f"the server ended at once: {said[-1]}")


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
