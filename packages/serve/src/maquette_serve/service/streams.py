"""What happens to a task, as server-sent events that can be taken up where they broke off."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from maquette_serve.service.service import Service
from maquette_serve.service.task import Task

LOOK_AGAIN = 2.0
"""Seconds after which a stream looks into the store unasked: another server may have the task."""


def stream(service: Service, task: Task, after: int, shown: Callable[[Task], dict[str, Any]]) -> EventSourceResponse:
    """Events of a task after a number, until it is over; the last one holds the whole task.

    Args:
        service: that has it.
        task: whose events.
        after: the number of the last event that the caller has seen, 0 for none.
        shown: how a task is shown.
    """
    return EventSourceResponse(_told(service, task.id, after, shown), ping=15)


def refused(status: int, message: str) -> EventSourceResponse:
    """A stream that only says why there is none."""

    async def told() -> AsyncIterator[ServerSentEvent]:
        yield _error(status, message)

    return EventSourceResponse(told())


def _error(status: int, message: str) -> ServerSentEvent:
    return ServerSentEvent(json.dumps({"status_code": status, "message": message}), event="error")


async def _told(
    service: Service, identity: str, after: int, shown: Callable[[Task], dict[str, Any]]
) -> AsyncIterator[ServerSentEvent]:
    changed = service.listen(identity)
    try:
        while True:
            changed.clear()
            # The task first: of one that is over the last event is then there, too.
            task = await run_in_threadpool(service.store.get, identity)
            events = await run_in_threadpool(service.store.events, identity, after)
            if task is not None and events and not task.over:  # it may have ended between the two looks
                task = await run_in_threadpool(service.store.get, identity)
            if task is None:
                yield _error(404, "the task is gone")
                return
            for event in events:
                after = event.sequence
                last = task.over and event is events[-1]
                state = shown(task) if last else dict(event.state)
                yield ServerSentEvent(json.dumps(state), event="message", id=str(after))
            if task.over:
                return
            try:
                await asyncio.wait_for(changed.wait(), LOOK_AGAIN)
            except TimeoutError:
                continue
    finally:
        service.unlisten(identity, changed)


def last_event_id(value: str | None) -> int:
    """The number that a caller says in `Last-Event-ID`; 0 for none and for what is no number."""
    return int(value) if value and value.isdigit() and len(value) < 19 else 0
