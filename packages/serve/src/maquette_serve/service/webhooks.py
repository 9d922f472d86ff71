"""Callers' servers are told what came of their tasks: signed, with retries, and over https alone."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from maquette.errors import MaquetteError
from maquette_serve.service.fetching import PublicServers
from maquette_serve.service.outbox import Notice, Outbox
from maquette_serve.service.store import Store
from maquette_serve.service.task import Task

log = logging.getLogger("maquette.service")
SIGNATURE = "X-Maquette-Signature"
"""Header "t=SECONDS,v1=HEX": HMAC-SHA256, with the key's secret, of "SECONDS." and the body."""
PAUSE = 1.0
AT_ONCE = 4


class Webhooks:
    """A thread that takes notices out of the outbox, and a few that tell them.

    Args:
        store: of the tasks.
        shown: how a task is shown to its owner.
        servers: how callers' servers are reached.
    """

    def __init__(
        self, store: Store, shown: Callable[[Task], dict[str, Any]], servers: PublicServers | None = None
    ) -> None:
        self.store, self.shown = store, shown
        self.servers = servers or PublicServers(largest=1 << 20, seconds=10.0)
        self.outbox = Outbox(store.engine)
        self._free = threading.Semaphore(AT_ONCE)
        self._pool = ThreadPoolExecutor(AT_ONCE, "webhook")
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def close(self) -> None:
        """Ends; what is not told yet is told by whoever comes next."""
        self._closing.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def tell(self, notice: Notice) -> None:
        """Tries once to tell a notice, and notes what came of it."""
        task = self.store.get(notice.task)
        if task is None:
            return  # forgotten, and the notice with it
        if self.outbox.disabled(notice):
            self.outbox.drop(notice, "the address is disabled, since it could not be told of the last tasks")
            return
        body = json.dumps(self.shown(task)).encode()
        headers = {"Content-Type": "application/json", "X-Maquette-Delivery": str(notice.number)}
        if notice.secret:
            headers[SIGNATURE] = signature(notice.secret, body, int(time.time()))
        try:
            status = self.servers.post(notice.address, body, headers).status
        except MaquetteError as error:
            self.outbox.failed(notice, str(error))
            return
        if status < 400:
            self.outbox.told(notice, f"answered {status}")
        else:
            self.outbox.failed(notice, f"answered {status}")

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._free.acquire()
                notice = self.outbox.claim()
                if notice is None or self._closing.is_set():
                    self._free.release()
                    self._closing.wait(PAUSE)
                else:
                    self._pool.submit(self._told, notice)
            except Exception:
                self._free.release()
                log.exception("a webhook could not be sent; others go on")
                self._closing.wait(PAUSE)

    def _told(self, notice: Notice) -> None:
        try:
            self.tell(notice)
        except Exception:
            log.exception("webhook %d failed; it is tried again", notice.number)
        finally:
            self._free.release()


def signature(secret: str, body: bytes, seconds: int) -> str:
    """The header's value for a body sent at a time, seconds since 1970."""
    made = hmac.new(secret.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={made}"
