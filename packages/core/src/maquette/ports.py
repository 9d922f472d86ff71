"""Ports of this machine."""

from __future__ import annotations

import socket


def free_port() -> int:
    """One at which nobody listens on the loopback address; somebody else may take it before it is used."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
