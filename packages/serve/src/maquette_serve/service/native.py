"""The service's own addresses, below /v1."""

from __future__ import annotations

import mimetypes
from pathlib import PurePosixPath
from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Header, HTTPException, Query, Request, UploadFile
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field, field_validator
from sse_starlette import EventSourceResponse

from maquette import plugins
from maquette.errors import MaquetteError
from maquette.runs import RunFolder
from maquette_serve.engine.worker import Opened
from maquette_serve.service.access import allowed, service_of
from maquette_serve.service.keys import Key
from maquette_serve.service.service import LARGEST_SEED, Service
from maquette_serve.service.streams import last_event_id, stream
from maquette_serve.service.task import Task, new_id

router = APIRouter(prefix="/v1")
KIND = "task"
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
Reader = Annotated[Key, Depends(allowed("read"))]
Maker = Annotated[Key, Depends(allowed("generate"))]


class TaskRequest(BaseModel):
    """What is to be made."""

    model_config = ConfigDict(extra="forbid")

    pipeline: str = Field(description="One of GET /v1/pipelines.", max_length=128)
    prompt: str = Field("", max_length=1000)
    class_name: str | None = Field(None, max_length=100)
    seed: int | None = Field(
        None, ge=0, le=LARGEST_SEED, description="The same seed gives the same mesh; drawn if absent."
    )
    guidance: float | None = Field(None, ge=0, le=100)
    steps: int | None = Field(None, ge=1, le=1000)
    images: list[str] = Field([], max_length=8, description="Ids of uploaded pictures.")
    mesh: str | None = Field(None, description="Id of an uploaded mesh, or of a task whose mesh is meant.")
    options: dict[str, Any] = Field({}, description="What only some pipelines know.")
    finish: list[str | dict[str, Any]] = Field([], max_length=16, description="Finishing steps, by name or as blocks.")
    formats: list[str] = Field(["glb"], min_length=1, max_length=8, description="File formats to write.")
    priority: int = Field(0, ge=-1, le=1)
    deadline: float | None = Field(None, gt=0, description="Seconds after which nobody wants it any more.")
    webhook: str = Field("", max_length=2000, description="An https address that is told when the task is over.")

    @field_validator("formats")
    @classmethod
    def known_formats(cls, formats: list[str]) -> list[str]:
        """Refuses formats that nobody can write."""
        known = [entry.name.removeprefix(".") for entry in plugins.registry("exporters")]
        for name in formats:
            if name not in known:
                raise ValueError(f"format '{name}' is not one of {', '.join(known)}")
        return list(dict.fromkeys(formats))


def shown(task: Task) -> dict[str, Any]:
    """A task as callers see it; times are milliseconds since 1970."""
    files = {name: f"/v1/tasks/{task.id}/files/{name}" for name in task.result.get("files", ())}
    return {
        "id": task.id,
        "pipeline": task.pipeline,
        "status": task.status,
        "progress": task.progress,
        "seed": task.inputs.get("seed"),
        "request": dict(task.body),
        "error": task.error or None,
        "metadata": task.result.get("metadata"),
        "faces": task.result.get("faces"),
        "files": files,
        "created_at": task.created,
        "started_at": task.started,
        "finished_at": task.finished,
        "expires_at": task.expires,
    }


@router.get("/pipelines")
def pipelines(request: Request, key: Reader) -> list[dict[str, Any]]:
    """What can be asked for."""
    return [
        {"name": name, "run": None if opened.run is None else opened.run.name, "about": about(opened)}
        for name, opened in service_of(request).settings.engines.pipelines.items()
    ]


@router.post("/tasks", status_code=202)
def create(
    request: Request,
    key: Maker,
    body: TaskRequest,
    idempotency_key: Annotated[str | None, Header(max_length=100)] = None,
) -> dict[str, Any]:
    """Takes a task in. With an `Idempotency-Key` the same request is taken in once."""
    service = service_of(request)
    inputs = body.model_dump(exclude={"pipeline", "webhook"})
    inputs["images"] = [str(upload(service, key, identity)) for identity in body.images]
    inputs["mesh"] = None if body.mesh is None else str(mesh_file(service, key, body.mesh))
    task = service.new_task(key, KIND, body.pipeline, inputs, body.model_dump(exclude_defaults=True))
    return shown(service.accept(key, task, idempotency_key, body.webhook))


@router.get("/tasks")
def tasks(
    request: Request,
    key: Reader,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    size: Annotated[int, Query(ge=1, le=100)] = 20,
) -> list[dict[str, Any]]:
    """The caller's tasks, the newest first."""
    return [shown(task) for task in service_of(request).store.page(key.id, [KIND], (page - 1) * size, size)]


@router.get("/tasks/{identity}")
def one(request: Request, key: Reader, identity: str) -> dict[str, Any]:
    """One task."""
    return shown(own_task(service_of(request), key, identity))


@router.post("/tasks/{identity}/cancel")
def cancel(request: Request, key: Maker, identity: str) -> dict[str, Any]:
    """Ends a task that is not over."""
    service = service_of(request)
    return shown(service.cancel(own_task(service, key, identity)))


@router.delete("/tasks/{identity}", status_code=204)
def forget(request: Request, key: Maker, identity: str) -> None:
    """Cancels a task where it is under way, and removes it and its files."""
    service = service_of(request)
    service.forget(own_task(service, key, identity))


@router.get("/tasks/{identity}/events", response_class=EventSourceResponse)
def events(
    request: Request,
    key: Reader,
    identity: str,
    last_event: Annotated[str | None, Header(alias="Last-Event-ID")] = None,
) -> EventSourceResponse:
    """What happens to a task, as server-sent events; goes on after `Last-Event-ID`."""
    service = service_of(request)
    return stream(service, own_task(service, key, identity), last_event_id(last_event), shown)


@router.get("/tasks/{identity}/files/{name}", response_class=FileResponse)
def file(request: Request, key: Reader, identity: str, name: str) -> FileResponse:
    """A file that a task made."""
    service = service_of(request)
    path = service.file_of(own_task(service, key, identity), name)
    if path is None:
        raise HTTPException(404, f"the task made no file '{name}'")
    kinds = {".glb": "model/gltf-binary", ".usdz": "model/vnd.usdz+zip", ".stl": "model/stl", ".obj": "model/obj"}
    kind = kinds.get(path.suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    return FileResponse(path, media_type=kind, filename=f"{identity[:8]}-{name}")


@router.get("/webhook-secret")
def webhook_secret(key: Maker) -> dict[str, str]:
    """What notices to the caller's webhooks are signed with; "" for callers without a key."""
    return {"secret": key.webhook_secret}


@router.post("/uploads", status_code=201)
def take_upload(request: Request, key: Maker, file: Annotated[UploadFile, File()]) -> dict[str, Any]:
    """Takes in a picture or a mesh for tasks to follow."""
    service = service_of(request)
    suffix = PurePosixPath(file.filename or "").suffix.lower()
    meshes = [entry.name for entry in plugins.registry("importers")]
    if suffix not in (*IMAGE_SUFFIXES, *meshes):
        raise HTTPException(
            415, f"'{suffix}' is neither a picture ({', '.join(IMAGE_SUFFIXES)}) nor a mesh ({', '.join(meshes)})"
        )
    identity = new_id()
    folder = service.uploads / key.id / identity
    folder.mkdir(parents=True)
    size = 0
    with (folder / f"upload{suffix}").open("wb") as out:
        while chunk := file.file.read(1 << 20):
            size += out.write(chunk)
    return {"id": identity, "kind": "image" if suffix in IMAGE_SUFFIXES else "mesh", "bytes": size}


def about(opened: Opened) -> str:
    """What kind of pipeline it is: the registered name."""
    name = opened.block.get("name")
    if name is None and opened.run is not None:
        name = RunFolder(opened.run).read_config().pipeline.get("name")
    return str(name or "")


def own_task(service: Service, key: Key, identity: str) -> Task:
    """A task of a key.

    Raises:
        HTTPException: 404 for another's as for none.
    """
    task = service.store.get(identity, key.id)
    if task is None or task.kind != KIND:
        raise HTTPException(404, f"there is no task '{identity}'")
    return task


def upload(service: Service, key: Key, identity: str) -> Any:
    """The file of an upload.

    Raises:
        MaquetteError: the key has no such upload.
    """
    path = service.upload_of(key.id, identity)
    if path is None:
        raise MaquetteError(f"there is no upload '{identity}'; send the file to /v1/uploads first")
    return path


def mesh_file(service: Service, key: Key, identity: str) -> Any:
    """The mesh of an upload or of a task.

    Raises:
        MaquetteError: neither is there, or the task made no mesh that can be read.
    """
    task = service.store.get(identity, key.id)
    if task is None:
        return upload(service, key, identity)
    path = service.file_of(task, "model.glb")
    if path is None:
        raise MaquetteError(f"task '{identity}' has no model.glb; wait for it, or ask for the format glb")
    return path
