"""The service's own addresses, below /v1."""

from __future__ import annotations

import mimetypes
from pathlib import PurePosixPath
from typing import Annotated, Any

from fastapi import APIRouter, File, Header, HTTPException, Query, Request, Response, UploadFile
from fastapi.responses import FileResponse
from sse_starlette import EventSourceResponse

from maquette import plugins
from maquette.durable import whole_file
from maquette.errors import MaquetteError
from maquette_serve.service.access import Maker, Reader, service_of
from maquette_serve.service.keys import Key
from maquette_serve.service.messages import (
    FormatsAnswer,
    PipelineAnswer,
    SecretAnswer,
    TaskAnswer,
    TaskRequest,
    UploadAnswer,
    shown,
    written_formats,
)
from maquette_serve.service.orders import MODEL
from maquette_serve.service.refusals import REFUSALS
from maquette_serve.service.roles import about, changes_mesh, roles_played
from maquette_serve.service.service import Service
from maquette_serve.service.streams import last_event_id, stream
from maquette_serve.service.task import Task

router = APIRouter(prefix="/v1", responses=REFUSALS)
KIND = "task"
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
MEDIA_TYPES = {".glb": "model/gltf-binary", ".usdz": "model/vnd.usdz+zip", ".stl": "model/stl", ".obj": "model/obj"}
FILE: dict[int | str, dict[str, Any]] = {200: {"content": {"*/*": {}}, "description": "The file."}}


@router.get("/pipelines")
def pipelines(request: Request, key: Reader) -> list[PipelineAnswer]:
    """What can be asked for."""
    settings = service_of(request).settings
    answers = []
    for name, opened in settings.engines.pipelines.items():
        chosen = [role for role, player in settings.roles.items() if player == name]
        roles = list(dict.fromkeys((*roles_played(opened), *chosen)))
        run = None if opened.run is None else opened.run.name
        needs = changes_mesh(roles)
        answers.append(PipelineAnswer(name=name, run=run, about=about(opened), roles=roles, needs_mesh=needs))
    return answers


@router.get("/formats")
def formats(key: Reader) -> FormatsAnswer:
    """Which files can be written and read."""
    return FormatsAnswer(
        meshes_written=written_formats(), meshes_read=read_meshes(), pictures_read=[s[1:] for s in IMAGE_SUFFIXES]
    )


@router.post("/tasks", status_code=202)
def create(
    request: Request,
    key: Maker,
    body: TaskRequest,
    idempotency_key: Annotated[str | None, Header(max_length=100)] = None,
) -> TaskAnswer:
    """Takes a task in. With an `Idempotency-Key` the same request is taken in once."""
    service = service_of(request)
    inputs = body.model_dump(exclude={"pipeline", "webhook"})
    for work in (inputs, *inputs["then"]):
        work["images"] = [upload(service, key, identity) for identity in work["images"]]
    inputs["mesh"] = None if body.mesh is None else mesh_file(service, key, body.mesh)
    task = service.new_task(key, KIND, body.pipeline, inputs, body.model_dump(exclude_defaults=True))
    return shown(service.accept(key, task, idempotency_key, body.webhook))


@router.get("/tasks")
def tasks(
    request: Request,
    key: Reader,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    size: Annotated[int, Query(ge=1, le=100)] = 20,
) -> list[TaskAnswer]:
    """The caller's tasks, the newest first."""
    return [shown(task) for task in service_of(request).store.page(key.id, [KIND], (page - 1) * size, size)]


@router.get("/tasks/{identity}")
def one(request: Request, key: Reader, identity: str) -> TaskAnswer:
    """One task."""
    return shown(own_task(service_of(request), key, identity))


@router.post("/tasks/{identity}/cancel")
def cancel(request: Request, key: Maker, identity: str) -> TaskAnswer:
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
    last_event: Annotated[str | None, Header(alias="Last-Event-ID", max_length=100)] = None,
) -> EventSourceResponse:
    """What happens to a task, as server-sent events; goes on after `Last-Event-ID`."""
    service = service_of(request)
    task = own_task(service, key, identity)
    return stream(service, task, last_event_id(last_event), lambda task: shown(task).model_dump())


@router.get("/tasks/{identity}/files/{name}", response_class=Response, responses=FILE)
def file(request: Request, key: Reader, identity: str, name: str) -> FileResponse:
    """A file that a task made."""
    service = service_of(request)
    path = service.file_of(own_task(service, key, identity), name)
    if path is None:
        raise HTTPException(404, f"the task made no file '{name}'")
    kind = MEDIA_TYPES.get(path.suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    return FileResponse(path, media_type=kind, filename=f"{identity[:8]}-{name}")


@router.get("/webhook-secret")
def webhook_secret(key: Maker) -> SecretAnswer:
    """What notices to the caller's webhooks are signed with; "" for callers without a key."""
    return SecretAnswer(secret=key.webhook_secret)


@router.post("/uploads", status_code=201)
def take_upload(request: Request, key: Maker, file: Annotated[UploadFile, File()]) -> UploadAnswer:
    """Takes in a picture or a mesh for tasks to follow."""
    service = service_of(request)
    suffix = PurePosixPath(file.filename or "").suffix.lower()
    if suffix not in (*IMAGE_SUFFIXES, *read_meshes()):
        known = f"a picture ({', '.join(IMAGE_SUFFIXES)}) nor a mesh ({', '.join(read_meshes())})"
        raise HTTPException(415, f"'{suffix[:16]}' is neither {known}")
    identity, place = service.new_upload(key.id, suffix)
    size = 0
    with whole_file(service.files.path(place)) as temporary, temporary.open("wb") as out:
        while chunk := file.file.read(1 << 20):
            size += out.write(chunk)
    service.files.keep([place])
    return UploadAnswer(id=identity, kind="image" if suffix in IMAGE_SUFFIXES else "mesh", bytes=size)


def read_meshes() -> list[str]:
    """Suffixes of meshes that can be read, with their points."""
    return [entry.name for entry in plugins.registry("importers")]


def own_task(service: Service, key: Key, identity: str) -> Task:
    """A task of a key.

    Raises:
        HTTPException: 404 for another's as for none.
    """
    task = service.store.get(identity, key.id)
    if task is None or task.kind != KIND:
        raise HTTPException(404, f"there is no task '{identity}'")
    return task


def upload(service: Service, key: Key, identity: str) -> str:
    """The key of an upload's file.

    Raises:
        MaquetteError: the caller has no such upload.
    """
    found = service.upload_of(key.id, identity)
    if found is None:
        raise MaquetteError(f"there is no upload '{identity}'; send the file to /v1/uploads first")
    return found


def mesh_file(service: Service, key: Key, identity: str) -> str:
    """The key of the mesh of an upload or of a task.

    Raises:
        MaquetteError: neither is there, or the task made no mesh that can be read.
    """
    task = service.store.get(identity, key.id)
    if task is None:
        return upload(service, key, identity)
    if MODEL not in task.files:
        raise MaquetteError(f"task '{identity}' has no {MODEL}; wait for it, or ask for the format glb")
    return task.files[MODEL]
