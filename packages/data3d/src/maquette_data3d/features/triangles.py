"""The triangles themselves, with what was painted on them and what moves them, nothing lost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from maquette_data3d.features.subject import Subject
from maquette_data3d.rendering.surfaces import Surface


@dataclass
class TrianglesConfig:
    """What is kept beside vertices, faces and colours."""

    textures: bool = True
    """Texture coordinates, materials, and the pictures as the file has them."""
    skin: bool = True
    """Joints and weights of the vertices."""


class Triangles:
    """`mesh_vertices` float32 [*, 3], `mesh_faces` int32 [*, 3], `mesh_colors` uint8 [*, 3, 3] (a corner each);
    `mesh_uv` float32 [*, 3, 2], `mesh_material` int16 [*], `mesh_materials` uint8 [*] (JSON), `mesh_images` uint8
    [*] (the encoded pictures, one after another, whose sizes the JSON has); `mesh_joints` int16 and
    `mesh_weights` float32 [*, 4]. What a source does not have is empty."""

    def __init__(self, config: TrianglesConfig) -> None:
        self.config = config

    def ragged(self) -> tuple[str, ...]:
        """All of them."""
        names = ["vertices", "faces", "colors"]
        names += ["uv", "material", "materials", "images"] if self.config.textures else []
        names += ["joints", "weights"] if self.config.skin else []
        return tuple(f"mesh_{name}" for name in names)

    def facts(self) -> dict[str, Any]:
        """None."""
        return {}

    def tokens(self, arrays: Mapping[str, np.ndarray]) -> int:
        """A face is a token."""
        return len(arrays["mesh_faces"])

    def compute(self, subject: Subject) -> Mapping[str, np.ndarray]:
        """See `Feature`."""
        vertices, faces = subject.triangles()
        drawable = subject.drawable()
        arrays = {
            "mesh_vertices": vertices.astype(np.float32),
            "mesh_faces": faces.astype(np.int32),
            "mesh_colors": drawable.corner_colors,
        }
        if self.config.textures:
            arrays.update(_paint(drawable))
        if self.config.skin:
            joints, weights = subject.skin(vertices) if subject.rig() else (np.zeros((0, 4)), np.zeros((0, 4)))
            arrays["mesh_joints"], arrays["mesh_weights"] = joints.astype(np.int16), weights.astype(np.float32)
        return arrays


def _paint(drawable: Surface) -> dict[str, np.ndarray]:
    """Texture coordinates, materials and pictures; empty where there are none."""
    about = {
        "materials": [asdict(material) for material in drawable.materials],
        "images": [len(image) for image in drawable.images],
    }
    none = np.zeros((0, 3, 2), np.float32), np.zeros(0, np.int16)
    return {
        "mesh_uv": none[0] if drawable.uv is None else drawable.uv,
        "mesh_material": none[1] if drawable.material is None else drawable.material.astype(np.int16),
        "mesh_materials": np.frombuffer(json.dumps(about, sort_keys=True).encode(), np.uint8),
        "mesh_images": np.frombuffer(b"".join(drawable.images), np.uint8),
    }
