"""The HTTP application: addresses, errors of one shape, limits, health and figures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse
from starlette.staticfiles import StaticFiles

from maquette_serve import __version__
from maquette_serve.service.access import strangers
from maquette_serve.service.bodies import GuardedBodies
from maquette_serve.service.health import add_figures, add_health
from maquette_serve.service.meshy.router import MeshyFront, meshy_router
from maquette_serve.service.messages import shown
from maquette_serve.service.native import KIND, router
from maquette_serve.service.refusals import refused_as_json
from maquette_serve.service.service import Service
from maquette_serve.service.task import Task
from maquette_serve.service.webhooks import Webhooks
from maquette_serve.web import FOLDER, POLICY


def create_app(service: Service) -> FastAPI:
    """The application of a service, which it starts and ends with itself."""

    front = MeshyFront(service)

    def told(task: Task) -> dict[str, Any]:
        return shown(task).model_dump() if task.kind == KIND else front.shown(task)

    webhooks = Webhooks(service.store, told)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.loop = asyncio.get_running_loop()
        service.start()
        webhooks.start()
        yield
        webhooks.close()
        await asyncio.to_thread(service.close)

    # The framework's own page of the description loads its scripts from elsewhere.
    app = FastAPI(title="maquette", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.service = service
    app.include_router(router)
    app.include_router(meshy_router(front))
    # Inside of what counts: what is refused before it is read counts, too.
    app.add_middleware(GuardedBodies, largest=service.settings.upload_bytes, stranger=strangers(service))
    add_health(app, service)
    add_figures(app, service)
    _page(app)
    refused_as_json(app)
    return app


def _page(app: FastAPI) -> None:
    @app.get("/docs", include_in_schema=False)
    def described() -> FileResponse:
        return FileResponse(FOLDER / "api.html")

    @app.middleware("http")
    async def guarded(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers["x-content-type-options"] = "nosniff"
        response.headers["referrer-policy"] = "no-referrer"
        if response.headers.get("content-type", "").startswith("text/html"):
            response.headers["content-security-policy"] = POLICY
        return response

    app.mount("/", StaticFiles(directory=FOLDER, html=True), name="page")
