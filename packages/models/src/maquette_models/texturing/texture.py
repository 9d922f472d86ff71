"""The pipeline that paints a mesh: a request with a mesh in, the same mesh with materials and textures out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from omegaconf import MISSING

from maquette.errors import MaquetteError, unknown_name
from maquette.finishing import finish
from maquette.placement import in_unit_cube
from maquette.stepping import Call, Course, SteppedPipeline
from maquette.types import Asset, Mesh, Request
from maquette_models.adapters.hot_swap import HotSwap
from maquette_models.pipelines.flow_stage import FlowStageConfig
from maquette_models.surface_points import sampled
from maquette_models.texturing.baking import SHOWN, Layout, baked, layouts, share_shown
from maquette_models.texturing.painter import Painted, Painter

KEEP = ("auto", "always", "never")
OPTIONS = ("size", "keep_uv")
LEAST, MOST = 16, 8192
CHECKED = 4096  # points at which texture coordinates are tried


@dataclass
class TextureConfig:
    """`run` is the folder of a run that trained a flow on `paint_latents`.

    Textures have `size` texels a side. `keep_uv` says what becomes of a mesh's own texture coordinates: "auto" keeps
    them where nearly every point of the surface has a texel of its own, and else the block `unwrap`, a finisher, makes
    new ones; "always" keeps them, though faces that share texels then look alike; "never" makes new ones. The options
    `size` and `keep_uv` of a request go before; there true and false are "always" and "never". `points` of the surface
    tell the model the shape.
    """

    run: str = MISSING
    size: int = 1024
    keep_uv: str = "auto"
    points: int = 32768
    stage: FlowStageConfig = field(default_factory=FlowStageConfig)
    unwrap: dict[str, Any] = field(default_factory=lambda: {"name": "unwrap"})


@dataclass(frozen=True)
class Order:
    """How a request wants its textures."""

    size: int
    keep_uv: str


class Texture(HotSwap, SteppedPipeline):
    """A request's asset depends on that request alone; positions and faces of its mesh stay, bit for bit."""

    def __init__(self, config: TextureConfig) -> None:
        self.config = config
        self.painter = Painter(config.run, config.stage)
        self.model = self.painter.stage.model
        self.order(Request())

    def course(self, request: Request) -> Course[Asset]:
        """The way of one request.

        Raises:
            MaquetteError: no mesh, one without area, unknown options, or something that the run cannot be conditioned
                on.
        """
        if request.mesh is None:
            raise MaquetteError("texturing needs a mesh to paint; give one, e.g. --mesh chair.glb")
        order = self.order(request)
        self.painter.stage.complete(replace(request, mesh=None))  # before any work is done for it
        mesh, parts, layout = yield Call(laid_out, (request.mesh, order, self.config.unwrap))
        places, normals, _ = sampled(in_unit_cube(request.mesh), self.config.points, 0)
        painted = yield from self.painter.painting(request, places, normals)
        result = baked(mesh, in_unit_cube(mesh), parts, painted.at)
        return Asset(result, {**self._metadata(request, painted), "size": order.size, "layout": layout})

    def order(self, request: Request) -> Order:
        """The request's options, where it has some, else the configured ones.

        Raises:
            MaquetteError: an option that there is not, or a value that cannot be.
        """
        for key in request.options:
            if key not in OPTIONS:
                raise unknown_name("option", str(key), OPTIONS, where="of a texture")
        size = request.options.get("size", self.config.size)
        keep = request.options.get("keep_uv", self.config.keep_uv)
        keep = {True: "always", False: "never"}.get(keep, keep)
        if not isinstance(size, int) or not LEAST <= size <= MOST:
            raise MaquetteError(f"size of a texture is {size!r}; give a whole number of texels from {LEAST} to {MOST}")
        if keep not in KEEP:
            raise unknown_name("keep_uv", str(keep), KEEP, where="of a texture")
        return Order(size, str(keep))

    @torch.inference_mode()
    def _metadata(self, request: Request, painted: Painted) -> dict[str, object]:
        stage = self.painter.stage
        return {
            **stage.told(replace(request, mesh=None)),
            "tokens": len(painted.latent),
            "latent_sha256": painted.sha256,
        }


def laid_out(mesh: Mesh, order: Order, unwrap: Mapping[str, Any]) -> tuple[Mesh, list[Layout], str]:
    """A mesh with texture coordinates, what its texels show, and in words where the coordinates are from.

    Raises:
        MaquetteError: it cannot be unwrapped, or its own coordinates are to be kept and it has none.
    """
    if mesh.uv is None and order.keep_uv == "always":
        raise MaquetteError("the mesh has no texture coordinates to keep; leave out keep_uv")
    said = "unwrapped"
    if mesh.uv is not None and order.keep_uv != "never":
        cube = in_unit_cube(mesh)
        shown, why = share_shown(cube, sampled(cube, CHECKED, 0)[2])
        if order.keep_uv == "always" or shown >= SHOWN:
            return mesh, layouts(mesh, order.size), "kept" if shown >= SHOWN else f"kept, although {why}"
        said = f"unwrapped anew: {why}"
    bare = replace(mesh, uv=None, material=None, materials=(), images=())
    mesh = finish(Asset(bare), [{"resolution": order.size, **unwrap}]).mesh
    return mesh, layouts(mesh, order.size), said
