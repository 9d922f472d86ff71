"""Which of the engine's pipelines plays which part, for callers who ask for work and not for a pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from maquette.errors import MaquetteError, unknown_name
from maquette.runs import RunFolder
from maquette_serve.engine.engine_setup import Opened

GENERATORS = ("text_to_3d", "voxset", "sparse_voxels")
PAINTERS = ("texture", "view_texture")
PLAYERS: dict[str, tuple[str, ...]] = {
    "text": GENERATORS,
    "image": GENERATORS,
    "texture": PAINTERS,
    "rig": ("rig",),
    "animate": ("animate",),
    "remesh": ("remesh",),
    "unwrap": ("unwrap",),
    "print": ("print_check",),
    "finish": ("finish",),
    "edit": ("edit", "voxset_edit"),
    "texture_edit": ("texture_edit",),
    "parts": ("parts",),
}
"""Roles, and the registered pipelines that can play them; of several in an engine the first does."""
ROLES = tuple(PLAYERS)
PICTURES = frozenset({"image", "views", "dino_image"})
"""Conditioners that read pictures."""


def roles_of(pipelines: Mapping[str, Opened], chosen: Mapping[str, str] | None = None) -> dict[str, str]:
    """The name of the pipeline that plays each role; a role that nobody can play is left out.

    Args:
        pipelines: of the engine.
        chosen: roles with the names of their pipelines, which go before what is found.

    Raises:
        MaquetteError: a role or a pipeline that does not exist.
    """
    chosen = chosen or {}
    for role, name in chosen.items():
        if role not in PLAYERS:
            raise unknown_name("role", role, ROLES)
        if name not in pipelines:
            raise unknown_name("pipeline", name, pipelines, where=f"for role '{role}'")
    found: dict[str, str] = {}
    for name, opened in pipelines.items():
        for role in roles_played(opened):
            found.setdefault(role, name)
    return {**found, **chosen}


def read_roles(words: Sequence[str]) -> dict[str, str]:
    """Roles of "ROLE=NAME" words.

    Raises:
        MaquetteError: a word is not of that form.
    """
    roles: dict[str, str] = {}
    for word in words:
        role, equals, name = word.partition("=")
        if not equals or not name:
            raise MaquetteError(f"role '{word}' is not of the form ROLE=NAME; roles: {', '.join(ROLES)}")
        roles[role] = name
    return roles


def changes_mesh(roles: Sequence[str]) -> bool:
    """Whether who plays those roles changes a mesh, and makes none of its own."""
    return bool(roles) and not {"text", "image"} & {*roles}


def roles_played(opened: Opened) -> list[str]:
    """The roles that a pipeline can play."""
    kind = about(opened)
    can = [role for role, players in PLAYERS.items() if kind in players]
    return [role for role in can if kind not in GENERATORS or role in reads(opened)]


def about(opened: Opened) -> str:
    """What kind of pipeline it is: the registered name."""
    name = opened.block.get("name")
    if name is None and opened.run is not None:
        name = RunFolder(opened.run).read_config().pipeline.get("name")
    return str(name or "")


def reads(opened: Opened) -> set[str]:
    """What a run's model can be told: "text" (words, or a class), "image", or both."""
    if opened.run is None:
        return {"text", "image"} if about(opened) not in GENERATORS else {"text"}
    model = OmegaConf.to_container(RunFolder(opened.run).read_config().model)
    names = set(_conditioners(model.get("conditioner")))  # type: ignore[union-attr]  # a model's block is a mapping
    pictures = names & PICTURES
    return {*(("image",) if pictures else ()), *(("text",) if names - pictures or not names else ())}


def _conditioners(block: Any) -> Iterator[str]:
    """The names of a conditioner's block and of its parts, which are called after what they are."""
    if not isinstance(block, Mapping):
        return
    if "parts" not in block:
        yield str(block.get("name", ""))
        return
    for key, part in block["parts"].items():
        yield str(part.get("name", key)) if isinstance(part, Mapping) else str(key)
