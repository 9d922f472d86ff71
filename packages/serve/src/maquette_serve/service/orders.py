"""From a task to the order that an engine gets."""

from __future__ import annotations

from pathlib import Path

from maquette.types import Request
from maquette_serve.engine.job import Order
from maquette_serve.service.task import Task

THUMBNAIL = "thumbnail.png"


def order_of(task: Task, folder: Path) -> Order:
    """The order of a task, its files to be written to a folder."""
    inputs = task.inputs
    request = Request(
        prompt=inputs.get("prompt", ""),
        seed=inputs.get("seed", 0),
        class_name=inputs.get("class_name"),
        guidance=inputs.get("guidance"),
        steps=inputs.get("steps"),
        options=inputs.get("options", {}),
    )
    mesh = inputs.get("mesh")
    return Order(
        pipeline=task.pipeline,
        request=request,
        images=tuple(Path(path) for path in inputs.get("images", ())),
        mesh=None if mesh is None else Path(mesh),
        finish=tuple(inputs.get("finish", ())),
        files=(*(f"model.{suffix}" for suffix in inputs.get("formats", ("glb",))), THUMBNAIL),
        folder=folder,
        client=task.owner,
        priority=task.priority,
        deadline=inputs.get("deadline"),
    )
