"""Addresses of files that open without a key until they expire, since whoever has them was given them."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from maquette_serve.service.task import DAY_MS, Task, now_ms

PREFIX = "/openapi/files"


class Links:
    """Signs addresses of files with a secret that lies beside them.

    Args:
        folder: of the service; servers that share it open each other's links.
    """

    def __init__(self, folder: Path) -> None:
        self._secret = _secret(folder / "links.secret")

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


def _secret(path: Path) -> bytes:
    """The secret of a file, made where there is none; two that make it at once have the same."""
    if not path.exists():
        own = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        with os.fdopen(os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(32))
        try:
            os.link(own, path)
        except FileExistsError:
            pass  # another server was first: its secret holds
        finally:
            own.unlink()
    return path.read_bytes()
