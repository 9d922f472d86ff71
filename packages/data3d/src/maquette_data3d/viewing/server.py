"""The page of `maquette data view` over HTTP: each sample is read when it is looked at."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from maquette.errors import MaquetteError
from maquette.progress import say
from maquette_data3d.viewing.page import html, listed
from maquette_data3d.viewing.sample import packed_sample

if TYPE_CHECKING:
    from maquette_data3d.shards.reader import ShardReader

PAGE = 60
_SEARCHED = ("id", "caption", "class", "split")
_CHUNK = 20_000


def serve_page(
    reader: ShardReader,
    port: int = 8008,
    host: str = "127.0.0.1",
    *,
    numbers: Sequence[int] | np.ndarray | None = None,
    title: str = "Samples",
) -> None:
    """Serves the page until it is interrupted.

    Args:
        reader: of the folder; it stays as it is.
        port: 0 takes any free one.
        host: only this machine can look unless another address is given.
        numbers: of the samples to show, in the order of the list; all where None.
        title: of the page.

    Raises:
        MaquetteError: the address is taken.
    """
    with page_server(reader, port, host, numbers=numbers, title=title) as server:
        say(f"{title}: http://{host}:{server.server_address[1]}/ (Ctrl-C ends it)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


def page_server(
    reader: ShardReader,
    port: int = 8008,
    host: str = "127.0.0.1",
    *,
    numbers: Sequence[int] | np.ndarray | None = None,
    title: str = "Samples",
) -> ThreadingHTTPServer:
    """The server, bound and not yet serving; `server_address` says where.

    Raises:
        MaquetteError: the address is taken.
    """
    answers = Answers(reader, np.arange(len(reader)) if numbers is None else np.asarray(numbers, np.int64), title)

    class Handler(_Handler):
        pass

    Handler.answers = answers
    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        raise MaquetteError(f"cannot serve at {host}:{port} ({error.strerror}); choose another port") from error
    server.daemon_threads = True
    Handler.hosts = _names(host, server.server_address[1])
    return server


def _names(host: str, port: int) -> frozenset[str] | None:
    """The Host headers to answer; None for any. A page of a stranger that calls itself by our address gets nothing."""
    if host not in ("127.0.0.1", "localhost", "::1"):
        return None
    return frozenset(f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]"))


class Answers:
    """What the page asks for."""

    def __init__(self, reader: ShardReader, numbers: np.ndarray, title: str) -> None:
        self.reader, self.numbers = reader, numbers
        self.first = html(title, {"live": True, "total": len(numbers), "entries": []}).encode()
        self.sample = lru_cache(maxsize=16)(lambda number: packed_sample(reader, number))
        self._texts: list[np.ndarray] | None = None

    def entries(self, search: str, start: int) -> dict[str, Any]:
        """The next lines of the list from place `start` on, and where to go on (None at the end)."""
        found: list[int] = []
        place, total = max(start, 0), len(self.numbers)
        words = search.lower()
        while place < total and len(found) < PAGE:
            stop = min(place + (_CHUNK if words else PAGE), total)
            hits = self._matching(words, place, stop)[: PAGE - len(found)]
            found += hits
            place = hits[-1] + 1 if len(found) == PAGE else stop
        lines = [listed(self.reader, int(self.numbers[hit]), draw=False) for hit in found]
        return {"entries": lines, "next": place if place < total else None}

    def _matching(self, words: str, start: int, stop: int) -> list[int]:
        """Places between two whose texts hold the words."""
        if not words:
            return list(range(start, stop))
        if self._texts is None:
            self._texts = [self.reader.column(name) for name in _SEARCHED]
        chunks = [column[self.numbers[start:stop]] for column in self._texts]
        return [start + place for place, texts in enumerate(zip(*chunks, strict=True)) if _holds(texts, words)]


def _holds(texts: tuple[Any, ...], words: str) -> bool:
    return any(words in str(text).lower() for text in texts)


class _Handler(BaseHTTPRequestHandler):
    answers: Answers
    hosts: frozenset[str] | None = None

    def do_GET(self) -> None:
        if self.hosts is not None and self.headers.get("Host") not in self.hosts:
            self._send(403, b"unknown host", "text/plain")
            return
        asked = urlsplit(self.path)
        answer = {"/": self._page, "/entries": self._entries, "/sample": self._sample}.get(asked.path)
        if answer is None:
            self._send(404, b"no such page", "text/plain")
            return
        try:
            self._send(200, *answer(parse_qs(asked.query)))
        except (MaquetteError, ValueError, IndexError) as error:
            self._send(400, str(error).encode(), "text/plain")

    def _page(self, _: dict[str, list[str]]) -> tuple[bytes, str]:
        return self.answers.first, "text/html"

    def _entries(self, query: dict[str, list[str]]) -> tuple[bytes, str]:
        found = self.answers.entries(query.get("search", [""])[0], int(query.get("from", ["0"])[0]))
        return json.dumps(found).encode(), "application/json"

    def _sample(self, query: dict[str, list[str]]) -> tuple[bytes, str]:
        number = int(query.get("number", [""])[0])
        if not 0 <= number < len(self.answers.reader):
            raise ValueError(f"there is no sample {number}")
        return self.answers.sample(number), "application/octet-stream"

    def _send(self, code: int, body: bytes, kind: str) -> None:
        self.send_response(code)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """The terminal belongs to the command."""
