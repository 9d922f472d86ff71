"""Painting by views, of procedural shapes that no model has seen: the colour asked for, the paint, views that agree.

    python benchmarks/models_view_texture.py RUN [shapes=100] [pipeline.KEY=..]

RUN was trained by examples/configs/view_texture.yaml. Each shape (variety .25, seed 44000, 48 cells) is painted by its
own caption and compared with its true paint at its vertices. Beside it stands a constant, the mean of 200 other shapes.
`consistency` is the root mean square of differences between two views of a point that both see well, over all pairs of
views; `round trip` is the PSNR where the true paint is rendered and laid back.
"""

from __future__ import annotations

import sys
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maquette import plugins
from maquette.assets import open_pipeline
from maquette.cli import run
from maquette.config import read_words
from maquette.progress import track
from maquette.types import Mesh, Request
from maquette_data3d import sample_shape
from maquette_data3d.procedural import ProceduralShape
from maquette_models.evaluation.estimates import mean
from maquette_models.texturing.view_attributes import to_bytes
from maquette_models.texturing.view_inpainting import inpaint_surface
from maquette_models.texturing.view_maps import corner_normals
from maquette_models.texturing.view_projection import SurfacePoints, at
from maquette_models.texturing.view_scene import ViewedMesh, viewed

SEED, VARIETY, CELLS = 44_000, 0.25, 48
OTHERS = 200  # shapes behind the mean paint
WELL = 0.05  # weight from which a view sees a point well


def true_paint(shape: ProceduralShape, points: np.ndarray) -> Tensor:
    """Base colour, metallic and roughness [P,5] of places on a shape."""
    part = shape.part_of(points.astype(np.float64))
    finish = np.array([(material.metallic, material.roughness) for material in shape.program.materials])
    return torch.from_numpy(np.concatenate([shape.program.part_colors[part], finish[part]], axis=1).astype(np.float32))


def vertices_of(mesh: Mesh) -> SurfacePoints:
    """The mesh's vertices as points of its surface."""
    normals = torch.zeros(len(mesh.vertices), 3)
    corners = torch.from_numpy(mesh.faces.astype(np.int64)).flatten()
    normals.index_add_(0, corners, corner_normals(mesh).flatten(0, 1))
    unit = torch.nn.functional.normalize(normals, dim=1)
    return SurfacePoints(torch.from_numpy(mesh.vertices), unit, torch.zeros(len(unit), dtype=torch.bool))


def psnr(found: Tensor, true: Tensor) -> float:
    """Decibels, of values in [0,1]."""
    return float(-10 * torch.log10((found - true).square().mean().clamp(min=1e-10)))


def disagreement(scene: ViewedMesh, points: SurfacePoints, pictures: Tensor) -> float:
    """Root mean square difference of base colours between views that see a point well."""
    views = []
    for number in range(len(scene.cameras)):
        one = torch.zeros(len(pictures), dtype=torch.bool)
        one[number] = True
        views.append(single(scene, number).laid_back(points, pictures[one]))
    squares = []
    for (a, weight_a), (b, weight_b) in combinations(views, 2):
        both = (weight_a > WELL) & (weight_b > WELL)
        squares.append((a - b)[both, :3].square().mean(dim=1))
    return float(torch.cat(squares).mean().sqrt()) if squares and len(torch.cat(squares)) else 0.0


def single(scene: ViewedMesh, number: int) -> ViewedMesh:
    """One view of a scene alone."""
    cameras = scene.cameras.chosen([number])
    return ViewedMesh(scene.mesh, scene.normals, cameras, at(scene.maps, number), at(scene.fine, number))


def true_pictures(shape: ProceduralShape, scene: ViewedMesh) -> Tensor:
    """The true paint as the scene's views show it, [V,5,S,S]."""
    seen = scene.maps.covered
    shown = torch.zeros(*seen.shape, 5)
    shown[seen] = true_paint(shape, scene.maps.position.movedim(1, -1)[seen].numpy())
    return shown.movedim(-1, 1)


def main(words: list[str]) -> None:
    given = read_words(words[1:])
    pipeline: Any = open_pipeline(words[0], dict(given.get("pipeline", {})))
    painter = pipeline.painter
    torch.set_num_threads(1)
    others = [sample_shape(SEED + 1, number, VARIETY) for number in range(OTHERS)]
    usual = torch.stack([true_paint(shape, shape.surface_points(64, np.random.default_rng(0))[0]).mean(0)
                         for shape in others]).mean(0)  # fmt: skip
    accuracy = plugins.build("metrics", {"name": "color_accuracy"})
    rows: dict[str, list[float]] = {}
    for number in track(range(int(given.get("shapes", 100))), "Painting"):
        shape = sample_shape(SEED, number, VARIETY)
        mesh = shape.mesh(CELLS)
        points, true = vertices_of(mesh), true_paint(shape, mesh.vertices)
        scene = viewed(mesh, pipeline.config.views or painter.views, painter.size, pipeline.config.candidates)
        pictures = painter.paint(Request(shape.caption, seed=number), scene)
        values, weight = scene.laid_back(points, pictures)
        values = inpaint_surface(points, values, weight > 0)
        back, known = scene.laid_back(points, true_pictures(shape, scene))
        colors = np.concatenate([to_bytes(values[:, :3].double().numpy()), np.full((len(values), 1), 255, np.uint8)], 1)
        accuracy.update(Mesh(mesh.vertices, mesh.faces, colors), shape.caption)
        for name, value in {
            "PSNR of base colour (dB)": psnr(values[:, :3], true[:, :3]),
            "  beside: mean of others": psnr(usual[:3].expand_as(true[:, :3]), true[:, :3]),
            "PSNR of metallic, roughness (dB)": psnr(values[:, 3:], true[:, 3:]),
            "  beside: mean of others ": psnr(usual[3:].expand_as(true[:, 3:]), true[:, 3:]),
            "consistency of views (rms)": disagreement(scene, points, pictures),
            "  beside: true pictures": disagreement(scene, points, true_pictures(shape, scene)),
            "share of vertices seen": float((weight > 0).float().mean()),
            "round trip of seen vertices (dB)": psnr(back[known > 0], true[known > 0]),
        }.items():
            rows.setdefault(name, []).append(value)
    print(f"{'text colour accuracy':34s} {float(accuracy.compute()):.3f} n={int(accuracy.count)}")
    for name, found in rows.items():
        figure = mean(found)
        low, high = figure.interval or (0.0, 0.0)
        print(f"{name:34s} {figure.value:.3f} [{low:.3f}, {high:.3f}] n={figure.n}")


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:] or ["runs/view_texture"]))
