"""Connections whose headers must come in time: who opens many and says nothing keeps nobody else out for long."""

from __future__ import annotations

import asyncio
import logging

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

log = logging.getLogger("maquette.service")
HEADER_SECONDS = 15.0
"""From the first byte of a request, or the beginning of the connection, to the end of its headers."""
MOST = 1000
"""Connections at once; who asks for more is answered 503."""
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class PatientConnection(H11Protocol):
    """HTTP/1.1 of uvicorn, which itself waits for headers as long as they take."""

    _watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """The time begins."""
        super().connection_made(transport)
        self._begin()

    def data_received(self, data: bytes) -> None:
        """The time ends with the headers, and begins anew with the next request."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._end()
        elif self._watch is None:
            self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits any more."""
        self._end()
        super().connection_lost(exc)

    def _begin(self) -> None:
        self._watch = self.loop.call_later(HEADER_SECONDS, self._refuse)

    def _end(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _refuse(self) -> None:
        log.warning("refused 408 to %s: its headers come too slowly", (self.client or ("unknown",))[0])
        self.transport.write(_TOO_SLOW)
        self.transport.close()
