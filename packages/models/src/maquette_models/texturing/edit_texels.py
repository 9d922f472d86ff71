"""The texels of a mesh's images that lie in a region: read, changed and written, every other one as it was."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from maquette.errors import MaquetteError
from maquette.types import Material, Mesh
from maquette_kernels.raster.atlas import texel_surface
from maquette_models.texturing.edit_regions import Area
from maquette_models.texturing.view_attributes import decoded, encoded, to_bytes, to_linear, to_srgb, to_unit

GUTTER = 4
"""Texels beside a chart that go with it, so that filtering at its border finds what it shows."""
CHANNELS = {"base_color": (0, 1, 2), "metallic_roughness": (2, 1)}
"""Of an image's RGBA, those that a role's values are in: linear red, green, blue; metallic, roughness."""


@dataclass(frozen=True)
class Sheet:
    """The P texels of one image that an edit may change.

    Attributes:
        role: of the image; place: among the mesh's images; pixels: uint8 [H,W,4].
        row, column: int64 [P]; face: int64 [P], and share: float64 [P,3], weights of its corners.
        factor: float64 [P,C], what the material multiplies the texel by.
        outside: face and share of the texels that the region leaves out.
        covered: bool [H,W], texels that show something; allowed: bool [H,W], all that may change.
        shared: how many texels of the region show a place outside it as well, and stay.
    """

    role: str
    place: int
    pixels: NDArray[np.uint8]
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    face: NDArray[np.int64]
    share: NDArray[np.float64]
    factor: NDArray[np.float64]
    outside: tuple[NDArray[np.int64], NDArray[np.float64]]
    covered: NDArray[np.bool_]
    allowed: NDArray[np.bool_]
    shared: int

    def values(self) -> NDArray[np.float64]:
        """What the texels show, [P,C]."""
        texels = to_unit(self.pixels[self.row, self.column][:, CHANNELS[self.role]])
        return (to_linear(texels) if self.role == "base_color" else texels) * self.factor

    def written(self, values: NDArray[np.float64]) -> NDArray[np.uint8]:
        """The pixels with the texels showing other values [P,C], and their gutters with them."""
        texels = np.where(self.factor > 0, values / np.maximum(self.factor, 1e-6), 0).clip(0, 1)
        pixels, channels = self.pixels.copy(), CHANNELS[self.role]
        made = to_bytes(to_srgb(texels) if self.role == "base_color" else texels)
        for channel, column in zip(channels, made.T, strict=True):
            pixels[self.row, self.column, channel] = column
        edited = np.zeros(self.covered.shape, bool)
        edited[self.row, self.column] = True
        away, (row, column) = distance_transform_edt(~self.covered, return_indices=True)
        gutter = ~self.covered & (away <= GUTTER) & edited[row, column] & self.allowed
        for channel in channels:
            pixels[gutter, channel] = pixels[row[gutter], column[gutter], channel]
        return pixels


def sheets(mesh: Mesh, area: Area, role: str) -> list[Sheet]:
    """The sheets of all images of a role that show some of an area.

    Args:
        mesh: every face has a material, and every material that shows some of the area an image of the role.

    Raises:
        MaquetteError: hardly a texel shows the area alone.
    """
    assert mesh.material is not None
    places = np.array([material.textures.get(role, -1) for material in mesh.materials])
    image = places[mesh.material]
    own = {int(place): np.flatnonzero(image == place) for place in np.unique(image[image >= 0])}
    found = [_sheet(mesh, faces, place, role, area) for place, faces in own.items()]
    check_shown(found, role)
    return [sheet for sheet in found if len(sheet.row)]


def _sheet(mesh: Mesh, faces: NDArray[np.int64], place: int, role: str, area: Area) -> Sheet:
    """One image, by the faces that show it.

    Where faces lie over each other in the texture, the first and the last of them have to be in the region.
    """
    assert mesh.uv is not None and mesh.material is not None
    pixels = decoded(mesh.images[place])
    uv = torch.from_numpy(in_one_tile(mesh.uv[faces]))
    size = (pixels.shape[0], pixels.shape[1])
    first, share = (values.numpy() for values in texel_surface(uv, size))
    last, last_share = (values.numpy() for values in texel_surface(uv.flip(0), size))
    covered = first >= 0
    row, column = np.nonzero(covered)
    face, share = faces[first[row, column]], share[row, column].astype(np.float64)
    other = faces[::-1][last[row, column]]
    inside, too = area.region(face, share), area.region(other, last_share[row, column].astype(np.float64))
    own = np.ones(size, bool) if area.allowed is None else resized(area.allowed, size)
    chosen = inside & too & own[row, column]
    factors = np.array([_factor(material, role) for material in mesh.materials])
    return Sheet(
        role,
        place,
        pixels,
        row[chosen],
        column[chosen],
        face[chosen],
        share[chosen],
        factors[mesh.material[face[chosen]]],
        (face[~chosen], share[~chosen]),
        covered,
        own,
        int((inside & ~too).sum()),
    )


def in_one_tile(uv: NDArray[np.float32]) -> NDArray[np.float32]:
    """Texture coordinates [F,3,2] of faces, each moved by whole tiles to where its middle is in the unit square."""
    return (uv - np.floor(uv.mean(axis=1, keepdims=True))).astype(np.float32)


def resized(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask over a texture at another size, by the nearest texel."""
    rows, columns = ((np.arange(now) + 0.5) * was / now for now, was in zip(size, mask.shape, strict=True))
    return mask[rows.astype(np.int64)[:, None], columns.astype(np.int64)]


def with_images(mesh: Mesh, touched: NDArray[np.int64], role: str, size: int) -> Mesh:
    """The mesh looking as it did, where each material that an edit touches has an image of a role to write into.

    A material without one gets one that is all of its factor's value, and the factor 1; one whose factor is 0 under an
    image gets images that are 0.
    """
    materials, images = list(mesh.materials), list(mesh.images)
    for place in touched:
        old = materials[place]
        factor = np.array(_factor(old, role))
        if role in old.textures and (factor > 0).all():
            continue
        pixels = np.full((size, size, 4), 255, np.uint8)
        if role in old.textures:
            pixels = decoded(images[old.textures[role]]).copy()
        for channel, value in zip(CHANNELS[role], factor, strict=True):
            if role not in old.textures or value == 0:
                pixels[..., channel] = to_bytes(to_srgb(value) if role == "base_color" else value)
        freed = np.where(factor == 0, 1.0, factor) if role in old.textures else np.ones(len(factor))
        materials[place] = _with_factor(old, role, freed, len(images))
        images.append(encoded(without_alpha(pixels)))
    return replace(mesh, materials=tuple(materials), images=tuple(images))


def _factor(material: Material, role: str) -> tuple[float, ...]:
    return material.base_color[:3] if role == "base_color" else (material.metallic, material.roughness)


def _with_factor(material: Material, role: str, factor: NDArray[np.float64], image: int) -> Material:
    textures = {**material.textures, role: image}
    if role == "base_color":
        red, green, blue = factor.tolist()
        return replace(material, base_color=(red, green, blue, material.base_color[3]), textures=textures)
    return replace(material, metallic=float(factor[0]), roughness=float(factor[1]), textures=textures)


def with_sheets(mesh: Mesh, edits: list[tuple[Sheet, NDArray[np.float64]]]) -> Mesh:
    """The mesh whose images show other values on sheets. An image that has another role as well stays for that."""
    images, materials = list(mesh.images), list(mesh.materials)
    for sheet, values in edits:
        file = encoded(without_alpha(sheet.written(values)))
        others = {role for m in materials for role, place in m.textures.items() if place == sheet.place} - {sheet.role}
        place = len(images) if others else sheet.place
        images[place : place + 1] = [file]
        for number, material in enumerate(materials):
            if material.textures.get(sheet.role) == sheet.place:
                materials[number] = replace(material, textures={**material.textures, sheet.role: place})
    return replace(mesh, images=tuple(images), materials=tuple(materials))


def without_alpha(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pixels [H,W,4] as [H,W,3] where all are opaque."""
    return pixels[..., :3] if (pixels[..., 3] == 255).all() else pixels


def check_shown(found: list[Sheet], role: str) -> None:
    """Refuses an edit of a region that has hardly any texels of its own.

    Raises:
        MaquetteError: no texel of the region may change, or most are shared with what lies outside.
    """
    own, shared = sum(len(sheet.row) for sheet in found), sum(sheet.shared for sheet in found)
    if not own or shared > own:
        raise MaquetteError(
            f"the region has {own} texels of its own in the {role.replace('_', ' ')} and shares {shared} with the rest "
            "of the surface; choose a larger region, or lay the texture out anew with keep_uv=never"
        )
