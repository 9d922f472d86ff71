"""What goes to a service and comes back, the same for both clients."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import httpx

from maquette.errors import MaquetteError

OVER = ("SUCCEEDED", "FAILED", "CANCELED")
KEY_VARIABLE, URL_VARIABLE = "MAQUETTE_API_KEY", "MAQUETTE_URL"
LOCAL_URL = "http://127.0.0.1:8000"


@dataclass(frozen=True)
class RemoteStage:
    """A piece of a task's work that is done: its pipeline, what is known of its mesh, and addresses of its files."""

    pipeline: str
    metadata: Mapping[str, Any]
    faces: int
    files: Mapping[str, str]


@dataclass(frozen=True)
class RemoteTask:
    """A task of a service.

    Attributes:
        id: of the task.
        status: PENDING, IN_PROGRESS, SUCCEEDED, FAILED or CANCELED.
        progress: 0 to 100.
        seed: that makes the same mesh again.
        error: why it failed.
        files: addresses by names.
        metadata: of what was made.
        faces: of its mesh.
        stages: the pieces of its work that are done.
    """

    id: str
    status: str
    progress: int = 0
    seed: int | None = None
    error: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, Any] | None = None
    faces: int | None = None
    stages: tuple[RemoteStage, ...] = ()

    @property
    def over(self) -> bool:
        """Whether nothing will change any more."""
        return self.status in OVER


def settings(url: str | None, key: str | None) -> dict[str, Any]:
    """How to reach a service: what is given, or else the environment's MAQUETTE_URL and MAQUETTE_API_KEY."""
    key = key or os.environ.get(KEY_VARIABLE)
    headers = {"authorization": f"Bearer {key}"} if key else {}
    timeout = httpx.Timeout(30.0, read=60.0)  # a stream says something every 15 seconds
    return {"base_url": url or os.environ.get(URL_VARIABLE, LOCAL_URL), "headers": headers, "timeout": timeout}


def task_of(answer: Mapping[str, Any]) -> RemoteTask:
    """The task of an answer."""
    return RemoteTask(**{**known(RemoteTask, answer), "stages": tuple(stages_of(answer.get("stages", ())))})


def stages_of(answers: Iterable[Mapping[str, Any]]) -> Iterator[RemoteStage]:
    """The stages of an answer's task."""
    for answer in answers:
        yield RemoteStage(**known(RemoteStage, answer))


def known(kind: type, answer: Mapping[str, Any]) -> dict[str, Any]:
    """Of an answer what this client knows: a newer service may tell more."""
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in answer.items() if name in names}


def checked(answer: httpx.Response) -> httpx.Response:
    """The answer, where it is no refusal; a stream's body must have been read.

    Raises:
        MaquetteError: what the service said.
    """
    if answer.is_success:
        return answer
    try:
        said = answer.json()["message"]
    except (ValueError, KeyError, TypeError):
        said = answer.text[:200]
    raise MaquetteError(f"the service refuses ({answer.status_code}): {said}")


def unreachable(url: httpx.URL, error: Exception) -> MaquetteError:
    """What is said where nobody answers."""
    return MaquetteError(f"no service answers at {url}: {error or type(error).__name__}")


@dataclass
class EventLines:
    """Puts the lines of a stream together to events, and remembers the number of the last one."""

    last: str = ""
    _number: str = ""

    def take(self, line: str) -> Iterator[dict[str, Any]]:
        """The event that a line completes, if it does."""
        name, _, value = line.partition(": ")
        if name == "id":
            self._number = value
        elif name == "data":
            state = json.loads(value)
            if "status_code" in state:
                raise MaquetteError(f"the service refuses ({state['status_code']}): {state.get('message')}")
            self.last = self._number or self.last
            yield state

    @property
    def headers(self) -> dict[str, str]:
        """With which the stream goes on where it broke off."""
        return {"Last-Event-ID": self.last} if self.last else {}


def body(pipeline: str, prompt: str, asked: Mapping[str, Any], key: str | None) -> dict[str, Any]:
    """The arguments of a request for a task."""
    content = {"pipeline": pipeline, "prompt": prompt, **{name: v for name, v in asked.items() if v is not None}}
    return {"json": content, "headers": {} if key is None else {"Idempotency-Key": key}}
