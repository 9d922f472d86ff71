"""A running service for all tests that only ask it, and the means to start others."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

HERE = Path(__file__).parent
PLUGINS = (HERE / "engine" / "slow_pipeline.py", HERE / "meshy" / "stand_in_pipelines.py")
ROLES = ("text=modeller", "image=modeller", "texture=painter", "rig=rigger")
ONLY = ("slow", "modeller", "painter", "rigger", "animate", "finish", "remesh", "unwrap")
OVER = ("SUCCEEDED", "FAILED", "CANCELED")


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Server:
    """`maquette serve` with pipelines of the tests, and a client of it."""

    def __init__(self, folder, *words):
        self.folder, self.words, self.port = folder, words, free_port()
        self.process = None
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = httpx.Client(base_url=self.url, timeout=30)
        self.log = folder / "server.log"

    @property
    def command(self):
        maquette = str(Path(sys.executable).with_name("maquette"))
        plugins = [word for path in PLUGINS for word in ("--plugin", str(path))]
        roles = [word for role in ROLES for word in ("--role", role)]
        only = [word for name in ONLY for word in ("--only", name)]
        where = ["--data", str(self.folder), "--port", str(self.port)]
        return [maquette, *plugins, "serve", *plugins, *roles, *only, *where]

    def start(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([*self.command, *self.words], stderr=log, start_new_session=True)
        return self

    def ready(self):
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            try:
                if self.client.get("/readyz").status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError("the server was not ready")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def end(self):
        self.client.close()
        self.process.terminate()
        self.process.wait(30)

    def make(self, headers=None, **body):
        return self.client.post("/v1/tasks", json={"pipeline": "slow", **body}, headers=headers)

    def wait(self, identity, headers=None):
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            task = self.client.get(f"/v1/tasks/{identity}", headers=headers).json()
            if task["status"] in OVER:
                return task
            time.sleep(0.05)
        raise AssertionError(f"not over: {task}")

    def events(self, identity, after=None):
        """Numbers and states of what happens to a task, until it is over."""
        headers = {"Last-Event-ID": str(after)} if after else {}
        found = []
        with self.client.stream("GET", f"/v1/tasks/{identity}/events", headers=headers) as answer:
            number = None
            for line in answer.iter_lines():
                if line.startswith("id: "):
                    number = int(line[4:])
                if line.startswith("data: "):
                    found.append((number, json.loads(line[6:])))
        return found


@contextmanager
def listening(app):
    """An application at an address of its own, in a thread; gives the address."""
    import uvicorn

    from maquette_serve.service.connections import PatientConnection

    settings = {"http": PatientConnection, "log_level": "warning", "timeout_graceful_shutdown": 1}
    server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", free_port(), **settings))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.config.port}"
    server.should_exit = True
    thread.join(20)


@pytest.fixture(scope="session")
def listen():
    """Puts an application behind real connections, see `listening`."""
    return listening


@pytest.fixture(scope="session")
def new_server():
    """Makes servers; what a test leaves running is ended."""
    pytest.importorskip("maquette_data3d", reason="without maquette-data3d no mesh can be written")
    made = []

    def new(*arguments):
        made.append(Server(*arguments))
        return made[-1]

    yield new
    for server in made:
        if server.process is not None and server.process.poll() is None:
            server.end()


@pytest.fixture(scope="session")
def server(new_server, tmp_path_factory):
    """One for all; it has no keys."""
    return new_server(tmp_path_factory.mktemp("service")).start().ready()
