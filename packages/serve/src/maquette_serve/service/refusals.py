"""What is refused: one shape of answer, and a line in the log."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from maquette.errors import MaquetteError
from maquette_serve.service.files import StoreAway
from maquette_serve.service.messages import Refusal
from maquette_serve.service.service import TooMany
from maquette_serve.service.store import Conflict

log = logging.getLogger("maquette.service")
REASONS = {
    400: "Something in the request is wrong.",
    401: "No API key that holds.",
    403: "The key may not do this.",
    404: "It is not there, or not the caller's.",
    405: "Not by this method.",
    408: "The body came too slowly.",
    409: "The idempotency key came with another request.",
    413: "The body is too large.",
    415: "A file of a kind that is not read.",
    422: "Something in the request is malformed.",
    429: "A limit of the key is reached.",
    500: "A fault of the server, which is in its log.",
    503: "The store of files does not answer; later it may.",
}
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal, "description": reason} for status, reason in REASONS.items()
}
"""For the description of each address: whatever it refuses looks like this."""
STATUSES: dict[type[MaquetteError], int] = {Conflict: 409, TooMany: 429, StoreAway: 503}
"""What answers mistakes that are not the request's alone; all others are 400."""


def refused_as_json(app: FastAPI) -> None:
    """Lets an application answer every error with `{"message": "one line"}`."""

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        return answer(request, error.status_code, str(error.detail), error.headers)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return answer(request, 422, f"{where or 'body'}: {first['msg']}")

    @app.exception_handler(MaquetteError)
    async def mistaken(request: Request, error: MaquetteError) -> JSONResponse:
        status = next((status for kind, status in STATUSES.items() if isinstance(error, kind)), 400)
        return answer(request, status, error)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return JSONResponse({"message": "internal error; it is logged"}, 500)


def answer(request: Request, status: int, message: object, headers: Any = None) -> JSONResponse:
    """A refusal in one line, which is logged."""
    line = " ".join(str(message).split())
    note(request.scope, status, line)
    return JSONResponse({"message": line}, status, headers)


def note(scope: Any, status: int, message: str) -> None:
    """Logs a refusal: who asked for what, without the query, which may hold a signature."""
    client = (scope.get("client") or ("unknown",))[0]
    log.warning("refused %d to %s: %s %r: %s", status, client, scope.get("method"), scope.get("path"), message)
