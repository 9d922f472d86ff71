"""A client for programs that do something else meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from maquette.durable import whole_file
from maquette.errors import MaquetteError
from maquette_serve.client.client import RETRY
from maquette_serve.client.messages import EventLines, RemoteTask, body, checked, settings, task_of, unreachable


class AsyncClient:
    """As `Client`, to be awaited."""

    def __init__(self, url: str | None = None, key: str | None = None) -> None:
        self._http = httpx.AsyncClient(**settings(url, key))

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Gives the connections back."""
        await self._http.aclose()

    async def pipelines(self) -> list[str]:
        """What can be asked for."""
        return [one["name"] for one in (await self._ask("GET", "/v1/pipelines")).json()]

    async def upload(self, path: str | Path) -> str:
        """Sends a picture or a mesh; its id, for `make`."""
        path = Path(path)
        if not path.is_file():
            raise MaquetteError(f"file '{path}' does not exist")
        content = await asyncio.to_thread(path.read_bytes)
        return str((await self._ask("POST", "/v1/uploads", files={"file": (path.name, content)})).json()["id"])

    async def make(
        self, pipeline: str, prompt: str = "", *, idempotency_key: str | None = None, **asked: Any
    ) -> RemoteTask:
        """Orders something, see `Client.make`."""
        return task_of((await self._ask("POST", "/v1/tasks", **body(pipeline, prompt, asked, idempotency_key))).json())

    async def get(self, identity: str) -> RemoteTask:
        """A task as it is now."""
        return task_of((await self._ask("GET", f"/v1/tasks/{identity}")).json())

    async def cancel(self, identity: str) -> RemoteTask:
        """Ends a task that is not over."""
        return task_of((await self._ask("POST", f"/v1/tasks/{identity}/cancel")).json())

    async def delete(self, identity: str) -> None:
        """Removes a task and its files."""
        await self._ask("DELETE", f"/v1/tasks/{identity}")

    async def follow(self, identity: str, patience: float = 60.0) -> AsyncIterator[RemoteTask]:
        """A task each time something happens to it, see `Client.follow`."""
        lines, heard, path = EventLines(), time.monotonic(), f"/v1/tasks/{identity}/events"
        while True:
            try:
                async with self._http.stream("GET", path, headers=lines.headers) as answer:
                    if not answer.is_success:
                        await answer.aread()
                    async for line in checked(answer).aiter_lines():
                        heard = time.monotonic()
                        for state in lines.take(line):
                            task = task_of(state)
                            yield task
                            if task.over:
                                return
            except httpx.TransportError as error:
                if time.monotonic() - heard > patience:
                    raise unreachable(self._http.base_url, error) from error
            await asyncio.sleep(RETRY)

    async def wait(self, identity: str) -> RemoteTask:
        """A task when it is over; raises where it failed or was cancelled."""
        async for task in self.follow(identity):
            last = task
        if last.status != "SUCCEEDED":
            raise MaquetteError(last.error or f"task {identity} was cancelled")
        return last

    async def download(self, task: RemoteTask, name: str, path: str | Path) -> Path:
        """Writes a file of a task, whole or not at all."""
        if name not in task.files:
            raise MaquetteError(f"task {task.id} made no '{name}'; it made {', '.join(task.files) or 'nothing'}")
        content = (await self._ask("GET", task.files[name])).content
        with whole_file(Path(path)) as temporary:
            await asyncio.to_thread(temporary.write_bytes, content)
        return Path(path)

    async def _ask(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            return checked(await self._http.request(method, path, **arguments))
        except httpx.TransportError as error:
            raise unreachable(self._http.base_url, error) from error
