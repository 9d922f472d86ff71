"""Tasks as callers of the Meshy-compatible front see them; what was not produced has no key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maquette_serve.service.meshy.answers import TaskObject
from maquette_serve.service.meshy.links import Links
from maquette_serve.service.meshy.textures import maps_of
from maquette_serve.service.orders import MODEL, THUMBNAIL
from maquette_serve.service.service import Service
from maquette_serve.service.task import FAILED, PENDING, SUCCEEDED, Task

MAPS = "maps"
"""Between a task's id and the name of a map in its address."""
TEXTURED = ("text-to-3d", "image-to-3d", "multi-image-to-3d", "retexture")
TYPES = {"rigging": "rig", "animations": "animate"}
"""What tasks are called, where that is not how their address ends."""


def task_object(task: Task, service: Service, links: Links, base: str) -> dict[str, Any]:
    """A task as JSON; times are milliseconds since 1970.

    Args:
        task: of this front.
        service: that has it.
        links: for its files.
        base: of this server's addresses.
    """
    shown = {"id": task.id, "type": type_of(task), **_asked(task), "status": task.status, "progress": task.progress}
    times = {"created_at": task.created, "started_at": task.started, "finished_at": task.finished}
    shown |= {key: value or 0 for key, value in {**times, "expires_at": task.expires}.items()}
    shown["task_error"] = {"message": task.error}
    if task.status == PENDING:
        shown["preceding_tasks"] = service.store.before(task)
    if task.status == FAILED:
        shown["consumed_credits"] = 0
    if task.status == SUCCEEDED:
        shown |= {"consumed_credits": 0, "face_count": task.made.get("faces")}
        shown |= _made(task, service, links, base)
    return shown


def type_of(task: Task) -> str:
    """Which kind of work it is."""
    mode = task.body.get("mode")
    return f"{task.kind}-{mode}" if mode else TYPES.get(task.kind, task.kind)


def body_to_keep(body: Mapping[str, Any], prompt: str) -> dict[str, Any]:
    """What a caller sent, to be shown again: without the bytes of data URIs."""
    kept = {key: _without_bytes(value) for key, value in body.items()}
    return {**kept, "prompt": prompt} if prompt else kept


def _asked(task: Task) -> dict[str, Any]:
    shown = {key: value for key, value in task.body.items() if key not in ("mode", *TaskObject.model_fields)}
    seed = {"seed": task.inputs["seed"]} if "seed" in task.inputs else {}
    return {**shown, **seed}


def _without_bytes(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_bytes(inner) for inner in value]
    if isinstance(value, str) and value.startswith("data:"):
        return value[:64].split(",")[0] + ",..."
    return value


def _made(task: Task, service: Service, links: Links, base: str) -> dict[str, Any]:
    files = task.files
    urls = {name.split(".")[-1]: links.of(base, task, name) for name in files if name.startswith("model.")}
    shown: dict[str, Any] = {}
    if THUMBNAIL in files:
        shown["thumbnail_url"] = links.of(base, task, THUMBNAIL)
    if task.kind == "print-analyze":
        return {**shown, "printability": printability(task.made["metadata"].get("print_check", {}))}
    if task.kind == "rigging":
        return {**shown, "result": {f"rigged_character_{suffix}_url": url for suffix, url in urls.items()}}
    if task.kind == "animations":
        return {**shown, "result": _animation(task, urls)}
    shown["model_urls"] = urls
    model = service.file_of(task, MODEL) if task.kind in TEXTURED else None
    maps = [] if model is None else maps_of(model)
    if maps:
        shown["texture_urls"] = [{name: links.of(base, task, f"{MAPS}/{name}.png") for name in maps}]
    return shown


def _animation(task: Task, urls: Mapping[str, str]) -> dict[str, str]:
    result = {f"animation_{suffix}_url": urls[suffix] for suffix in ("glb", "fbx") if suffix in urls}
    if "usdz" in urls:
        result["processed_usdz_url"] = urls["usdz"]
    after = task.body.get("post_process") or {}
    if after.get("operation_type") == "change_fps" and "fbx" in urls:
        result["processed_animation_fps_fbx_url"] = urls["fbx"]
    return result


def printability(report: Mapping[str, Any]) -> dict[str, Any]:
    """The report of the finishing step `print_check` in Meshy's words; volume in cubic metres, 0 where it is open."""
    problems = list(report.get("problems", ()))
    broken = not report.get("watertight", False)
    errors = len(problems) if broken else 0
    status = "error" if broken else "warning" if problems else "healthy"
    metrics = {
        "is_watertight": not broken,
        "volume": (report.get("volume_mm3") or 0.0) * 1e-9,
        "non_manifold_edges": report.get("crowded_edges", 0),
        "open_edges": report.get("open_sides", 0),
        "turned_faces": report.get("turned_faces", 0),
        "shells": report.get("shells", 0),
        "thinnest_wall_mm": report.get("thinnest_mm"),
    }
    counts = {"issue_count": len(problems), "error_count": errors, "warning_count": len(problems) - errors}
    return {"status": status, **counts, "issues": problems, "metrics": metrics}
