"""The pipeline that changes the texture of a mesh in a region, and leaves every other texel as it is, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from maquette.errors import MaquetteError, unknown_name
from maquette.one_by_one import OneByOne
from maquette.placement import in_unit_cube
from maquette.types import Asset, Mesh, Request
from maquette_models.pipelines.option_values import fraction, whole_number
from maquette_models.texturing.edit_content import content_of
from maquette_models.texturing.edit_look import recolored, refinished
from maquette_models.texturing.edit_regions import KINDS, Region
from maquette_models.texturing.edit_task import LOOKS, Asked, asked, touched_materials, with_textures
from maquette_models.texturing.edit_texels import Sheet, sheets, with_images, with_sheets
from maquette_models.texturing.view_atlas import points_on
from maquette_models.texturing.view_attributes import shown_attributes, to_bytes, to_linear
from maquette_models.texturing.view_maps import corner_normals

OPTIONS = (*KINDS, *LOOKS, "instruction", "seam", "size", "keep_uv")
ROLES = ("base_color", "metallic_roughness")


@dataclass
class TextureEditConfig:
    """`run` paints what requests with a prompt ask for, in `rounds` a step; without one there is recolouring alone.

    `seam` is how far inside a region its border is blended, in the unit cube's units, for a box, a sphere and a place;
    other regions end sharply. `size` is the side of images that a mesh lacks. `keep_uv` "never" lays every texture out
    anew, "auto" where it leaves the unit square. The options `seam`, `size` and `keep_uv` of a request go before.
    """

    run: str = ""
    rounds: int = 3
    seam: float = 0.02
    size: int = 512
    keep_uv: str = "always"

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.seam < 0 or self.size < 1:
            raise ValueError("'rounds' and 'size' must be at least 1, 'seam' at least 0")


@dataclass(frozen=True)
class Task:
    """One edit: the mesh with all images that it needs, the same in the unit cube, what is asked for, and the seam's
    width in the cube's units."""

    mesh: Mesh
    cube: Mesh
    asked: Asked
    seam: float


Edit = tuple[Sheet, NDArray[np.float64]]
"""A sheet and what it is to show."""


class TextureEdit(OneByOne):
    """Requests have a `mesh` and `options`:

    - where: one of `mask`, `box`, `sphere`, `region` and `part` (see `region_of`); none is all of the surface;
    - what: `color` (a name or code), `metallic` and `roughness` (from 0 to 1); or nothing of it, and a `prompt` that
      says what the whole shall be, with a run;
    - or both in words: `instruction`, e.g. "make the seat dark red" (see `read_instruction`).
    """

    def __init__(self, config: TextureEditConfig) -> None:
        self.config = config
        self.content = content_of(config.run, config.rounds) if config.run else None

    def __call__(self, request: Request) -> Asset:
        """The mesh with the region's texels changed.

        Raises:
            MaquetteError: no mesh, options that say nothing or contradict, or a region without texels of its own.
        """
        task = self._task(request)
        area = task.asked.area
        own = {role: sheets(task.mesh, area, role) for role in ROLES if task.asked.changes(role)}
        edits = recolored_sheets(task, own) if task.asked.look else self._repainted(request, task, own)
        edited = with_sheets(task.mesh, edits)
        told = {
            "edit": "texture",
            "prompt": request.prompt,
            "seed": request.seed,
            "texels_edited": sum(len(sheet.row) for sheet, _ in edits),
            "texels_shared": sum(sheet.shared for sheet, _ in edits),
            "images_edited": len(edits),
        }
        return Asset(replace(edited, colors=seen_colors(edited, area.region)), told)

    def _task(self, request: Request) -> Task:
        options, config = request.options, self.config
        for key in options:
            if key not in OPTIONS:
                raise unknown_name("option", str(key), OPTIONS, where="of a texture edit")
        if request.mesh is None:
            raise MaquetteError("a texture edit needs a mesh to start from")
        size = whole_number(options.get("size", config.size), "size")
        mesh = with_textures(request.mesh, options.get("keep_uv", config.keep_uv), size)
        cube = in_unit_cube(mesh)
        wanted = asked(cube, options, request.class_name)
        if not wanted.look and (self.content is None or not request.prompt):
            raise MaquetteError(
                "a texture edit needs a look (an instruction, color, metallic or roughness), or a run and a prompt"
            )
        touched = touched_materials(cube, wanted.area.region)
        for role in ROLES:
            if wanted.changes(role):
                mesh = with_images(mesh, touched, role, size)
        seam = fraction(options.get("seam", config.seam if wanted.placed else 0.0), "seam", "a texture edit")
        return Task(mesh, cube, wanted, seam)

    def _repainted(self, request: Request, task: Task, own: dict[str, list[Sheet]]) -> list[Edit]:
        """What the run paints on sheets, by role."""
        assert self.content is not None
        known = replace(task.mesh, vertices=task.cube.vertices)
        every = [sheet for found in own.values() for sheet in found]
        face = torch.from_numpy(np.concatenate([sheet.face for sheet in every]))
        share = torch.from_numpy(np.concatenate([sheet.share for sheet in every])).float()
        points = points_on(known, corner_normals(known), face, share)
        shown: Tensor = self.content(request, known, task.asked.area.region, points)
        edits = []
        for sheet, values in split(every, shown.double().numpy()):
            new = to_linear(values[:, :3]) if sheet.role == "base_color" else values[:, 3:5]
            edits += blended(task, [sheet], sheet.values(), new)
        return edits


def recolored_sheets(task: Task, own: dict[str, list[Sheet]]) -> list[Edit]:
    """The sheets of each role with the look that is asked for."""
    edits = []
    for role, found in own.items():
        old = np.concatenate([sheet.values() for sheet in found])
        change = recolored if role == "base_color" else refinished
        edits += blended(task, found, old, change(old, task.asked.look))
    return edits


def blended(task: Task, own: Sequence[Sheet], old: NDArray[np.float64], new: NDArray[np.float64]) -> list[Edit]:
    """Sheets that show what is new, less of it within a seam's width of the region's border: values [P,C] of all."""
    border = np.concatenate([positions(task.cube, *sheet.outside) for sheet in own])
    if task.seam > 0 and len(border):
        inner = np.concatenate([positions(task.cube, sheet.face, sheet.share) for sheet in own])
        away, _ = cKDTree(border).query(inner, distance_upper_bound=task.seam)
        ramp = (away / task.seam).clip(0, 1)[:, None]
        new = old + ramp * ramp * (3 - 2 * ramp) * (new - old)
    return split(own, new)


def positions(mesh: Mesh, face: NDArray[np.int64], share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points [P,3] of faces, by weights of their corners."""
    return np.einsum("pc,pci->pi", share, mesh.vertices.astype(np.float64)[mesh.faces[face]])


def split(own: Sequence[Sheet], values: NDArray[np.float64]) -> list[Edit]:
    """Each sheet with its rows of the values of all."""
    ends = np.cumsum([len(sheet.row) for sheet in own])[:-1]
    return list(zip(own, np.split(values, ends), strict=True))


def seen_colors(mesh: Mesh, region: Region) -> NDArray[np.uint8] | None:
    """The mesh's vertex colours, in the region as its textures show it now."""
    if mesh.colors is None:
        return None
    colors = mesh.colors.copy()
    for place, corner in enumerate(0.7 * np.eye(3) + 0.1):  # a little inwards: texels at a border are mixed
        face = np.arange(len(mesh.faces))
        face = face[region(face, np.tile(corner, (len(face), 1)))]
        shown = shown_attributes(mesh, torch.from_numpy(face), torch.from_numpy(np.tile(corner, (len(face), 1))))
        colors[mesh.faces[face, place], :3] = to_bytes(shown[:, :3].double().numpy())
    return colors
