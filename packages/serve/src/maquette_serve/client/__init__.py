"""Using a service from Python: `Client` and `AsyncClient`."""

from __future__ import annotations

from maquette_serve.client.async_client import AsyncClient
from maquette_serve.client.client import Client
from maquette_serve.client.messages import RemoteStage, RemoteTask

__all__ = ["AsyncClient", "Client", "RemoteStage", "RemoteTask"]
