"""Traces by OpenTelemetry: one from a request over the pieces of its work to its files.

Spans cost nothing until somebody collects them: `maquette serve` does where the standard variables say where to
(OTEL_EXPORTER_OTLP_ENDPOINT), and a program that sets up the SDK itself does in its own way.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from maquette.errors import MaquetteError

VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def tracer() -> trace.Tracer:
    """Of this service."""
    return trace.get_tracer("maquette.service")


def export_as_configured() -> None:
    """Sends spans where the environment says, if it does.

    Raises:
        MaquetteError: it does, and the SDK is not installed.
    """
    if not any(os.environ.get(name) for name in VARIABLES):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise MaquetteError(f"traces need: pip install 'maquette-serve[telemetry]' ({error})") from error
    name = os.environ.get("OTEL_SERVICE_NAME", "maquette")
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def answering(method: str, headers: Mapping[str, str]) -> Any:
    """A span for a request, in the trace of whoever sent it; a context manager."""
    parent = propagate.extract(headers)
    return tracer().start_as_current_span(method, parent, SpanKind.SERVER, {"http.request.method": method})


def carried() -> dict[str, str]:
    """The current span, as it is kept with a task: its work may be done later, by another server."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier


def begun(name: str, carrier: Mapping[str, str], **attributes: str | int) -> Span:
    """A span for a piece of work, in the trace of the request that asked for it."""
    named = {f"maquette.{key}": value for key, value in attributes.items()}
    return tracer().start_span(name, propagate.extract(carrier), SpanKind.CONSUMER, named)


def within(span: Span, name: str) -> Any:
    """A span for a part of a piece of work; a context manager."""
    return tracer().start_as_current_span(name, trace.set_span_in_context(span))


def ended(span: Span, error: str = "") -> None:
    """It is over; with an error it failed."""
    span.set_status(Status(StatusCode.ERROR, error) if error else Status(StatusCode.OK))
    span.end()
