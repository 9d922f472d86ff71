"""New paint for a region from a trained run, which sees the paint around it."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from maquette.assets import open_pipeline
from maquette.errors import MaquetteError
from maquette.types import Mesh, Request
from maquette_models.surface_points import sampled
from maquette_models.texturing.edit_regions import Region
from maquette_models.texturing.painted_points import PaintedPoints
from maquette_models.texturing.painter import Kept
from maquette_models.texturing.texture import Texture
from maquette_models.texturing.view_attributes import shown_attributes
from maquette_models.texturing.view_inpainting import inpaint_surface
from maquette_models.texturing.view_painter import KnownPictures
from maquette_models.texturing.view_projection import SurfacePoints
from maquette_models.texturing.view_scene import viewed
from maquette_models.texturing.view_texture import ViewTexture


class Content(Protocol):
    """What fills a region anew."""

    def __call__(self, request: Request, mesh: Mesh, region: Region, points: SurfacePoints) -> Tensor:
        """Base colour (sRGB), metallic and roughness [P,5] of points of the region.

        Args:
            request: says what the whole is to be.
            mesh: in the unit cube, as it is painted.
            region: which may change.
        """


class ViewContent:
    """By a pipeline `view_texture`: pictures of the mesh, of which the region's pixels are drawn anew, in `rounds` a
    step (RePaint)."""

    def __init__(self, pipeline: ViewTexture, rounds: int) -> None:
        self.pipeline, self.rounds = pipeline, rounds

    def __call__(self, request: Request, mesh: Mesh, region: Region, points: SurfacePoints) -> Tensor:
        """See `Content`."""
        painter = self.pipeline.painter
        scene = viewed(mesh, painter.views, painter.size, self.pipeline.config.candidates)
        maps, seen = scene.maps, scene.maps.covered
        free = torch.zeros_like(seen)
        free[seen] = inside(region, maps.face[seen], maps.barycentric[seen])
        pictures = painter.paint(request, scene, KnownPictures(scene.pictures(), free, self.rounds))
        # Only what was drawn anew is laid back: a pixel outside the region shows what is to be replaced.
        drawn = replace(scene, maps=replace(maps, face=torch.where(free, maps.face, -1)))
        values, weight = drawn.laid_back(points, pictures)
        return inpaint_surface(points, values, weight > 0)


class PaintContent:
    """By a pipeline `texture`: the surface's paint as tokens, of which those of cells that the region reaches are drawn
    anew."""

    def __init__(self, pipeline: Texture) -> None:
        self.pipeline = pipeline

    def __call__(self, request: Request, mesh: Mesh, region: Region, points: SurfacePoints) -> Tensor:
        """See `Content`."""
        painter = self.pipeline.painter
        places, normals, (face, weights) = sampled(mesh, self.pipeline.config.points, 0)
        share = torch.from_numpy(weights).float()
        shown = shown_attributes(mesh, torch.from_numpy(face), share)
        paint = torch.cat([shown, torch.ones(len(shown), 1)], dim=1)
        known = painter.encode(PaintedPoints(places[None], normals[None], paint[None] * 2 - 1))
        side = painter.autoencoder.latent_resolution
        reached = torch.zeros(side, side, side, dtype=torch.bool)
        cells = ((places[inside(region, torch.from_numpy(face), share)] + 0.5) * side).floor().long()
        reached[tuple(cells.clamp(0, side - 1).unbind(1))] = True
        free = reached[tuple(known.cells.coords[:, 1:].long().unbind(1))]
        painted = painter.paint(request, places, normals, Kept(known.latent, free))
        return painted.at(points.positions, points.normals)[:, :5]


def inside(region: Region, face: Tensor, share: Tensor) -> Tensor:
    """Which points of faces [P], with weights of their corners [P,3], lie in a region, bool [P]."""
    return torch.from_numpy(region(face.numpy().astype(np.int64), share.numpy().astype(np.float64)))


def content_of(run: str, rounds: int) -> Content:
    """What a run paints with.

    Raises:
        MaquetteError: its pipeline paints nothing.
    """
    pipeline = open_pipeline(run)
    if isinstance(pipeline, ViewTexture):
        return ViewContent(pipeline, rounds)
    if isinstance(pipeline, Texture):
        return PaintContent(pipeline)
    raise MaquetteError(f"'{run}' does not paint; give a run whose pipeline is 'texture' or 'view_texture'")
