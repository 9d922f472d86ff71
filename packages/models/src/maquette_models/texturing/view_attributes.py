"""What a mesh shows at points of its surface: base colour, metallic and roughness, of textures, factors and colours."""

from __future__ import annotations

import io

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from maquette.errors import MaquetteError
from maquette.image_loading import decoded_image
from maquette.types import Material, Mesh
from maquette_models.texturing.view_tokens import ATTRIBUTES

GREY = 0.62
"""sRGB of a face with neither a material nor colours."""
ROUGH = 1.0


def shown_attributes(mesh: Mesh, face: Tensor, share: Tensor) -> Tensor:
    """Base colour (sRGB), metallic and roughness, float32 [P,5] in [0,1], at points of faces.

    Args:
        face: whole numbers [P]; share: [P,3], weights of the face's corners.

    Raises:
        MaquetteError: an image that cannot be read.
    """
    number, weights = face.numpy().astype(np.int64), share.numpy().astype(np.float64)
    shown = np.empty((len(number), ATTRIBUTES))
    shown[:] = (GREY, GREY, GREY, 0.0, ROUGH)
    if mesh.colors is not None:
        shown[:, :3] = np.einsum("pc,pci->pi", weights, mesh.colors[:, :3][mesh.faces[number]] / 255)
    if mesh.material is not None:
        uv = None if mesh.uv is None else np.einsum("pc,pci->pi", weights, mesh.uv[number].astype(np.float64))
        for place in np.unique(mesh.material[number]):
            if place >= 0:
                own = mesh.material[number] == place
                shown[own] = _of_material(mesh, mesh.materials[place], None if uv is None else uv[own], int(own.sum()))
    return torch.from_numpy(shown.astype(np.float32))


def _of_material(mesh: Mesh, material: Material, uv: NDArray[np.float64] | None, count: int) -> NDArray[np.float64]:
    color = np.broadcast_to(np.array(material.base_color[:3]), (count, 3)).copy()
    metal_rough = np.broadcast_to(np.array([material.metallic, material.roughness]), (count, 2)).copy()
    if uv is not None and "base_color" in material.textures:
        image = decoded(mesh.images[material.textures["base_color"]])
        color *= to_linear(sampled(to_unit(image[..., :3]), uv))
    if uv is not None and "metallic_roughness" in material.textures:
        image = decoded(mesh.images[material.textures["metallic_roughness"]])
        metal_rough *= sampled(to_unit(image[..., [2, 1]]), uv)
    return np.concatenate([to_srgb(color), metal_rough], axis=1).clip(0, 1)


def decoded(image: bytes) -> NDArray[np.uint8]:
    """The pixels of an encoded image, uint8 [H,W,4], RGBA.

    Raises:
        MaquetteError: it cannot be read.
    """
    try:
        return decoded_image(image)
    except MaquetteError as error:
        raise MaquetteError(f"an image of the mesh cannot be read: {error}") from None


def encoded(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG file of pixels [H,W,3|4], without loss."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG")
    return file.getvalue()


def sampled(image: NDArray[np.float64], uv: NDArray[np.float64]) -> NDArray[np.float64]:
    """An image [H,W,C] between its texels at coordinates [P,2], repeated over the plane."""
    height, width = image.shape[:2]
    place = uv * (width, height) - 0.5
    corner = np.floor(place)
    right, down = (place - corner).T[..., None]
    column, row = corner.T.astype(np.int64)
    upper = (1 - right) * image[row % height, column % width] + right * image[row % height, (column + 1) % width]
    row = (row + 1) % height
    lower = (1 - right) * image[row, column % width] + right * image[row, (column + 1) % width]
    return (1 - down) * upper + down * lower


def to_unit(values: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Bytes in [0,1]."""
    return values.astype(np.float64) / 255


def to_bytes(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """[0,1] in bytes, to the nearest."""
    return np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)


def to_linear(srgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear light of sRGB values in [0,1] (IEC 61966-2-1)."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def to_srgb(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of `to_linear`."""
    kept = np.maximum(linear, 0)
    return np.where(kept <= 0.0031308, kept * 12.92, 1.055 * kept ** (1 / 2.4) - 0.055)
