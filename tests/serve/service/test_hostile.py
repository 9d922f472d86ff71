"""What is meant to do harm is refused with the right status, and the log says so; a stranger sees nothing."""

from __future__ import annotations

import contextlib
import io
import logging
import socket
import struct
import time
import zlib

import httpx
import pytest

from tests.serve.meshy import stand_in

OPEN = {"/livez", "/readyz"}
"""Without a key: who balances loads has none. (The page, its files and the document say the same of every server.)"""
BY_SIGNATURE = "/openapi/files/{identity}/{name}"


@pytest.fixture(scope="module")
def kept(tmp_path_factory, listen):
    """A service that wants keys, at a real address, with a client that has one."""
    service, app = stand_in.make(tmp_path_factory.mktemp("hostile"), upload_bytes=2**20)
    key = service.keys.create("ann", rate=1e6, queue=10**6)
    with listen(app) as url, httpx.Client(base_url=url, timeout=30) as client:
        client.bearer = {"Authorization": f"Bearer {key}"}
        client.app, client.service = app, service
        yield client


def refused(caplog, status):
    """Whether the log has a refusal of that status."""
    return any(f"refused {status} to 127.0.0.1" in record.getMessage() for record in caplog.records)


def addresses_inside():
    for host in ("127.0.0.1", "localhost", "169.254.169.254", "[::1]", "[::ffff:169.254.169.254]", "[fd00:ec2::254]"):
        yield "/openapi/v1/image-to-3d", {"image_url": f"https://{host}/a.png"}, 400
    yield "/openapi/v1/remesh", {"model_url": "https://metadata.google.internal./a.glb"}, 400
    yield "/openapi/v1/remesh", {"model_url": "file:///etc/passwd"}, 400
    yield "/openapi/v1/remesh", {"model_url": "gopher://127.0.0.1/"}, 400
    yield "/v1/tasks", {"pipeline": "generator", "webhook": "http://127.0.0.1/"}, 400


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        *addresses_inside(),
        ("/v1/tasks", {"pipeline": "generator", "images": ["../../../etc/passwd"]}, 400),
        ("/v1/tasks", {"pipeline": "generator", "images": ["..%2f..%2ftasks.db"]}, 400),
        ("/v1/tasks", {"pipeline": "generator", "mesh": "/etc/passwd"}, 400),
        ("/v1/tasks", {"pipeline": "../../etc"}, 400),
        ("/v1/tasks", {"pipeline": "generator", "formats": ["glb/../../x"]}, 422),
        ("/v1/tasks", {"pipeline": "generator", "then": [{"pipeline": "generator"}] * 9}, 422),
        ("/v1/tasks", {"pipeline": "generator", "steps": 10**9}, 422),
        ("/v1/tasks", {"pipeline": "generator", "prompt": "x" * 10**4}, 422),
        ("/openapi/v1/image-to-3d", {"image_url": "data:image/png;base64," + "A" * 2**21}, 413),
        ("/openapi/v2/text-to-3d", {"mode": "preview", "prompt": "\x00" * 700}, 400),
    ],
)
def test_bad_requests(kept, caplog, path, body, status):
    answer = kept.post(path, json=body, headers=kept.bearer)
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["message"]
    assert refused(caplog, status)


@pytest.mark.parametrize(
    ("path", "content", "kind", "status"),
    [
        ("/v1/tasks", b"[" * 200_000, "application/json", 400),
        ("/v1/tasks", b"{", "application/json", 422),
        ("/v1/tasks", b"\xff\xfe", "application/json", 422),
        ("/v1/tasks", b"a=b", "application/x-www-form-urlencoded", 422),
        ("/v1/uploads", b"--x\r\nContent-Disposition: form-data; name=", "multipart/form-data; boundary=x", 422),
        ("/v1/uploads", b"nothing", "multipart/form-data", 400),
        ("/v1/uploads", b"--x--", "multipart/form-data; boundary=x", 422),
        ("/v1/uploads", b"--x\r\n" * 10_000, "multipart/form-data; boundary=x", 400),
        ("/openapi/v2/text-to-3d", b"[" * 200_000, "application/json", 400),
        ("/openapi/v2/text-to-3d", b"[]", "application/json", 422),
    ],
)
def test_malformed_bodies(kept, caplog, path, content, kind, status):  # noqa: PLR0917 - pytest passes by name
    answer = kept.post(path, content=content, headers={**kept.bearer, "content-type": kind})
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["message"]
    assert refused(caplog, status)


def test_files_of_other_kinds_and_names_that_lead_elsewhere(kept, caplog):
    for name, status in (("a.exe", 415), ("a.png/../../../x.svg", 415), ("..", 415), ("../../a.png", 201)):
        answer = kept.post("/v1/uploads", files={"file": (name, b"x")}, headers=kept.bearer)
        assert answer.status_code == status, answer.text
    assert refused(caplog, 415)
    folder = kept.service.settings.folder
    assert {path.parent.parent.name for path in folder.rglob("*.png")} == {"uploads"}
    for path in ("/v1/tasks/x/files/..%2f..%2ftasks.db", "/%2e%2e/%2e%2e/etc/passwd", "/..%2fservice/app.py"):
        assert kept.get(path, headers=kept.bearer).status_code == 404
    assert refused(caplog, 404)


def giant():
    for _ in range(64):
        yield b"x" * 2**20


def test_giant_bodies_are_hung_up_on(kept, caplog):
    with contextlib.suppress(httpx.TransportError):  # it hung up before it was told why
        answer = kept.post("/v1/tasks", content=giant(), headers={**kept.bearer, "content-type": "application/json"})
        assert answer.status_code == 413
    with contextlib.suppress(httpx.TransportError):
        assert kept.post("/v1/tasks", content=giant()).status_code == 401
    assert refused(caplog, 413)
    assert refused(caplog, 401), "a stranger's body was read"


def said(kept, *pieces, pause=0.0):
    """What the server says to bytes that come one after another, until it hangs up."""
    with socket.create_connection((kept.base_url.host, kept.base_url.port), 10) as connection:
        for piece in pieces:
            with contextlib.suppress(OSError):
                connection.sendall(piece)
            time.sleep(pause)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(4096):
                answer += piece
    return answer


def test_slow_headers_and_slow_bodies_end(kept, caplog, monkeypatch):
    monkeypatch.setattr("maquette_serve.service.connections.HEADER_SECONDS", 0.3)
    monkeypatch.setattr("maquette_serve.service.bodies.PATIENCE", 0.3)
    assert said(kept, b"GET / HTTP/1.1\r\n", b"X: 1\r\n", pause=0.25).startswith(b"HTTP/1.1 408")
    assert said(kept).startswith(b"HTTP/1.1 408")
    head = f"POST /v1/tasks HTTP/1.1\r\nHost: a\r\nAuthorization: {kept.bearer['Authorization']}\r\n"
    head += "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    slow = said(kept, head.encode(), b"{", b" ", pause=0.25)
    assert slow.startswith(b"HTTP/1.1 408")
    assert b"too slowly" in slow
    assert refused(caplog, 408)
    assert kept.get("/livez").status_code == 200


@pytest.mark.parametrize("request_line", [b"\x16\x03\x01\x00\xa5\x01\r\n\r\n", b"GET /\r\n\r\n"])
def test_what_is_no_http(kept, caplog, request_line):
    caplog.set_level(logging.WARNING, "uvicorn.error")
    assert said(kept, request_line).startswith(b"HTTP/1.1 400")
    assert any("Invalid HTTP request" in record.getMessage() for record in caplog.records)


def test_headers_without_end(kept):
    assert said(kept, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 40_000).startswith(b"HTTP/1.1 4")


def routes(app):
    document = app.openapi()
    for path, methods in document["paths"].items():
        for method in methods:
            yield method, path


def test_a_stranger_sees_nothing(kept, caplog):
    task = kept.post("/v1/tasks", json={"pipeline": "generator"}, headers=kept.bearer).json()["id"]
    seen = list(routes(kept.app))
    assert len(seen) > 50
    for method, path in seen:
        for headers in ({}, {"Authorization": "Bearer mq_guess"}, {"Authorization": "Basic YTpi"}):
            place = path.replace("{identity}", task).replace("{name}", "model.glb")
            body = {"json": {}} if method in ("post", "put") else {}
            answer = kept.request(method, place, headers=headers, **body)
            expected = 200 if path in OPEN else 403 if path == BY_SIGNATURE else 401
            assert answer.status_code == expected, (method, path, answer.text)
    assert refused(caplog, 401)
    for path in ("/", "/docs", "/openapi.json", "/page.js"):
        assert task not in kept.get(path).text
    assert "ann" not in kept.get("/readyz").text


def test_the_log_has_no_secrets(kept, caplog):
    kept.get("/openapi/files/a/model.glb?expires=9&signature=s3cret", headers={"Authorization": "Bearer mq_s3cret"})
    kept.get("/v1/tasks", headers={"Authorization": "Bearer mq_s3cret"})
    assert refused(caplog, 401)
    assert "s3cret" not in caplog.text


def test_a_key_has_limits(kept, caplog):
    text = kept.service.keys.create("eve", rate=3, queue=1)
    bearer = {"Authorization": f"Bearer {text}"}
    kept.service.replicas.held.set()
    try:
        made = kept.post("/v1/tasks", json={"pipeline": "generator"}, headers=bearer)
        assert made.status_code == 202
        assert kept.post("/v1/tasks", json={"pipeline": "generator"}, headers=bearer).status_code == 429
        answers = [kept.get("/v1/pipelines", headers=bearer).status_code for _ in range(10)]
        assert 429 in answers
    finally:
        kept.service.replicas.held.clear()
    assert refused(caplog, 429)


def bomb(side=30_000):
    """A PNG of some kilobytes that says it is `side` pixels a side."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    out = io.BytesIO(b"\x89PNG\r\n\x1a\n")
    out.seek(0, io.SEEK_END)
    out.write(chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)))
    out.write(chunk(b"IDAT", zlib.compress(bytes(side * 10))) + chunk(b"IEND", b""))
    return out.getvalue()


def test_bombs_fail_their_own_task_alone(server):
    """Pictures and meshes are read by a process of the engine's; the service goes on."""
    picture = server.client.post("/v1/uploads", files={"file": ("a.png", bomb())}).json()["id"]
    header = struct.pack("<4sII", b"glTF", 2, 2**32 - 1) + struct.pack("<I4s", 2**31, b"JSON") + b"{}"
    mesh = server.client.post("/v1/uploads", files={"file": ("a.glb", header)}).json()["id"]
    for body in ({"images": [picture]}, {"mesh": mesh}):
        task = server.wait(server.make(**body).json()["id"])
        assert task["status"] == "FAILED"
        assert "internal error" not in task["error"], task
    assert server.wait(server.make().json()["id"])["status"] == "SUCCEEDED"
