"""From what a caller sent to what an engine is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from maquette import plugins
from maquette.errors import MaquetteError
from maquette_serve.engine.engine_setup import Opened
from maquette_serve.service.meshy import bodies
from maquette_serve.service.meshy.sources import Sources
from maquette_serve.service.messages import written_formats
from maquette_serve.service.task import Task

FORMATS = ("glb", "obj", "fbx", "stl", "usdz")
"""What is made where a caller names no formats."""
LOW_POLY = 2_000
LEVELS = {1: 100_000, 2: 30_000, 3: 10_000, 4: 3_000}
"""Faces of `decimation_mode`."""
MOST_UNWRAPPED, MOST_RIGGED = 40_000, 300_000
TEXELS = {"2k": 2048, "4k": 4096, "8k": 8192}
UNITLESS = (".obj", ".stl", ".ply", ".off")
PRINT_MM = 100.0
"""Longest side of a print whose file does not say how large it is."""
Json = dict[str, Any]
Step = Json


@dataclass(frozen=True)
class Wish:
    """What is to be done.

    Args:
        role: who is to do it.
        formats: of the files; .glb is always made, since tasks that follow read it.
        shown_prompt: what the task is about, where its body has no prompt.
        inputs: of the task: prompt, seed, images, mesh, options, finish.
        then: what is to be done with the mesh then, in the same task.
    """

    role: str
    formats: tuple[str, ...] = ()
    shown_prompt: str = ""
    inputs: dict[str, Any] = field(default_factory=dict)
    then: tuple[Wish, ...] = ()


def text_to_3d(body: bodies.TextTo3D, sources: Sources) -> Wish:
    """A shape of words; or its textures, where it is refined."""
    formats = checked_formats(body.target_formats)
    if body.mode == "preview":
        return text_shape(body, sources, formats)
    preview = sources.task(str(body.preview_task_id), "text-to-3d")
    if preview.body.get("mode") != "preview":
        raise MaquetteError(f"task '{preview.id}' is no preview")
    prompt = str(preview.body.get("prompt", ""))
    inputs: Json = {"prompt": "" if body.texture_image_url else body.texture_prompt or prompt, "seed": body.seed}
    inputs |= {"images": sources.pictures([body.texture_image_url]), "mesh": sources.mesh_of(preview)}
    inputs |= {"options": texels(body), "finish": placed(body)}
    return Wish("texture", formats, prompt, inputs)


def text_shape(body: bodies.TextTo3D, sources: Sources, formats: tuple[str, ...]) -> Wish:
    """A shape of words; with its textures, where they are asked for."""
    if not body.should_texture:
        finish = shaped(body) + placed(body)
        return Wish("text", formats, inputs={"prompt": body.prompt, "seed": body.seed, "finish": finish})
    pictures = sources.pictures([body.texture_image_url])
    style = {"prompt": "" if pictures else body.texture_prompt or body.prompt, "images": pictures}
    inputs = {"prompt": body.prompt, "seed": body.seed, "finish": shaped(body)}
    return Wish("text", formats, inputs=inputs, then=(painted(body, style, sources),))


def image_to_3d(body: bodies.ImageTo3D, sources: Sources) -> Wish:
    """A shape of a picture."""
    return _of_pictures(body, sources.pictures([body.image_url]), sources)


def multi_image_to_3d(body: bodies.MultiImageTo3D, sources: Sources) -> Wish:
    """A shape of several."""
    return _of_pictures(body, sources.pictures(body.image_urls), sources)


def remesh(body: bodies.Remesh, sources: Sources) -> Wish:
    """New faces, or the same ones in other files."""
    formats = checked_formats(body.target_formats)
    mesh = sources.mesh(body.input_task_id, body.model_url)
    if body.convert_format_only:
        return _finished(mesh, [], placed(body), formats)
    faces = LEVELS[body.decimation_mode] if body.decimation_mode else body.target_polycount
    inputs = {"mesh": mesh, "options": {"faces": faces, "topology": body.topology}, "finish": placed(body)}
    return Wish("remesh", formats, inputs=inputs)


def retexture(body: bodies.Retexture, sources: Sources) -> Wish:
    """New textures; the shape stays."""
    formats = checked_formats(body.target_formats)
    images = sources.pictures(body.multiview_image_urls or [body.image_style_url])
    inputs: Json = {"prompt": "" if images else body.text_style_prompt, "images": images, "seed": body.seed}
    keep = {} if body.enable_original_uv else {"keep_uv": "never"}
    inputs |= {"mesh": sources.mesh(body.input_task_id, body.model_url), "options": {**texels(body), **keep}}
    return Wish("texture", formats, inputs={**inputs, "finish": placed(body)})


def rigging(body: bodies.Rigging, sources: Sources) -> Wish:
    """A skeleton, and a height in metres."""
    _no_more_faces(body, sources, MOST_RIGGED, "rigged")
    mesh = sources.mesh(body.input_task_id, body.model_url)
    return Wish("rig", ("glb", "fbx"), inputs={"mesh": mesh, "finish": tall(body.height_meters)})


def animations(body: bodies.Animations, sources: Sources) -> Wish:
    """A clip for a character that was rigged here, as tall as it was."""
    rigged = sources.task(body.rig_task_id, "rigging")
    formats = ["glb", "fbx"]
    options: dict[str, Any] = {"action_id": body.action_id}
    after = body.post_process
    if after is not None and after.operation_type == "extract_armature":
        raise MaquetteError("post_process: an armature without its character is not made here")
    if after is not None and after.operation_type == "change_fps":
        options["fps"] = after.fps
    if after is not None and after.operation_type == "fbx2usdz":
        formats.append("usdz")
    inputs = {"mesh": sources.mesh_of(rigged), "options": options}
    height = rigged.body.get("height_meters", bodies.Rigging.model_fields["height_meters"].default)
    return Wish("animate", tuple(formats), inputs={**inputs, "finish": tall(height)})


def convert(body: bodies.Convert, sources: Sources) -> Wish:
    """Other file formats."""
    formats = checked_formats(body.target_formats)
    return _finished(sources.mesh(body.input_task_id, body.model_url), [], [], formats)


def resize(body: bodies.Resize, sources: Sources) -> Wish:
    """A new size."""
    formats = checked_formats(body.target_formats or ["glb"])
    return _finished(sources.mesh(body.input_task_id, body.model_url), [], placed(body), formats)


def uv_unwrap(body: bodies.OfModel, sources: Sources) -> Wish:
    """Texture coordinates."""
    _no_more_faces(body, sources, MOST_UNWRAPPED, "unwrapped")
    return Wish("unwrap", ("glb",), inputs={"mesh": sources.mesh(body.input_task_id, body.model_url)})


def print_analyze(body: bodies.OfModel, sources: Sources) -> Wish:
    """What a printer would stumble over."""
    mesh = sources.mesh(body.input_task_id, body.model_url)
    return Wish("print", ("glb",), inputs={"mesh": mesh, "options": _print_size(mesh)})


def print_repair(body: bodies.OfModel, sources: Sources) -> Wish:
    """A mesh that can be printed, in the format that it came in where that can be written."""
    mesh = sources.mesh(body.input_task_id, body.model_url)
    suffix = PurePath(mesh).suffix[1:]
    return _finished(
        mesh, [{"name": "print_repair", **_print_size(mesh)}], [], (suffix if suffix in FORMATS else "glb",)
    )


def checked_formats(asked: Iterable[str]) -> tuple[str, ...]:
    """The formats that were asked for, or else the default ones.

    Raises:
        MaquetteError: nobody can write one of them.
    """
    known = written_formats()
    for name in asked:
        if name not in known:
            raise MaquetteError(f"target_formats: '{name}' cannot be written here; known: {', '.join(known)}")
    return tuple(dict.fromkeys(asked)) or tuple(name for name in FORMATS if name in known)


def shaped(body: bodies.Shaped) -> list[Step]:
    """Finishing that gives the faces that were asked for; none where nothing was."""
    faces = LEVELS[body.decimation_mode] if body.decimation_mode else body.target_polycount
    if body.model_type == "lowpoly":
        return [{"name": "decimate", "faces": LOW_POLY}]
    if body.should_remesh or body.topology == "quad":
        return [{"name": "remesh", "faces": faces or LEVELS[2], "topology": body.topology}]
    return [{"name": "decimate", "faces": faces}] if faces else []


def placed(body: bodies.Delivered) -> list[Step]:
    """Finishing that gives the size and the place that were asked for.

    Raises:
        MaquetteError: the size is to be guessed.
    """
    if body.auto_size:
        raise MaquetteError("auto_size: nothing here can tell how large a thing is; use resize with resize_height")
    steps: list[Step] = []
    if isinstance(body, bodies.Sized):
        if body.resize_height:
            steps = tall(body.resize_height)
        elif body.resize_longest_side:
            steps = [{"name": "units", "size_m": body.resize_longest_side, "along": "longest"}]
    if body.origin_at is not None:
        steps.append({"name": "origin", "at": "centre" if body.origin_at == "center" else "bottom"})
    return steps


def tall(metres: float) -> list[Step]:
    """Finishing that makes something so high."""
    return [{"name": "units", "size_m": metres, "along": "height"}]


def texels(body: bodies.Textured) -> dict[str, Any]:
    """The size of textures, where one was asked for; 2k, the least, leaves it to the run."""
    size = body.texture_resolution or ("4k" if body.hd_texture else "2k")
    return {} if size == "2k" else {"size": TEXELS[size]}


def with_clip(options: dict[str, Any], opened: Opened) -> dict[str, Any]:
    """Options of an animation with the clip of its `action_id`: their place in the pipeline's list.

    Raises:
        MaquetteError: the list is shorter.
    """
    number = options.pop("action_id")
    pipeline = plugins.build("pipelines", opened.block) if opened.run is None else None
    if pipeline is None or not hasattr(pipeline, "clips"):
        return {**options, "action_id": number}
    names = list(pipeline.clips())
    if number >= len(names):
        told = ", ".join(f"{place} {name}" for place, name in enumerate(names))
        raise MaquetteError(f"action_id {number} is none of {told}")
    return {**options, "clip": names[number]}


def painted(body: bodies.TextTo3D | bodies.OfPictures, style: Json, sources: Sources) -> Wish:
    """Textures for the shape of the same task, that follow words or pictures.

    Raises:
        MaquetteError: the pipeline that paints cannot be told that.
    """
    kind, other = ("image", "texture_prompt") if style["images"] else ("text", "texture_image_url")
    if sources.painter_reads and kind not in sources.painter_reads:
        raise MaquetteError(f"should_texture: the pipeline that paints here reads no {kind}; give {other}")
    return Wish("texture", inputs={**style, "options": texels(body), "finish": placed(body)})


def _of_pictures(body: bodies.OfPictures, pictures: list[str], sources: Sources) -> Wish:
    formats = checked_formats(body.target_formats)
    inputs = {"images": pictures, "seed": body.seed, "finish": shaped(body)}
    # Some painters follow words alone: pictures that nobody asked to be followed are then no reason to refuse.
    followed = "text" if body.texture_prompt else "image"
    wanted = followed in sources.painter_reads if body.should_texture is None else body.should_texture
    if not wanted:
        return Wish("image", formats, inputs={**inputs, "finish": shaped(body) + placed(body)})
    own = sources.pictures([body.texture_image_url])
    style = {"prompt": body.texture_prompt, "images": [] if body.texture_prompt else own or pictures}
    return Wish("image", formats, inputs=inputs, then=(painted(body, style, sources),))


def _finished(mesh: str, steps: list[Step], placing: list[Step], formats: tuple[str, ...]) -> Wish:
    # Meshes reach pipelines centred; where nothing else is asked for they are put on the ground.
    ground = [] if any(step["name"] == "origin" for step in placing) else [{"name": "origin", "at": "bottom"}]
    return Wish("finish", formats, inputs={"mesh": mesh, "options": {"steps": [*steps, *placing, *ground]}})


def _no_more_faces(body: bodies.OfModel, sources: Sources, most: int, done: str) -> None:
    if not body.input_task_id:
        return
    task: Task = sources.task(body.input_task_id)
    faces = int(task.made.get("faces") or 0)
    if faces > most:
        raise MaquetteError(f"task '{task.id}' has {faces} faces; at most {most} can be {done}: remesh it first")


def _print_size(mesh: str) -> dict[str, float]:
    return {"size_mm": PRINT_MM} if PurePath(mesh).suffix in UNITLESS else {}


Wishing = Callable[[Any, Sources], Wish]
