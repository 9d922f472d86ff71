"""From a task to the order that an engine gets for its next piece of work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maquette.errors import MaquetteError
from maquette.types import Request
from maquette_serve.engine.job import Order
from maquette_serve.service.files import Files
from maquette_serve.service.task import Task, now_ms

THUMBNAIL, MODEL = "thumbnail.png", "model.glb"


def order_of(task: Task, folder: Path, files: Files) -> Order:
    """The order of a task's next piece of work, its files to be written to a folder.

    A piece that follows another works on the mesh of that one; what it does not say itself is as the task says it.

    Raises:
        MaquetteError: a picture or a mesh is gone.
    """
    done = len(task.stages)
    work = {"prompt": task.inputs.get("prompt", ""), "seed": task.inputs.get("seed", 0), **given(task.works[done])}
    request = Request(
        prompt=work["prompt"],
        seed=work["seed"],
        class_name=work.get("class_name"),
        guidance=work.get("guidance"),
        steps=work.get("steps"),
        options=work.get("options", {}),
    )
    mesh = task.stages[-1]["files"][between(done)] if done else work.get("mesh")
    return Order(
        pipeline=work["pipeline"],
        request=request,
        images=tuple(present(files, key) for key in work.get("images", ())),
        mesh=None if mesh is None else present(files, mesh),
        finish=tuple(work.get("finish", ())),
        files=written(task),
        folder=folder,
        client=task.owner,
        priority=task.priority,
        deadline=left(task),
    )


def written(task: Task) -> tuple[str, ...]:
    """Names of the files of a task's next piece of work: of the last one those that were asked for."""
    done = len(task.stages)
    if done + 1 < len(task.works):
        return (between(done + 1),)
    return (*(f"model.{suffix}" for suffix in task.inputs.get("formats", ("glb",))), THUMBNAIL)


def between(done: int) -> str:
    """The mesh that the first pieces of work came to, where others follow."""
    return f"stage{done}.glb"


def given(work: Any) -> dict[str, Any]:
    """What is said of a piece of work."""
    return {name: value for name, value in work.items() if value is not None}


def left(task: Task) -> float | None:
    """Seconds until nobody wants a task any more, counted from when it was taken in."""
    deadline = task.inputs.get("deadline")
    return None if deadline is None else max(deadline - (now_ms() - task.created) / 1000, 0.0)


def present(files: Files, key: str) -> Path:
    """A file on this machine.

    Raises:
        MaquetteError: it is gone.
    """
    path = files.local(key)
    if path is None:
        raise MaquetteError("a picture or mesh of this task is gone; send it again")
    return path
