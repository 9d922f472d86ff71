"""A service whose engine is replaced by a few lines in this process, and what it makes."""

from __future__ import annotations

import io
import itertools
import threading
import time

import numpy as np
from PIL import Image

from maquette.assets import export, import_asset
from maquette.errors import MaquetteError
from maquette.types import Asset, Material, Mesh
from maquette_serve.engine.engine_setup import EngineSetup, Opened
from maquette_serve.engine.job import Delivered, Event
from maquette_serve.service.app import create_app
from maquette_serve.service.service import Service, Settings

CORNERS = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
FACES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], np.int32)
REPORT = {"watertight": False, "problems": ["4 open edges"], "open_sides": 4, "crowded_edges": 0, "volume_mm3": None}
PIPELINES = ("generator", "painter", "rigger")
OVER = ("SUCCEEDED", "FAILED", "CANCELED")
WITHOUT_RUN = ("animate", "finish", "print_check", "remesh", "unwrap")


class FakeReplicas:
    """Ends an order at once, or never while `held` is set; remembers all of them."""

    ready, waiting = True, 0

    def __init__(self):
        self.orders, self.held = [], threading.Event()
        self._tickets = itertools.count()

    def start(self, timeout=0.0):
        pass

    def close(self):
        pass

    def cancel(self, ticket):
        pass

    def submit(self, order, report):
        self.orders.append(order)
        ticket = next(self._tickets)
        report(Event(ticket, "started"))
        if not self.held.is_set():
            report(self._done(ticket, order))
        return ticket

    def _done(self, ticket, order):
        if order.request.prompt == "torn":
            return Event(ticket, "failed", error="the mesh is torn")
        try:
            if order.mesh is not None:
                import_asset(order.mesh)
        except MaquetteError as error:
            return Event(ticket, "failed", error=str(error))
        for name in order.files:
            if name.endswith(".glb"):
                export(painted() if order.pipeline == "painter" else plain(), order.folder / name)
            else:
                (order.folder / name).write_bytes(f"made of {order.request.prompt}".encode())
        metadata = {"print_check": REPORT} if order.pipeline == "print_check" else {}
        return Event(ticket, "succeeded", 1.0, delivered=Delivered(metadata, len(FACES), order.files))


def plain():
    return Asset(Mesh(CORNERS, FACES))


def painted():
    pictures = []
    for colour in ((200, 10, 20), (0, 128, 255)):  # base colour; roughness in green, metallic in blue
        out = io.BytesIO()
        Image.new("RGB", (4, 4), colour).save(out, "PNG")
        pictures.append(out.getvalue())
    material = Material("paint", textures={"base_color": 0, "metallic_roughness": 1})
    mesh = Mesh(
        CORNERS,
        FACES,
        uv=np.zeros((4, 3, 2), np.float32),
        material=np.zeros(4, np.int32),
        materials=(material,),
        images=tuple(pictures),
    )
    return Asset(mesh)


def make(folder, **settings):
    """A service with a fake engine, and its application."""
    pipelines = {name: Opened({"name": name}) for name in (*PIPELINES, *WITHOUT_RUN)}
    roles = {"text": "generator", "image": "generator", "texture": "painter", "rig": "rigger"}
    service = Service(Settings(EngineSetup(pipelines), folder, roles=roles, **settings), FakeReplicas())
    return service, create_app(service)


def order(client, path, **body):
    """The id of a task that is taken in."""
    made = client.post(f"/openapi{path}", json=body)
    assert made.status_code == 202, made.text
    assert list(made.json()) == ["result"]
    return made.json()["result"]


def wait(client, path, identity):
    """A task once it is over."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        task = client.get(f"/openapi{path}/{identity}").json()
        if task["status"] in OVER:
            return task
        time.sleep(0.01)
    raise AssertionError(task)


def done(client, path, **body):
    """A task that succeeded."""
    task = wait(client, path, order(client, path, **body))
    assert task["status"] == "SUCCEEDED", task
    return task
