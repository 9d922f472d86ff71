"""What the OpenAPI document says is what happens: requests that it allows, and others, made of it by Schemathesis."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from tests.serve.meshy import stand_in

schemathesis = pytest.importorskip("schemathesis")
CALM = settings(derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module", params=["open", "keys"])
def described(request, tmp_path_factory, listen):
    """The document of a server, and headers with a key where it wants one."""
    service, app = stand_in.make(tmp_path_factory.mktemp("schema"), open=request.param == "open")
    key = service.keys.create("ann", rate=1e6, queue=10**6)
    headers = {} if request.param == "open" else {"Authorization": f"Bearer {key}"}
    with listen(app) as url:
        yield schemathesis.openapi.from_url(f"{url}/openapi.json"), headers


def breaches(described, examples, operations):
    """Calls each operation, with and without the key; schemathesis raises where the document is not kept."""
    schema, headers = described
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    kept = [not_a_server_error, checks.status_code_conformance, checks.content_type_conformance]
    kept += [checks.response_schema_conformance, checks.response_headers_conformance]
    found = [result.ok() for result in schema.get_all_operations()]
    for operation in found[operations]:

        @given(case=operation.as_strategy())
        @settings(CALM, max_examples=examples)
        def asked(case):
            case.call_and_validate(headers=headers, checks=kept, timeout=30)

        asked()
    return len(found)


def test_the_document_is_kept(described):
    assert breaches(described, 2, slice(None)) > 50


@pytest.mark.slow
def test_the_document_is_kept_by_many_requests(described):
    assert breaches(described, 60, slice(None)) > 50
