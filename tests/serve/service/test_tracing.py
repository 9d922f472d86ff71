"""One trace from a request over its pieces of work to their files, where somebody collects traces."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from fastapi.testclient import TestClient

from tests.serve.meshy import stand_in

trace_sdk = pytest.importorskip("opentelemetry.sdk.trace")
CALLERS_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def spans(monkeypatch):
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), trace_sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr("maquette_serve.service.tracing.tracer", lambda: provider.get_tracer("test"))
    return exporter


def test_a_request_its_work_and_its_files_are_one_trace(spans, tmp_path):
    _, app = stand_in.make(tmp_path, open=True)
    with TestClient(app) as client:
        body = {"pipeline": "generator", "then": [{"pipeline": "painter"}]}
        caller = {"traceparent": f"00-{CALLERS_TRACE}-00f067aa0ba902b7-01"}
        identity = client.post("/v1/tasks", json=body, headers=caller).json()["id"]
        until(client, identity, "SUCCEEDED")
        failed = client.post("/v1/tasks", json={"pipeline": "generator", "prompt": "torn"}).json()["id"]
        until(client, failed, "FAILED")
        client.get(f"/v1/tasks/{identity}/files/model.glb")
    found = spans.get_finished_spans()
    ours = {span.name: span for span in found if format(span.context.trace_id, "032x") == CALLERS_TRACE}
    assert set(ours) == {"POST /v1/tasks", "make generator", "make painter", "files"}
    request = ours["POST /v1/tasks"]
    for name in ("make generator", "make painter"):
        assert ours[name].parent.span_id == request.context.span_id
        assert ours[name].attributes["maquette.task"] == identity
        assert ours[name].status.is_ok
        assert {event.name for event in ours[name].events} <= {"progress"}
    assert ours["files"].parent.span_id in {ours[name].context.span_id for name in ("make generator", "make painter")}
    torn = [span for span in found if span.attributes.get("maquette.task") == failed]
    assert [span.status.description for span in torn] == ["the mesh is torn"]
    assert any(span.name == "GET /v1/tasks/{identity}/files/{name}" for span in found)


def until(client, identity, status):
    deadline = time.monotonic() + 60
    while (task := client.get(f"/v1/tasks/{identity}").json())["status"] != status:
        assert time.monotonic() < deadline, task
        time.sleep(0.01)


def test_nothing_is_kept_where_nobody_collects(tmp_path):
    service, app = stand_in.make(tmp_path, open=True)
    with TestClient(app) as client:
        identity = client.post("/v1/tasks", json={"pipeline": "generator"}).json()["id"]
    assert "trace" not in service.store.get(identity).inputs


def test_the_environment_says_where_to():
    code = "from maquette_serve.service import tracing; tracing.export_as_configured(); print(tracing.tracer())"
    made = {}
    for where in ("", "http://127.0.0.1:9"):
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": where, "PATH": ""}
        made[where] = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        ).stdout
    assert "Proxy" in made[""]
    assert "opentelemetry.sdk" in made["http://127.0.0.1:9"]
