"""A plugin with pipelines that make, paint and rig without any model."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from maquette import hookimpl
from maquette.types import Asset, Material, Skeleton, Skin


@dataclass
class StandInConfig:
    """Nothing to set."""


class Modeller:
    """A sphere, larger with the seed, whatever is asked for."""

    def __init__(self, config):
        pass

    def __call__(self, request):
        import trimesh

        from maquette.types import Mesh

        ball = trimesh.creation.icosphere(subdivisions=3, radius=0.2 + request.seed % 10 / 50)
        mesh = Mesh(ball.vertices.astype(np.float32), ball.faces.astype(np.int32), unit_m=1.0)
        return Asset(mesh, {"seed": request.seed, "images": len(request.images)})


class Painter:
    """The mesh of a request with a texture of one colour."""

    def __init__(self, config):
        pass

    def __call__(self, request):
        out = io.BytesIO()
        Image.new("RGB", (8, 8), (180, 60, 30)).save(out, "PNG")
        faces = len(request.mesh.faces)
        corners = np.tile(np.array([[0.1, 0.1], [0.9, 0.1], [0.1, 0.9]], np.float32), (faces, 1, 1))
        painted = replace(
            request.mesh,
            uv=corners,
            material=np.zeros(faces, np.int32),
            materials=(Material("paint", textures={"base_color": 0}),),
            images=(out.getvalue(),),
        )
        return Asset(painted, {"prompt": request.prompt})


class Rigger:
    """The mesh of a request on two joints."""

    def __init__(self, config):
        pass

    def __call__(self, request):
        mesh = request.mesh
        rest = np.tile(np.eye(4), (2, 1, 1))
        rest[1, 1, 3] = 0.2
        skeleton = Skeleton(("root", "head"), np.array([-1, 0], np.int32), rest)
        joints = np.tile(np.array([[0, 1]], np.int32), (len(mesh.vertices), 1))
        weights = np.full((len(mesh.vertices), 2), 0.5, np.float32)
        return Asset(replace(mesh, skin=Skin(skeleton, joints, weights)))


@hookimpl
def register_pipelines(register):
    register("modeller", StandInConfig, Modeller)
    register("painter", StandInConfig, Painter)
    register("rigger", StandInConfig, Rigger)
