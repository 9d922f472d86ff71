"""A client that waits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from maquette.durable import whole_file
from maquette.errors import MaquetteError
from maquette_serve.client.messages import EventLines, RemoteTask, body, checked, settings, task_of, unreachable

RETRY = 1.0
"""Seconds until a stream that broke off is taken up again."""


class Client:
    """A service, from Python.

    Args:
        url: where it is; by default MAQUETTE_URL, or this machine's.
        key: an API key; by default MAQUETTE_API_KEY.

    All methods raise a MaquetteError where the service refuses or does not answer.
    """

    def __init__(self, url: str | None = None, key: str | None = None) -> None:
        self._http = httpx.Client(**settings(url, key))

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Gives the connections back."""
        self._http.close()

    def pipelines(self) -> list[str]:
        """What can be asked for."""
        return [one["name"] for one in self._ask("GET", "/v1/pipelines").json()]

    def upload(self, path: str | Path) -> str:
        """Sends a picture or a mesh; its id, for `make`."""
        path = Path(path)
        if not path.is_file():
            raise MaquetteError(f"file '{path}' does not exist")
        with path.open("rb") as file:
            return str(self._ask("POST", "/v1/uploads", files={"file": (path.name, file)}).json()["id"])

    def make(self, pipeline: str, prompt: str = "", *, idempotency_key: str | None = None, **asked: Any) -> RemoteTask:
        """Orders something.

        Args:
            pipeline: one of `pipelines`.
            prompt: what to make.
            idempotency_key: the same request with the same key is one task.
            asked: the rest of the API: `seed`, `steps`, `images`, `mesh`, `formats`, `finish`, and `then`, what is done
                with the mesh then: `[{"pipeline": "paint", "prompt": "old wood"}, {"pipeline": "rig"}]`.
        """
        return task_of(self._ask("POST", "/v1/tasks", **body(pipeline, prompt, asked, idempotency_key)).json())

    def get(self, identity: str) -> RemoteTask:
        """A task as it is now."""
        return task_of(self._ask("GET", f"/v1/tasks/{identity}").json())

    def cancel(self, identity: str) -> RemoteTask:
        """Ends a task that is not over."""
        return task_of(self._ask("POST", f"/v1/tasks/{identity}/cancel").json())

    def delete(self, identity: str) -> None:
        """Removes a task and its files."""
        self._ask("DELETE", f"/v1/tasks/{identity}")

    def follow(self, identity: str, patience: float = 60.0) -> Iterator[RemoteTask]:
        """A task each time something happens to it, until it is over; a connection that breaks is made again.

        Args:
            identity: of the task.
            patience: seconds for which the service may be away.
        """
        lines, heard, path = EventLines(), time.monotonic(), f"/v1/tasks/{identity}/events"
        while True:
            try:
                with self._http.stream("GET", path, headers=lines.headers) as answer:
                    if not answer.is_success:
                        answer.read()
                    for line in checked(answer).iter_lines():
                        heard = time.monotonic()
                        for state in lines.take(line):
                            task = task_of(state)
                            yield task
                            if task.over:
                                return
            except httpx.TransportError as error:
                if time.monotonic() - heard > patience:
                    raise unreachable(self._http.base_url, error) from error
            time.sleep(RETRY)

    def wait(self, identity: str) -> RemoteTask:
        """A task when it is over.

        Raises:
            MaquetteError: it failed or was cancelled.
        """
        for task in self.follow(identity):
            last = task
        if last.status != "SUCCEEDED":
            raise MaquetteError(last.error or f"task {identity} was cancelled")
        return last

    def download(self, task: RemoteTask, name: str, path: str | Path) -> Path:
        """Writes a file of a task, whole or not at all."""
        if name not in task.files:
            raise MaquetteError(f"task {task.id} made no '{name}'; it made {', '.join(task.files) or 'nothing'}")
        with whole_file(Path(path)) as temporary:
            temporary.write_bytes(self._ask("GET", task.files[name]).content)
        return Path(path)

    def _ask(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            return checked(self._http.request(method, path, **arguments))
        except httpx.TransportError as error:
            raise unreachable(self._http.base_url, error) from error
