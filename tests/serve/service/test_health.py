"""Every answer is counted, whoever gives it, and nobody makes up new series."""

from __future__ import annotations

import re

import pytest
from fastapi.testclient import TestClient

from tests.serve.meshy import stand_in


@pytest.fixture
def client(tmp_path):
    service, app = stand_in.make(tmp_path, upload_bytes=1000)
    key = service.keys.create("ann", rate=1e6)
    with TestClient(app, raise_server_exceptions=False) as client:
        client.service, client.bearer = service, {"Authorization": f"Bearer {key}"}
        yield client


def counted(client):
    """Counts by method, route and status."""
    text = client.get("/metrics", headers=client.bearer).text
    found = re.findall(r'maquette_requests_total{method="(.*)",route="(.*)",status="(.*)"} (.*)', text)
    return {(method, route, int(status)): float(count) for method, route, status, count in found}


def test_faults_and_refusals_are_counted(client, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(client.service.store, "page", lambda *_: 1 / 0)
        assert client.get("/v1/tasks", headers=client.bearer).status_code == 500
    assert client.post("/v1/tasks", json={}).status_code == 401  # before its body is read
    assert client.post("/v1/tasks", content=b"x" * 2000, headers=client.bearer).status_code == 413
    assert client.get("/v1/tasks").status_code == 401
    counts = counted(client)
    assert counts["GET", "/v1/tasks", 500] == 1
    assert counts["POST", "none", 401] == counts["POST", "none", 413] == counts["GET", "/v1/tasks", 401] == 1


def test_made_up_methods_are_one_series(client):
    before = len(counted(client))
    for number in range(20):
        client.request(f"MADEUP{number}", "/v1/tasks")
    counts = counted(client)
    assert {method for method, _, _ in counts} <= {"GET", "other"}
    assert len(counts) <= before + 2
