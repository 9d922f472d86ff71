"""Whether the server lives, whether it takes orders, and its figures for Prometheus."""

from __future__ import annotations

import time
from typing import Any, Literal

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import BaseModel

from maquette.monitoring.exposition import MachineExposition
from maquette.monitoring.machine import Machine
from maquette_serve.service import tracing
from maquette_serve.service.access import Reader
from maquette_serve.service.refusals import REFUSALS
from maquette_serve.service.service import Service

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})


class Alive(BaseModel):
    """The server answers."""

    status: Literal["alive"] = "alive"


class Readiness(BaseModel):
    """Whether an engine takes orders."""

    status: Literal["ready", "starting"]


def add_health(app: FastAPI, service: Service) -> None:
    """`/livez` and `/readyz`, which need no key: who balances loads has none."""

    @app.get("/livez")
    def livez() -> Alive:
        """Whether the server answers."""
        return Alive()

    @app.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness}})
    def readyz() -> Response:
        """Whether an engine takes orders."""
        ready = service.replicas.ready
        return JSONResponse({"status": "ready" if ready else "starting"}, 200 if ready else 503)


def add_figures(app: FastAPI, service: Service) -> None:
    """`/metrics`, and a trace of each request where anybody collects them."""
    registry = CollectorRegistry()
    requests = Counter("maquette_requests", "Answers", ["method", "route", "status"], registry=registry)
    seconds = Histogram("maquette_request_seconds", "Until the answer begins", ["route"], registry=registry)
    unfinished = Gauge("maquette_tasks_unfinished", "Tasks that are not over", registry=registry)
    engines = Gauge("maquette_engine_tasks", "Tasks that engines have", registry=registry)
    registry.register(
        MachineExposition(Machine.here(service.settings.folder), lambda: getattr(service.replicas, "processes", ()))
    )

    @app.middleware("http")
    async def counted(request: Request, call_next: Any) -> Response:
        start, status = time.monotonic(), 500
        method = request.method if request.method in METHODS else "other"  # anybody may make one up
        with tracing.answering(method, request.headers) as span:
            try:
                response: Response = await call_next(request)
                status = response.status_code
                return response
            finally:
                route = getattr(request.scope.get("route"), "path", "none")
                span.update_name(f"{method} {route}")
                span.set_attribute("http.response.status_code", status)
                requests.labels(method, route, status).inc()
                seconds.labels(route).observe(time.monotonic() - start)

    @app.get("/metrics", response_class=Response, responses={**REFUSALS, 200: {"content": {"text/plain": {}}}})
    def metrics(_: Reader) -> Response:
        """Figures for Prometheus."""
        unfinished.set(service.store.unfinished())
        engines.set(service.replicas.waiting)
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
