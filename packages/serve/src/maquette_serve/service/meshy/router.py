"""The addresses below /openapi."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import ValidationError
from sse_starlette import EventSourceResponse

from maquette_serve.service.access import Maker, Reader
from maquette_serve.service.fetching import PublicServers
from maquette_serve.service.keys import Key
from maquette_serve.service.meshy import bodies, wishes
from maquette_serve.service.meshy.answers import Balance, Made, TaskObject
from maquette_serve.service.meshy.links import PREFIX, Links
from maquette_serve.service.meshy.sources import Sources
from maquette_serve.service.meshy.task_objects import MAPS, body_to_keep, task_object
from maquette_serve.service.meshy.textures import map_png
from maquette_serve.service.messages import Refusal
from maquette_serve.service.native import FILE
from maquette_serve.service.orders import MODEL
from maquette_serve.service.refusals import REFUSALS
from maquette_serve.service.roles import reads, roles_of
from maquette_serve.service.service import Service
from maquette_serve.service.streams import refused, stream
from maquette_serve.service.task import Task

Json = dict[str, Any]
BALANCE = 1_000_000
"""Credits of every key: nothing costs anything here, but clients look before they order."""


@dataclass(frozen=True)
class Endpoint:
    """An address under which tasks are made and found.

    Args:
        path: below /openapi.
        kind: of its tasks.
        body: what callers send.
        wish: what they want by it.
        listed: whether its tasks can be listed.
    """

    path: str
    kind: str
    body: type[bodies.Body]
    wish: wishes.Wishing
    listed: bool = True


ENDPOINTS = (
    Endpoint("/v2/text-to-3d", "text-to-3d", bodies.TextTo3D, wishes.text_to_3d),
    Endpoint("/v1/image-to-3d", "image-to-3d", bodies.ImageTo3D, wishes.image_to_3d),
    Endpoint("/v1/multi-image-to-3d", "multi-image-to-3d", bodies.MultiImageTo3D, wishes.multi_image_to_3d),
    Endpoint("/v1/remesh", "remesh", bodies.Remesh, wishes.remesh),
    Endpoint("/v1/retexture", "retexture", bodies.Retexture, wishes.retexture),
    Endpoint("/v1/rigging", "rigging", bodies.Rigging, wishes.rigging, listed=False),
    Endpoint("/v1/animations", "animations", bodies.Animations, wishes.animations, listed=False),
    Endpoint("/v1/convert", "convert", bodies.Convert, wishes.convert),
    Endpoint("/v1/resize", "resize", bodies.Resize, wishes.resize),
    Endpoint("/v1/uv-unwrap", "uv-unwrap", bodies.OfModel, wishes.uv_unwrap),
    Endpoint("/v1/print/analyze", "print-analyze", bodies.OfModel, wishes.print_analyze),
    Endpoint("/v1/print/repair", "print-repair", bodies.OfModel, wishes.print_repair),
)
ABSENT = {
    "/v1/text-to-image": "this server makes no pictures",
    "/v1/image-to-image": "this server makes no pictures",
    "/v1/print/multi-color": "this server makes no multi-colour prints; convert to 3mf writes the colours of a mesh",
}


class MeshyFront:
    """Tasks of a service by the addresses and in the words of Meshy's API.

    Args:
        service: that does the work.
        servers: where pictures and meshes are fetched.
    """

    def __init__(self, service: Service, servers: PublicServers | None = None) -> None:
        self.service = service
        self.links = Links(service.store.secret("links"))
        self.servers = servers or PublicServers(service.settings.upload_bytes)
        pipelines = service.settings.engines.pipelines
        self.roles = roles_of(pipelines, service.settings.roles)
        painter = self.roles.get("texture")
        self.painter_reads = frozenset() if painter is None else frozenset(reads(pipelines[painter]))

    def take(self, key: Key, endpoint: Endpoint, sent: Json, base: str) -> Task:
        """Takes a task in, with what it names fetched into its folder.

        Raises:
            HTTPException: 400, something is wrong with what was sent; 404, it names a task that is not there.
            MaquetteError: the same, or a limit is reached.
        """
        service = self.service
        try:
            body = endpoint.body.model_validate(sent)
        except ValidationError as error:
            raise HTTPException(400, _told(error)) from None
        task = service.new_task(key, endpoint.kind, "", {}, {})
        place = f"files/{task.id}"
        try:
            sources = Sources(service, self.servers, self.links, key, f"{place}/given", base, self.painter_reads)
            wish = endpoint.wish(body, sources)
            return service.accept(key, self._complete(task, wish, sent, base), webhook=body.webhook)
        except BaseException:
            service.files.remove(place)
            raise

    def shown(self, task: Task, base: str = "") -> Json:
        """A task as callers see it; without a base, with the addresses that its maker used."""
        return task_object(task, self.service, self.links, base or str(task.inputs.get("base", "")))

    def own(self, key: Key, endpoint: Endpoint, identity: str) -> Task:
        """A task of a key.

        Raises:
            HTTPException: 404 for another's, or another kind's, as for none.
        """
        task = self.service.store.get(identity, key.id)
        if task is None or task.kind != endpoint.kind:
            raise HTTPException(404, f"there is no {endpoint.kind} task '{identity}'")
        return task

    def file(self, identity: str, name: str, expires: int, signature: str) -> Response:
        """A file, for whoever has its address.

        Raises:
            HTTPException: 403, the address does not hold; 404, the file is gone.
        """
        if not self.links.holds(identity, name, expires, signature):
            raise HTTPException(403, "this address does not hold (any more); ask for the task again")
        task = self.service.store.get(identity)
        folder, _, inner = name.rpartition("/")
        path = None if task is None else self.service.file_of(task, MODEL if folder == MAPS else name)
        if path is None:
            raise HTTPException(404, "the file is gone")
        if folder == MAPS:
            return Response(map_png(path, inner.removesuffix(".png")), media_type="image/png")
        return FileResponse(path)

    def _complete(self, task: Task, wish: wishes.Wish, sent: Json, base: str) -> Task:
        then = [{**following.inputs, "pipeline": self._player(following.role)} for following in wish.then]
        inputs = {**wish.inputs, "base": base, "formats": list(dict.fromkeys(("glb", *wish.formats))), "then": then}
        if inputs.get("seed") is None:
            inputs["seed"] = task.inputs["seed"]
        name = self._player(wish.role)
        if wish.role == "animate":
            inputs["options"] = wishes.with_clip(inputs["options"], self.service.settings.engines.pipelines[name])
        return replace(task, pipeline=name, inputs=inputs, body=body_to_keep(sent, wish.shown_prompt))

    def _player(self, role: str) -> str:
        name = self.roles.get(role)
        if name is None:
            raise HTTPException(400, f"no pipeline of this server can play the part '{role}'; serve a run that can")
        return name


def meshy_router(front: MeshyFront) -> APIRouter:
    """The routes of a front."""
    router = APIRouter(prefix="/openapi", tags=["Meshy-compatible"], responses=REFUSALS)
    for endpoint in ENDPOINTS:
        _making(router, front, endpoint)
        _finding(router, front, endpoint)
    for path, why in ABSENT.items():
        _refusing(router, path, why)

    @router.get("/v1/balance")
    def balance(_: Reader) -> Balance:
        """Enough, always."""
        return Balance(balance=BALANCE)

    place = f"{PREFIX.removeprefix('/openapi')}/{{identity}}/{{name:path}}"

    @router.get(place, response_class=Response, responses=FILE)
    def file(identity: str, name: str, expires: int = 0, signature: str = "") -> Response:
        """A file that a task made; the address is its own key."""
        return front.file(identity, name, expires, signature)

    return router


def _making(router: APIRouter, front: MeshyFront, endpoint: Endpoint) -> None:
    # Read by the model here and not by the framework, whose refusals have another status than Meshy's.
    schema = {"schema": self_contained(endpoint.body.model_json_schema())}
    described = {"requestBody": {"content": {"application/json": schema}, "required": True}}

    @router.post(endpoint.path, status_code=202, openapi_extra=described, name=f"make {endpoint.kind}")
    def make(request: Request, key: Maker, sent: Annotated[Json, Body()]) -> Made:
        """Takes a task in; its id."""
        return Made(result=front.take(key, endpoint, sent, _base(request)).id)


def _finding(router: APIRouter, front: MeshyFront, endpoint: Endpoint) -> None:
    if endpoint.listed:

        @router.get(endpoint.path, name=f"list {endpoint.kind}", **as_tasks(list[TaskObject]))
        def page(
            request: Request,
            key: Reader,
            page_num: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
            page_size: Annotated[int, Query(ge=1, le=50)] = 10,
            sort_by: Literal["+created_at", "-created_at", " created_at"] = "-created_at",
        ) -> list[Json]:
            """The caller's tasks. A plus that was not encoded arrives as a space."""
            start, newest = (page_num - 1) * page_size, sort_by == "-created_at"
            tasks = front.service.store.page(key.id, [endpoint.kind], start, page_size, newest)
            return [front.shown(task, _base(request)) for task in tasks]

    @router.get(endpoint.path + "/{identity}", name=f"get {endpoint.kind}", **as_tasks(TaskObject))
    def one(request: Request, key: Reader, identity: str) -> Json:
        """One task."""
        return front.shown(front.own(key, endpoint, identity), _base(request))

    @router.delete(endpoint.path + "/{identity}", name=f"delete {endpoint.kind}", response_class=Response)
    def forget(key: Maker, identity: str) -> Response:
        """Cancels a task where it is under way, and removes it and its files."""
        front.service.forget(front.own(key, endpoint, identity))
        return Response(status_code=200)

    @router.get(
        endpoint.path + "/{identity}/stream", response_class=EventSourceResponse, name=f"stream {endpoint.kind}"
    )
    def events(request: Request, key: Reader, identity: str) -> EventSourceResponse:
        """What happens to a task, as server-sent events."""
        base = _base(request)
        try:
            task = front.own(key, endpoint, identity)
        except HTTPException as error:
            return refused(error.status_code, str(error.detail))
        return stream(front.service, task, 0, lambda task: front.shown(task, base))


def _refusing(router: APIRouter, path: str, why: str) -> None:
    @router.post(path, name=f"refuse {path}", status_code=400, response_model=Refusal)
    def refuse(_: Maker) -> Response:
        """What no pipeline can do."""
        raise HTTPException(400, why)

    @router.get(path, name=f"list {path}")
    def none(_: Reader) -> list[Json]:
        """No tasks."""
        return []


def as_tasks(model: Any) -> Json:
    """How a route answers with tasks: keys that are absent stay so."""
    return {"response_model": model, "response_model_exclude_unset": True}


def self_contained(schema: Any, definitions: Json | None = None) -> Any:
    """A JSON schema with what it refers to in its place."""
    if isinstance(schema, list):
        return [self_contained(inner, definitions) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    definitions = schema.get("$defs", definitions)
    if "$ref" in schema and definitions:
        return self_contained(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {key: self_contained(inner, definitions) for key, inner in schema.items() if key != "$defs"}


def _base(request: Request) -> str:
    return str(request.base_url).rstrip("/")


def _told(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    words = str(first["msg"]).removeprefix("Value error, ")
    return f"{where}: {words}" if where else words
