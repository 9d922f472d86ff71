"""No body is larger or slower than it may be, however it is sent, and a stranger's is not read at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from maquette_serve.service.refusals import note

Message = dict[str, Any]
PATIENCE = 30.0
"""Seconds that a body may take beside those that its length earns it."""
SLOWEST = 16 * 1024
"""Bytes of a body a second that earn it more time."""
NO_KEY = "no valid API key; send 'Authorization: Bearer KEY'"


class Unread(Exception):
    """A body is not read to its end.

    Args:
        status: that is answered.
        message: why.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class GuardedBodies:
    """ASGI: counts the bytes of a body as they come, and answers 413 once there are too many, 408 where they come too
    slowly, and 401 before any of them where whoever sends them has no key.

    Args:
        app: what is behind.
        largest: bytes.
        stranger: whether headers (lower-case) hold no valid key.
    """

    def __init__(self, app: Any, largest: int, stranger: Callable[[Mapping[str, str]], Awaitable[bool]]) -> None:
        self.app, self.largest, self.stranger = app, largest, stranger

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        """One connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = Body(receive, self.largest)
        answered = False

        async def noted(message: Message) -> None:
            nonlocal answered
            # Who parses the body may take the exception for a fault of the caller's and answer something else.
            if body.refused is None or answered:
                answered = True
                await send(message)

        try:
            await self._admit(scope)
            await self.app(scope, body.receive, noted)
        except Unread as error:
            body.refused = error
        if body.refused is not None and not answered:
            await refuse(scope, send, body.refused)

    async def _admit(self, scope: Message) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        declared = headers.get("content-length", "0")
        if not declared.isdigit() or int(declared) > self.largest:
            raise Unread(413, f"the body is larger than {self.largest} bytes")
        sends = int(declared) > 0 or "transfer-encoding" in headers
        if sends and await self.stranger(headers):
            raise Unread(401, NO_KEY)


class Body:
    """A body as it comes.

    Args:
        messages: where from.
        largest: bytes.
    """

    def __init__(self, messages: Callable[[], Awaitable[Message]], largest: int) -> None:
        self._messages, self._largest = messages, largest
        self._seen, self._whole, self._start = 0, False, asyncio.get_running_loop().time()
        self.refused: Unread | None = None

    async def receive(self) -> Message:
        """The next piece; once it is whole, whatever else happens to the connection."""
        if self._whole:
            return await self._messages()
        end = self._start + PATIENCE + self._seen / SLOWEST
        try:
            async with asyncio.timeout_at(end):
                message = await self._messages()
        except TimeoutError:
            raise self._refuse(408, "the body comes too slowly") from None
        self._seen += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self._seen > self._largest:
            raise self._refuse(413, f"the body is larger than {self._largest} bytes")
        return message

    def _refuse(self, status: int, message: str) -> Unread:
        self.refused = Unread(status, message)
        return self.refused


async def refuse(scope: Message, send: Any, error: Unread) -> None:
    """Says why a body is not read, and hangs up."""
    note(scope, error.status, error.message)
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    headers += [(b"www-authenticate", b"Bearer")] if error.status == 401 else []
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps({"message": error.message}).encode()})
