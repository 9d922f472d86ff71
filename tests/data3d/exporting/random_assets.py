"""Assets with everything that an exporter may meet, made from a seed."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from maquette.types import TEXTURE_ROLES, Animation, Asset, Material, Mesh, Skeleton, Skin

NAMES = ("body", "", "Stuhl links", "椅子", "a/b#c: d", 'quo"te', "body")


def picture(random, kind="PNG", size=None):
    """An encoded image of noise."""
    size = size or tuple(random.integers(2, 9, 2))
    out = io.BytesIO()
    texels = random.integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(texels).save(out, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return out.getvalue()


def closed_surface(random, count=None):
    """Vertices and faces of a few bumpy balls that do not meet."""
    import trimesh

    points, faces, bodies = [], [], count or int(random.integers(1, 4))
    for body in range(bodies):
        ball = trimesh.creation.icosphere(subdivisions=int(random.integers(1, 3)))
        bumps = 1 + 0.2 * random.random((len(ball.vertices), 1))
        faces.append(ball.faces + sum(map(len, points)))
        points.append(ball.vertices * bumps + [3.0 * body, 0, 0])
    return np.concatenate(points).astype(np.float32) * np.float32(0.1), np.concatenate(faces).astype(np.int32)


def material(random, number, images):
    """A material with a texture in each role that an image is left for."""
    roles = random.permutation(TEXTURE_ROLES)[: int(random.integers(0, 6))] if images else ()
    return Material(
        name=f"{NAMES[number % len(NAMES)]}{number}",
        base_color=(*random.random(3), 1.0 if number % 2 else float(random.random())),
        metallic=float(random.random()),
        roughness=float(random.random()),
        emissive=tuple(random.random(3) * 3) if number % 3 == 0 else (0.0, 0.0, 0.0),
        alpha_mode="opaque" if number % 2 else "blend",
        double_sided=bool(random.integers(2)),
        textures={str(role): int(random.integers(images)) for role in roles},
    )


def skeleton(random, count):
    """A tree of joints, each turned its own way."""
    parents = np.array([-1, *(random.integers(0, place) for place in range(1, count))], np.int32)
    rest = np.tile(np.eye(4), (count, 1, 1))
    for place, parent in enumerate(parents):
        local = np.eye(4)
        local[:3, :3] = Rotation.random(random_state=int(random.integers(2**31))).as_matrix()
        local[:3, 3] = random.normal(size=3) * 0.1
        rest[place] = local if parent < 0 else rest[parent] @ local
    return Skeleton(tuple(f"joint {place} ü" for place in range(count)), parents, rest)


def skin(random, vertices, joints, influences=4, loose=0.0):
    """Random weights; a share of the vertices is moved by none."""
    weights = random.random((vertices, influences)).astype(np.float32)
    weights[random.random((vertices, influences)) < 0.3] = 0
    weights[:, 0] += np.float32(0.01)
    weights /= weights.sum(1, keepdims=True)
    weights[random.random(vertices) < loose] = 0
    return Skin(skeleton(random, joints), random.integers(0, joints, (vertices, influences)), weights)


def clip(random, mesh_skin, name="walk", frames=7):
    """Turns and moves of every joint."""
    joints = len(mesh_skin.skeleton.names)
    turns = Rotation.random(frames * joints, random_state=int(random.integers(2**31))).as_quat()
    times = np.cumsum(random.random(frames).astype(np.float32) + np.float32(0.01))
    moves = random.normal(size=(frames, joints, 3)).astype(np.float32)
    return Animation(name, times - times[0], turns.reshape(frames, joints, 4).astype(np.float32), moves)


def random_asset(seed, rigged=None, textured=None):
    """A closed mesh with parts, materials, textures, colours, and, for some seeds, a skin and two clips."""
    random = np.random.default_rng(seed)
    vertices, faces = closed_surface(random)
    textured = bool(seed % 3) if textured is None else textured
    images = tuple(picture(random, kind) for kind in ("PNG", "JPEG", "WEBP")) if textured else ()
    materials = tuple(material(random, number, len(images)) for number in range(int(random.integers(0, 4))))
    names = NAMES[: int(random.integers(1, len(NAMES)))]
    bound = None
    if rigged or (rigged is None and seed % 2):
        bound = skin(random, len(vertices), int(random.integers(1, 30)), int(random.integers(1, 9)))
    mesh = Mesh(
        vertices,
        faces,
        colors=np.c_[random.integers(0, 256, (len(vertices), 3)), np.full(len(vertices), 255)],
        uv=random.random((len(faces), 3, 2)) * 2 - 0.5 if textured else None,
        material=random.integers(-1, len(materials), len(faces)) if materials else None,
        materials=materials,
        images=images,
        part=np.sort(random.integers(0, len(names), len(faces))),
        part_names=names,
        skin=bound,
        unit_m=(1.0, 0.01, 0.001, None)[seed % 4],
    )
    clips = () if bound is None else (clip(random, bound), clip(random, bound, "Лети", 3))
    return Asset(mesh, {"prompt": "a chair", "seed": seed, "score": np.float32(0.5), "hull": np.zeros(3)}, clips)
