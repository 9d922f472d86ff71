"""A service with a fake engine, with one task done."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from tests.serve.meshy import stand_in


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    service, app = stand_in.make(tmp_path_factory.mktemp("meshy"), open=True)
    with TestClient(app) as client:
        client.service, client.engine = service, service.replicas
        yield client


@pytest.fixture(scope="module")
def preview(served):
    return stand_in.done(served, "/v2/text-to-3d", mode="preview", prompt="a red chair", seed=7)
