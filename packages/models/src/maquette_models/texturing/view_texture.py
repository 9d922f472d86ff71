"""The pipeline that paints a mesh by several views of it: pictures of its maps, laid back on its atlas, filled in."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from omegaconf import MISSING

from maquette.errors import MaquetteError, unknown_name
from maquette.one_by_one import OneByOne
from maquette.placement import in_unit_cube
from maquette.types import Asset, Mesh, Request
from maquette_models.adapters.hot_swap import HotSwap
from maquette_models.pipelines.flow_stage import FlowStageConfig
from maquette_models.pipelines.option_values import whole_number
from maquette_models.texturing.view_atlas import atlas_of, painted, with_uv
from maquette_models.texturing.view_inpainting import inpaint_surface
from maquette_models.texturing.view_painter import ViewPainter
from maquette_models.texturing.view_scene import viewed

OPTIONS = ("size", "keep_uv", "views")


@dataclass
class ViewTextureConfig:
    """`run` is the folder of a run that trained a flow on `view_textures`.

    `views` are chosen from `candidates`; 0 is as many as in training. The images have `size` texels a side. `keep_uv`
    is "auto", "always" or "never" (see `with_uv`). A request's options `size`, `keep_uv` and `views`
    go before.
    """

    run: str = MISSING
    stage: FlowStageConfig = field(default_factory=FlowStageConfig)
    views: int = 0
    candidates: int = 30
    size: int = 512
    keep_uv: str = "auto"


class ViewTexture(HotSwap, OneByOne):
    """Requests have a mesh; its shape comes back as it was, with one material and two images."""

    def __init__(self, config: ViewTextureConfig) -> None:
        self.config = config
        self.painter = ViewPainter(config.run, config.stage)
        self.model = self.painter.stage.model

    def __call__(self, request: Request) -> Asset:
        """The asset of one request.

        Raises:
            MaquetteError: no mesh, an unknown option, texture coordinates that cannot be painted on, or a request that
                the run cannot be conditioned on.
        """
        mesh = mesh_of(request)
        options = {key: request.options.get(key, getattr(self.config, key)) for key in OPTIONS}
        mesh = with_uv(mesh, options["keep_uv"])
        views = whole_number(options["views"] or self.painter.views, "views")
        scene = viewed(in_unit_cube(mesh), views, self.painter.size, self.config.candidates)
        atlas = atlas_of(scene.mesh, scene.normals, whole_number(options["size"], "size"))
        pictures = self.painter.paint(request, scene)
        values, weight = scene.laid_back(atlas.points, pictures)
        values = inpaint_surface(atlas.points, values, weight > 0)
        metadata = {
            **self.painter.stage.told(replace(request, mesh=None, options={})),
            "views": len(scene.cameras),
            "texels_seen": round(float((weight > 0).float().mean()), 4),
        }
        return Asset(painted(mesh, atlas, values), metadata)


def mesh_of(request: Request) -> Mesh:
    """The mesh to paint.

    Raises:
        MaquetteError: there is none, or an option that the pipeline does not know.
    """
    for key in request.options:
        if key not in OPTIONS:
            raise unknown_name("option", str(key), OPTIONS, where="of pipeline 'view_texture'")
    if request.mesh is None:
        raise MaquetteError("pipeline 'view_texture' paints a mesh; give one with the request")
    return request.mesh
