"""No request is larger than it may be, however it is sent."""

from __future__ import annotations

import json
from typing import Any

Message = dict[str, Any]


class LimitedBodies:
    """ASGI: counts the bytes of a body as they come, and answers 413 once there are too many.

    Args:
        app: what is behind.
        largest: bytes.
    """

    def __init__(self, app: Any, largest: int) -> None:
        self.app, self.largest = app, largest

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        """One connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > self.largest:
            await refuse(send, self.largest)
            return
        seen, answered = 0, False

        async def counted() -> Message:
            nonlocal seen
            message: Message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.largest:
                raise TooLarge
            return message

        async def noted(message: Message) -> None:
            nonlocal answered
            # Who parses the body may take the exception for a fault of the caller's and answer something else.
            if seen <= self.largest or answered:
                answered = True
                await send(message)

        try:
            await self.app(scope, counted, noted)
        except TooLarge:
            pass
        if seen > self.largest and not answered:
            await refuse(send, self.largest)


class TooLarge(Exception):
    """A body passed its limit."""


async def refuse(send: Any, largest: int) -> None:
    """Answers 413."""
    body = json.dumps({"message": f"the body is larger than {largest} bytes"}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})
