"""What travels between plugins: meshes, assets, requests. NumPy only, so that exporters and servers need no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maquette.errors import MaquetteError

TRIANGLE = 3
RGBA = 4
TEXTURE_ROLES = ("base_color", "metallic_roughness", "normal", "occlusion", "emissive")
ALPHA_MODES = ("opaque", "mask", "blend")


@dataclass(frozen=True)
class Material:
    """A metallic-roughness surface, named after the core material of glTF 2.0 (Khronos, 2017-2021).

    Args:
        name: as in the file, "" where it has none.
        base_color: linear light and opacity, each in [0, 1]; multiplies its texture.
        metallic: in [0, 1]; multiplies its texture.
        roughness: perceptual, in [0, 1]; multiplies its texture.
        emissive: linear light; may pass 1.
        alpha_mode: "opaque", "mask" or "blend".
        double_sided: the back is meant to be seen.
        textures: places among the mesh's images by role: "base_color" and "emissive" are sRGB, "metallic_roughness"
            (roughness in green, metallic in blue), "normal" (tangent space, y up) and "occlusion" (red) are data.
            All are addressed by the mesh's ``uv``.
    """

    name: str = ""
    base_color: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    metallic: float = 0.0
    roughness: float = 1.0
    emissive: tuple[float, float, float] = (0.0, 0.0, 0.0)
    alpha_mode: str = "opaque"
    double_sided: bool = False
    textures: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Skeleton:
    """Joints in the pose that the vertices show.

    Args:
        names: one a joint, unique.
        parents: int32 [J], the nearest joint above, -1 at a root.
        rest: float64 [J, 4, 4], joint to model space (columns are the joint's axes and origin, in the vertices' unit).
    """

    names: tuple[str, ...]
    parents: NDArray[np.int32]
    rest: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Skin:
    """What moves the vertices of a mesh.

    Args:
        skeleton: its joints, each after its parent.
        joints: int32 [V, K], places in the skeleton.
        weights: float32 [V, K], not negative; rows sum to 1, or are 0 for vertices that no joint moves.
    """

    skeleton: Skeleton
    joints: NDArray[np.int32]
    weights: NDArray[np.float32]

    def __post_init__(self) -> None:
        object.__setattr__(self, "joints", np.asarray(self.joints, np.int32))
        object.__setattr__(self, "weights", np.asarray(self.weights, np.float32))
        count = len(self.skeleton.names)
        if self.joints.ndim != 2 or self.joints.shape != self.weights.shape:
            raise MaquetteError(f"skin joints {list(self.joints.shape)} and weights {list(self.weights.shape)} differ")
        if self.skeleton.parents.shape != (count,) or self.skeleton.rest.shape != (count, 4, 4):
            raise MaquetteError(f"skeleton of {count} joints needs parents [{count}] and rest [{count}, 4, 4]")
        if (self.skeleton.parents >= np.arange(count)).any():
            raise MaquetteError("skeleton has a joint that does not come after its parent")
        if self.joints.size and (self.joints.min() < 0 or self.joints.max() >= count):
            raise MaquetteError(f"skin has weights for joints outside its {count}")
        if not np.isfinite(self.weights).all() or (self.weights < 0).any():
            raise MaquetteError("skin has weights that are negative, NaN or infinite")


@dataclass(frozen=True, eq=False)
class Mesh:
    """A triangle mesh, right-handed, y up, +z to the front; models see it in the unit cube around the origin.

    Args:
        vertices: float32 [V, 3].
        faces: int32 [F, 3], counter-clockwise seen from outside.
        colors: uint8 [V, 4] RGBA in sRGB, or None. What those see who do not look at materials: a face that has a
            material is shown by it alone.
        uv: float32 [F, 3, 2], the texture coordinate of each corner, or None. (0, 0) is the UPPER LEFT of an image,
            v grows downwards (as in glTF); textures repeat.
        material: int32 [F], place in ``materials``, -1 for none; None where every face is -1.
        materials: surfaces that faces name.
        images: encoded PNG, JPEG or WebP files that the materials name.
        part: int32 [F], place in ``part_names``, or None.
        part_names: of the pieces; names may repeat.
        skin: joints and weights, or None.
        unit_m: metres a unit, or None where nobody said.

    Raises:
        MaquetteError: wrong shapes, non-finite vertices, or indices that point outside what they index.
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]
    colors: NDArray[np.uint8] | None = None
    uv: NDArray[np.float32] | None = None
    material: NDArray[np.int32] | None = None
    materials: tuple[Material, ...] = ()
    images: tuple[bytes, ...] = ()
    part: NDArray[np.int32] | None = None
    part_names: tuple[str, ...] = ()
    skin: Skin | None = None
    unit_m: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "vertices", np.asarray(self.vertices, np.float32))
        object.__setattr__(self, "faces", np.asarray(self.faces, np.int32))
        if self.vertices.ndim != 2 or self.vertices.shape[1] != TRIANGLE:
            raise MaquetteError(f"mesh vertices must be [V, 3], got {list(self.vertices.shape)}")
        if self.faces.ndim != 2 or self.faces.shape[1] != TRIANGLE:
            raise MaquetteError(f"mesh faces must be triangles [F, 3], got {list(self.faces.shape)}")
        if not np.isfinite(self.vertices).all():
            raise MaquetteError("mesh has vertices that are NaN or infinite")
        if self.faces.size and (self.faces.min() < 0 or self.faces.max() >= len(self.vertices)):
            raise MaquetteError(f"mesh has faces that point outside its {len(self.vertices)} vertices")
        self._check("colors", np.uint8, (len(self.vertices), RGBA))
        self._check("uv", np.float32, (len(self.faces), TRIANGLE, 2))
        self._check_places("material", "materials", lowest=-1)
        self._check_places("part", "part_names", lowest=0)
        if self.uv is not None and not np.isfinite(self.uv).all():
            raise MaquetteError("mesh has texture coordinates that are NaN or infinite")
        if self.skin is not None and len(self.skin.joints) != len(self.vertices):
            raise MaquetteError(f"mesh skin is of {len(self.skin.joints)} vertices, the mesh has {len(self.vertices)}")
        for material in self.materials:
            _check_textures(material, len(self.images))

    def _check(self, name: str, dtype: type[np.generic], shape: tuple[int, ...]) -> None:
        values = getattr(self, name)
        if values is None:
            return
        object.__setattr__(self, name, np.asarray(values, dtype))
        if getattr(self, name).shape != shape:
            wanted = ", ".join(map(str, shape))
            raise MaquetteError(f"mesh {name} must be [{wanted}], got {list(np.shape(values))}")

    def _check_places(self, name: str, table: str, lowest: int) -> None:
        self._check(name, np.int32, (len(self.faces),))
        places = getattr(self, name)
        count = len(getattr(self, table))
        if places is not None and places.size and (places.min() < lowest or places.max() >= count):
            raise MaquetteError(f"mesh {name} has numbers outside its {count} {table}")


def _check_textures(material: Material, images: int) -> None:
    if material.alpha_mode not in ALPHA_MODES:
        raise MaquetteError(f"material '{material.name}' has alpha_mode '{material.alpha_mode}', not {ALPHA_MODES}")
    for role, place in material.textures.items():
        if role not in TEXTURE_ROLES:
            raise MaquetteError(f"material '{material.name}' has a texture '{role}', not one of {TEXTURE_ROLES}")
        if not 0 <= place < images:
            raise MaquetteError(f"material '{material.name}': texture '{role}' is image {place} of {images}")


@dataclass(frozen=True, eq=False)
class Animation:
    """A clip: how each joint stands to its parent over time.

    Args:
        name: of the clip.
        times: float32 [T], seconds, ascending from 0.
        rotations: float32 [T, J, 4], unit quaternions (x, y, z, w), joint to parent (a root: to model space).
        translations: float32 [T, J, 3], the joint's origin in its parent's axes, in the vertices' unit.
    """

    name: str
    times: NDArray[np.float32]
    rotations: NDArray[np.float32]
    translations: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Asset:
    """What a pipeline returns and an exporter writes: a mesh, its clips, how it came to be (prompt, seed, run, ...)."""

    mesh: Mesh
    metadata: dict[str, Any] = field(default_factory=dict)
    animations: tuple[Animation, ...] = ()

    def __post_init__(self) -> None:
        joints = 0 if self.mesh.skin is None else len(self.mesh.skin.skeleton.names)
        for clip in self.animations:
            frames = len(clip.times)
            if clip.rotations.shape != (frames, joints, 4) or clip.translations.shape != (frames, joints, 3):
                raise MaquetteError(
                    f"animation '{clip.name}' of {frames} frames moves {clip.rotations.shape[1:2]} joints, "
                    f"the mesh's skin has {joints}"
                )


@dataclass(frozen=True, eq=False)
class Request:
    """What a user asks a pipeline for. ``None`` means the pipeline's own default.

    The same request gives the same asset, bit for bit, on one machine.

    Args:
        images: pictures to follow, uint8 [H, W, 3] or [H, W, 4] in sRGB.
        mesh: a mesh to follow or to change.
        options: what only some pipelines know, by name.
    """

    prompt: str = ""
    seed: int = 0
    class_name: str | None = None
    guidance: float | None = None
    steps: int | None = None
    images: tuple[NDArray[np.uint8], ...] = ()
    mesh: Mesh | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
