"""Small pictures of meshes, for reports."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from maquette.durable import whole_file
from maquette.types import Mesh
from maquette_kernels.ops import interpolate, rasterise

SIZE, SUPERSAMPLING = 176, 2
TEXT = 28  # pixels under a picture for its caption, two lines
YAW, PITCH = math.radians(35), math.radians(22)
REACH = 0.84  # half of what is seen: the cube's corners stay inside
BACKGROUND = (250, 250, 252)
GRAY = 190
LIGHT = (0.35, 0.8, 0.5)
AMBIENT = 0.45


def picture(mesh: Mesh, size: int = SIZE) -> NDArray[np.uint8]:
    """A mesh from the front right and above, uint8 [size,size,3]; flat shading, its vertex colours or gray."""
    side = size * SUPERSAMPLING
    faces = torch.from_numpy(mesh.faces)
    face, weights, _ = rasterise(_projected(torch.from_numpy(mesh.vertices)), faces, side, side)
    colors = np.full((len(mesh.vertices), 3), GRAY, np.uint8) if mesh.colors is None else mesh.colors[:, :3]
    paint = interpolate(torch.from_numpy(colors).float()[None], faces, face, weights)[0]
    seen = face[0] >= 0
    shaded = paint * _light(mesh)[face[0].clamp(min=0).long()][..., None]
    image = torch.where(seen[..., None], shaded, torch.tensor(BACKGROUND, dtype=torch.float32))
    small = image.unflatten(0, (size, SUPERSAMPLING)).unflatten(2, (size, SUPERSAMPLING)).mean(dim=(1, 3))
    return np.asarray(small.round().clamp(0, 255).to(torch.uint8))


def contact_sheet(tiles: Sequence[tuple[Mesh | None, str]], path: Path, columns: int = 6) -> Path:
    """Meshes with their captions in rows, as a PNG; a mesh that is None is an empty tile."""
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (columns * SIZE, rows * (SIZE + TEXT)), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for number, (mesh, caption) in enumerate(tiles):
        left, top = number % columns * SIZE, number // columns * (SIZE + TEXT)
        if mesh is not None and len(mesh.faces):
            sheet.paste(Image.fromarray(picture(mesh)), (left, top))
        draw.multiline_text((left + 4, top + SIZE), _wrapped(draw, caption), fill=(70, 76, 92), font_size=10, spacing=2)
    with whole_file(path) as temporary:
        sheet.save(temporary)
    return path


def _projected(vertices: Tensor) -> Tensor:
    """Clip space [1,V,4], the sky at row 0, orthographic."""
    turned = vertices @ _camera().T / REACH
    x, y, depth = turned.unbind(dim=1)
    return torch.stack([x, -y, -depth, torch.ones_like(x)], dim=1)[None].contiguous()


def _camera() -> Tensor:
    """Rows: to the right, up, and towards the viewer."""
    back = torch.tensor([math.sin(YAW) * math.cos(PITCH), math.sin(PITCH), math.cos(YAW) * math.cos(PITCH)])
    right = torch.tensor([math.cos(YAW), 0.0, -math.sin(YAW)])
    return torch.stack([right, torch.linalg.cross(back, right), back])


def _light(mesh: Mesh) -> Tensor:
    """How bright each face is, [F]; from the side that the viewer sees."""
    corners = torch.from_numpy(mesh.vertices)[torch.from_numpy(mesh.faces).long()]
    normal = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal = torch.nn.functional.normalize(normal, dim=1)
    normal = torch.where((normal @ _camera()[2])[:, None] < 0, -normal, normal)
    return AMBIENT + (1 - AMBIENT) * (normal @ torch.nn.functional.normalize(torch.tensor(LIGHT), dim=0)).clamp(min=0)


def _wrapped(draw: ImageDraw.ImageDraw, caption: str) -> str:
    lines = [""]
    for word in caption.split():
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer, font_size=10) <= SIZE - 8:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines[:2])
