"""Addresses of files that open without a key until they expire, since whoever has them was given them."""

from __future__ import annotations

import hashlib
import hmac

from maquette_serve.service.task import DAY_MS, Task, now_ms

PREFIX = "/openapi/files"


class Links:
    """Signs addresses of files.

    Args:
        secret: servers that share it open each other's links.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def of(self, base: str, task: Task, name: str) -> str:
        """The address of a file of a task, to be opened until the task is forgotten.

        Args:
            base: of the server, "https://host:port".
        """
        expires = task.expires or now_ms() + DAY_MS
        return f"{base}{PREFIX}/{task.id}/{name}?expires={expires}&signature={self._signature(task.id, name, expires)}"

    def holds(self, identity: str, name: str, expires: int, signature: str) -> bool:
        """Whether it is one of ours, and not too late."""
        right = self._signature(identity, name, expires)
        return hmac.compare_digest(right.encode(), signature.encode()) and now_ms() < expires

    def _signature(self, identity: str, name: str, expires: int) -> str:
        return hmac.new(self._secret, f"{identity}/{name}?{expires}".encode(), hashlib.sha256).hexdigest()
