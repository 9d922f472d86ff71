"""What a request to edit a texture asks for: where, which look, and the mesh made ready for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maquette.errors import MaquetteError
from maquette.types import Mesh
from maquette_models.pipelines.option_values import fraction
from maquette_models.surface_points import sampled
from maquette_models.texturing.edit_regions import KINDS, Area, Region, bright_texels, by_parts, region_of
from maquette_models.texturing.edit_words import Look, color_of, read_instruction
from maquette_models.texturing.view_atlas import atlas_of, painted, with_uv
from maquette_models.texturing.view_attributes import shown_attributes
from maquette_models.texturing.view_maps import corner_normals

LOOKS = ("color", "metallic", "roughness")
PLACED = ("box", "sphere", "region")
"""Regions that end within a surface, where a soft seam is wanted unless something else is said."""
PROBES = 16384
"""Points that tell which materials a region touches."""


@dataclass(frozen=True)
class Asked:
    """What may change, what it takes on (empty where a run paints it), and whether the region ends within a surface."""

    area: Area
    look: Look
    placed: bool

    def changes(self, role: str) -> bool:
        """Whether images of a role change."""
        color, finish = self.look.color, (self.look.metallic, self.look.roughness)
        return not self.look or (color is not None if role == "base_color" else finish != (None, None))


def asked(mesh: Mesh, options: Mapping[str, Any], class_name: str | None) -> Asked:
    """What options ask for.

    Args:
        mesh: in the unit cube.
        options: of the request.
        class_name: a word for the whole of the mesh.

    Raises:
        MaquetteError: an instruction beside other options of its kind, or one of them names nothing.
    """
    if "instruction" in options:
        doubled = [key for key in (*KINDS, *LOOKS) if key in options]
        if doubled:
            raise MaquetteError(f"an instruction says where and what by itself; leave out {', '.join(doubled)}")
        return instructed(mesh, str(options["instruction"]), class_name)
    look = Look(
        color_of(str(options["color"])) if "color" in options else None,
        fraction(options["metallic"], "metallic", "a texture edit") if "metallic" in options else None,
        fraction(options["roughness"], "roughness", "a texture edit") if "roughness" in options else None,
    )
    allowed = bright_texels(options["mask"]) if "mask" in options else None
    return Asked(Area(region_of(mesh, options), allowed), look, any(kind in options for kind in PLACED))


def instructed(mesh: Mesh, text: str, class_name: str | None) -> Asked:
    """What an instruction asks for."""
    names = () if mesh.part is None else mesh.part_names
    said = read_instruction(text, names, () if class_name is None else (class_name,))
    if said.parts:
        return Asked(Area(by_parts(mesh, said.parts)), said.look, placed=False)
    where = {"region": said.place} if said.place else {}
    return Asked(Area(region_of(mesh, where)), said.look, placed=bool(where))


def with_textures(mesh: Mesh, keep_uv: str | bool, size: int) -> Mesh:
    """The mesh as it looks, every face with a material and texture coordinates: its own where it has them and they are
    to be kept, else laid out anew with images of `size` texels a side."""
    bare = mesh.material is None or bool((mesh.material < 0).any())
    flat = mesh if keep_uv in ("always", True) and mesh.uv is not None and not bare else with_uv(mesh, keep_uv)
    if flat is mesh and not bare:
        return mesh
    atlas = atlas_of(flat, corner_normals(flat), size)
    return painted(flat, atlas, shown_attributes(mesh, atlas.face, atlas.share), "edited")


def touched_materials(mesh: Mesh, region: Region) -> NDArray[np.int64]:
    """Places of the materials that show some of a region.

    Raises:
        MaquetteError: none does.
    """
    assert mesh.material is not None
    _, _, (face, share) = sampled(mesh, PROBES, 0)
    every = np.arange(len(mesh.faces))
    face, share = np.concatenate([face, every]), np.concatenate([share, np.full((len(every), 3), 1 / 3)])
    found = np.unique(mesh.material[face[region(face, share)]])
    if not len(found):
        raise MaquetteError(
            "the region holds nothing of the mesh; boxes and spheres are in the unit cube, where its longest side is .9"
        )
    return found
