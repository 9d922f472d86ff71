"""Which key a request has, and whether it may be made."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import HTTPException, Request

from maquette_serve.service.keys import LOCAL, Key
from maquette_serve.service.service import Service


def service_of(request: Request) -> Service:
    """The service of the app that got a request."""
    service: Service = request.app.state.service
    return service


def allowed(scope: str) -> Callable[[Request], Key]:
    """A dependency: the key of a request that may do what a scope names.

    Raises:
        HTTPException: 401 without a key that holds, 403 without the scope, 429 above the key's rate.
    """

    def key_of(request: Request) -> Key:
        service = service_of(request)
        kind, _, text = request.headers.get("authorization", "").partition(" ")
        if not text and service.settings.open:
            key = LOCAL
        else:
            found = service.keys.find(text) if kind.lower() == "bearer" and text else None
            if found is None:
                raise HTTPException(
                    401, "no valid API key; send 'Authorization: Bearer KEY'", {"WWW-Authenticate": "Bearer"}
                )
            key = found
        if scope not in key.scopes:
            raise HTTPException(403, f"this key may not {scope}")
        if not service.rates.take(key):
            raise HTTPException(429, f"more than {key.rate:g} requests a second", {"Retry-After": "1"})
        return key

    return key_of
