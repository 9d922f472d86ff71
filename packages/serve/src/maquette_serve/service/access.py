"""Which key a request has, and whether it may be made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from maquette_serve.service.bodies import NO_KEY
from maquette_serve.service.keys import LOCAL, Key
from maquette_serve.service.service import Service

BEARER = HTTPBearer(auto_error=False, description="A key of `maquette keys create`.")
Given = Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]


def service_of(request: Request) -> Service:
    """The service of the app that got a request."""
    service: Service = request.app.state.service
    return service


def found(service: Service, header: str) -> Key | None:
    """The key of an `Authorization` header; None where it holds none that is valid."""
    kind, _, text = header.partition(" ")
    if not text and service.settings.open:
        return LOCAL
    return service.keys.find(text) if kind.lower() == "bearer" and text else None


def strangers(service: Service) -> Callable[[Mapping[str, str]], Awaitable[bool]]:
    """Tells by headers whether a request has no key that holds."""

    async def stranger(headers: Mapping[str, str]) -> bool:
        return await run_in_threadpool(found, service, headers.get("authorization", "")) is None

    return stranger


def allowed(scope: str) -> Callable[[Request, Given], Key]:
    """A dependency: the key of a request that may do what a scope names.

    Raises:
        HTTPException: 401 without a key that holds, 403 without the scope, 429 above the key's rate.
    """

    def key_of(request: Request, _: Given) -> Key:
        service = service_of(request)
        key = found(service, request.headers.get("authorization", ""))
        if key is None:
            raise HTTPException(401, NO_KEY, {"WWW-Authenticate": "Bearer"})
        if scope not in key.scopes:
            raise HTTPException(403, f"this key may not {scope}")
        if not service.rates.take(key):
            raise HTTPException(429, f"more than {key.rate:g} requests a second", {"Retry-After": "1"})
        return key

    return key_of


Reader = Annotated[Key, Depends(allowed("read"))]
Maker = Annotated[Key, Depends(allowed("generate"))]
