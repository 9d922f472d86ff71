"""A pool of child processes: one that dies or hangs loses only the item it held, and is replaced."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import IO, Any

from maquette.errors import MaquetteError
from maquette_data3d.shards.process import Outcome, Settings

_START_SECONDS = 300.0
_TICK = 0.5


class _Child:
    """One process, the request it holds, and until when."""

    def __init__(self, setup: dict[str, Any]) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        # One thread a child: the pool is the parallelism.
        environment.update({name: "1" for name in ("OMP_NUM_THREADS", "IGL_NUM_THREADS", "NUMBA_NUM_THREADS")})
        self.complaints: IO[bytes] = tempfile.TemporaryFile()
        command = [sys.executable, "-m", "maquette_data3d.shards.worker"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.complaints, env=environment
        )
        self.ready, self.request, self.received = False, None, b""
        self.until = time.monotonic() + _START_SECONDS
        self.send(setup)

    def send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return  # it has died; its closed stdout tells so

    def lines(self) -> list[str] | None:
        """Whole lines that have arrived; None when the child has gone."""
        assert self.process.stdout is not None
        data = os.read(self.process.stdout.fileno(), 1 << 20)
        self.received += data
        *whole, self.received = self.received.split(b"\n")
        return [line.decode() for line in whole] if data else None

    def end(self) -> str:
        """Kills the child and says how it ended."""
        early = self.process.poll()
        self.process.kill()
        code = self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue
        self.complaints.seek(0)
        said = self.complaints.read()[-400:].decode("utf-8", "replace").strip().splitlines()
        self.complaints.close()
        how = f"signal {-code}" if code < 0 else f"exit status {code}"
        return f"its process ended with {how}{': ' + said[-1] if said else ''}" if early != 0 else ""


class Pool:
    """Runs requests on `size` children and yields outcomes as they come, in no order."""

    def __init__(self, size: int, settings: Settings, procedural: bool, deadline_s: float, memory_mb: int) -> None:
        self.size, self.deadline = size, deadline_s
        self.setup = {"settings": asdict(settings), "procedural": procedural, "memory_mb": memory_mb}
        self.selector = selectors.DefaultSelector()
        self.children: list[_Child] = []

    def run(self, requests: list[dict[str, Any]]) -> Iterator[Outcome]:
        """Outcomes of all requests.

        Raises:
            MaquetteError: children cannot be started at all.
        """
        waiting = iter(requests)
        left = len(requests)
        with self._all_ended():
            for _ in range(min(self.size, left)):
                self._start()
            while left:
                for outcome in self._step(waiting):
                    left -= 1
                    yield outcome

    def _step(self, waiting: Iterator[dict[str, Any]]) -> Iterator[Outcome]:
        for key, _ in self.selector.select(_TICK):
            child: _Child = key.data
            lines = child.lines()
            if lines is None:
                yield from self._lost(child, "crashed", waiting)
                continue
            for line in lines:
                if child.ready:
                    child.request = None
                    outcome = Outcome(**json.loads(line))
                    yield outcome
                    if outcome.reason == "memory":
                        continue  # it ends itself, and is replaced when its pipe closes
                child.ready = True
                self._hand_out(child, waiting)
        for child in [c for c in self.children if time.monotonic() > c.until]:
            yield from self._lost(child, "deadline", waiting)

    def _hand_out(self, child: _Child, waiting: Iterator[dict[str, Any]]) -> None:
        child.request = next(waiting, None)
        child.until = time.monotonic() + self.deadline if child.request else float("inf")
        if child.request:
            child.send(child.request)

    def _lost(self, child: _Child, reason: str, waiting: Iterator[dict[str, Any]]) -> Iterator[Outcome]:
        """Replaces a child that died or overstayed; the item it held is the one it pays with."""
        self.selector.unregister(child.process.stdout)  # type: ignore[arg-type]
        self.children.remove(child)
        how, request = child.end(), child.request
        if not child.ready:
            raise MaquetteError(f"worker processes do not start: {how or 'they take too long'}")
        self._start()
        if request is not None:
            detail = f"it took longer than {self.deadline:g} s" if reason == "deadline" else how
            yield Outcome(request["item"]["number"], reason, detail)

    def _start(self) -> None:
        child = _Child(self.setup)
        self.children.append(child)
        self.selector.register(child.process.stdout, selectors.EVENT_READ, child)  # type: ignore[arg-type]

    @contextmanager
    def _all_ended(self) -> Iterator[None]:
        try:
            yield
        finally:
            for child in self.children:
                child.end()
            self.children.clear()
            self.selector.close()
