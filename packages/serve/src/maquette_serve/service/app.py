"""The HTTP application: addresses, errors of one shape, limits, health and figures."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from maquette.errors import MaquetteError
from maquette_serve import __version__
from maquette_serve.service.access import allowed
from maquette_serve.service.bodies import LimitedBodies
from maquette_serve.service.keys import Key
from maquette_serve.service.meshy.router import MeshyFront, meshy_router
from maquette_serve.service.native import KIND, router, shown
from maquette_serve.service.service import Service, TooMany
from maquette_serve.service.store import Conflict
from maquette_serve.service.webhooks import Webhooks
from maquette_serve.web import FOLDER, POLICY

log = logging.getLogger("maquette.service")


def create_app(service: Service) -> FastAPI:
    """The application of a service, which it starts and ends with itself."""

    front = MeshyFront(service)
    webhooks = Webhooks(service.store, lambda task: shown(task) if task.kind == KIND else front.shown(task))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.loop = asyncio.get_running_loop()
        service.start()
        webhooks.start()
        yield
        webhooks.close()
        await asyncio.to_thread(service.close)

    app = FastAPI(title="maquette", version=__version__, lifespan=lifespan)
    app.state.service = service
    app.include_router(router)
    app.include_router(meshy_router(front))
    _health(app, service)
    _figures(app, service)
    _page(app)
    _errors(app)
    app.add_middleware(LimitedBodies, largest=service.settings.upload_bytes)
    return app


def _health(app: FastAPI, service: Service) -> None:
    @app.get("/livez")
    def livez() -> dict[str, str]:
        """Whether the server answers."""
        return {"status": "alive"}

    @app.get("/readyz", responses={503: {"description": "no engine is ready"}})
    def readyz() -> JSONResponse:
        """Whether an engine takes orders."""
        ready = service.replicas.ready
        return JSONResponse({"status": "ready" if ready else "starting"}, 200 if ready else 503)


def _figures(app: FastAPI, service: Service) -> None:
    registry = CollectorRegistry()
    requests = Counter("maquette_requests", "Answers", ["method", "route", "status"], registry=registry)
    seconds = Histogram("maquette_request_seconds", "Until the answer begins", ["route"], registry=registry)
    unfinished = Gauge("maquette_tasks_unfinished", "Tasks that are not over", registry=registry)
    engines = Gauge("maquette_engine_tasks", "Tasks that engines have", registry=registry)

    @app.middleware("http")
    async def counted(request: Request, call_next: Any) -> Response:
        start = time.monotonic()
        response: Response = await call_next(request)
        route = getattr(request.scope.get("route"), "path", "none")
        requests.labels(request.method, route, response.status_code).inc()
        seconds.labels(route).observe(time.monotonic() - start)
        return response

    @app.get("/metrics", include_in_schema=False)
    def metrics(_: Annotated[Key, Depends(allowed("read"))]) -> Response:
        unfinished.set(service.store.unfinished())
        engines.set(service.replicas.waiting)
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def _page(app: FastAPI) -> None:
    files = StaticFiles(directory=FOLDER, html=True)

    @app.middleware("http")
    async def guarded(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers["x-content-type-options"] = "nosniff"
        response.headers["referrer-policy"] = "no-referrer"
        if response.headers.get("content-type", "").startswith("text/html") and request.url.path == "/":
            response.headers["content-security-policy"] = POLICY
        return response

    app.mount("/", files, name="page")


def _errors(app: FastAPI) -> None:
    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"message": error.detail}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return JSONResponse({"message": f"{where or 'body'}: {first['msg']}"}, 422)

    @app.exception_handler(MaquetteError)
    async def mistaken(_: Request, error: MaquetteError) -> JSONResponse:
        status = 409 if isinstance(error, Conflict) else 429 if isinstance(error, TooMany) else 400
        return JSONResponse({"message": str(error)}, status)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return JSONResponse({"message": "internal error; it is logged"}, 500)
