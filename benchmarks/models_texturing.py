"""Paint of held-out shapes: how near is it to their own, and does it have the colours that are asked for?

    python benchmarks/models_texturing.py RUN SHARDS [split=val] [count=200] [guide=text] [pipeline.KEY=..]

RUN trained a flow on `paint_latents` of SHARDS. Each shape of the split is painted from its points and what `guide`
says of it: text (its caption), image (its first picture), both, or none. Compared at 2048 points that the painter did
not see: PSNR of base colour (sRGB), metallic and roughness together, from the mean squared error over all shapes, and
the mean absolute error of base colour. Beside it stand the autoencoder alone and what one would do without a model: the
mean paint of the training set, the shape's own mean paint (which nobody knows beforehand), the paint at the nearest
points of the training shape with the most alike cells, and of that among those whose captions name the same colour.

Colours are judged where the shape itself has the colour that its caption names: right when more than half of those
points are nearest to it among the palette's eight, in CIELAB.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from skimage.color import rgb2lab
from torch import Tensor

from maquette.assets import open_pipeline
from maquette.cli import run
from maquette.config import read_words
from maquette.progress import track
from maquette.report import Figure
from maquette.types import Request
from maquette_kernels.ops import nearest_neighbours
from maquette_models.conditioners.class_caption import words
from maquette_models.evaluation.estimates import mean, share
from maquette_models.metrics.color_accuracy import PALETTE, hex_to_rgb
from maquette_models.shards import read_shards
from maquette_models.texturing.painted_points import FIELDS, PaintedPoints
from maquette_models.texturing.painter import Painter

SEEN, ASKED = 6144, 2048
STORED = 1024  # points kept of each training shape
CELLS = 16  # a side, in which shapes are alike
NEAR = 12.0  # CIELAB: a point has a named colour
GUIDES = ("text", "image", "both", "none")


@dataclass(frozen=True)
class Shape:
    """One shape: its points and paint [P,6] in [0,1], caption and pictures."""

    places: Tensor
    normals: Tensor
    paint: Tensor
    caption: str
    picture: Tensor | None

    @property
    def color(self) -> str | None:
        """The palette's colour that the caption names first."""
        return next((word for word in words(self.caption) if word in PALETTE), None)


def shapes(folder: str, split: str, count: int, points: int, pictures: bool) -> list[Shape]:
    """At most so many shapes of a split."""
    found: list[Shape] = []
    fields = [*FIELDS, *(["view_rgb"] if pictures else [])]
    for batch in read_shards(folder, split, fields=fields, points=0):
        own = PaintedPoints.of_batch(batch).window(0, points)
        for row, caption in enumerate(batch["caption"]):
            picture = batch["view_rgb"][row, 0] if pictures else None
            paint = own.paint[row] * 0.5 + 0.5
            found.append(Shape(own.places[row].clone(), own.normals[row].clone(), paint, caption, picture))
        if len(found) >= count:
            break
    return found[:count]


class Training:
    """The training shapes, to be looked up by shape."""

    def __init__(self, found: list[Shape]) -> None:
        self.shapes = found
        self.cells = torch.stack([occupied(shape.places) for shape in found])
        self.mean = torch.cat([shape.paint for shape in found]).mean(dim=0)

    def nearest(self, shape: Shape, same_color: bool) -> Tensor:
        """Paint [Q,6] of the points nearest to those asked for, of the training shape whose cells are most alike."""
        own = occupied(shape.places)
        likeness = (self.cells & own).sum(dim=1) / (self.cells | own).sum(dim=1)
        if same_color:
            likeness = likeness * torch.tensor([other.color == shape.color for other in self.shapes])
        best = self.shapes[int(likeness.argmax())]
        _, found = nearest_neighbours(shape.places[SEEN:], best.places)
        return best.paint[found[:, 0].long()]


def occupied(places: Tensor) -> Tensor:
    """bool [CELLS^3]: the cells that points lie in."""
    x, y, z = ((places + 0.5) * CELLS).long().clamp(0, CELLS - 1).unbind(1)
    grid = torch.zeros(CELLS**3, dtype=torch.bool)
    grid[(x * CELLS + y) * CELLS + z] = True
    return grid


def request_of(shape: Shape, guide: str, seed: int) -> Request:
    """What is asked of the painter."""
    picture = ()
    if guide in ("image", "both") and shape.picture is not None:
        picture = ((shape.picture.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy(),)
    return Request(shape.caption if guide in ("text", "both") else "", seed=seed, images=picture)


def paints(painter: Painter, training: Training, shape: Shape, request: Request) -> dict[str, Tensor]:
    """Paint [Q,6] of the points asked for, by who made it."""
    seen = (shape.places[:SEEN], shape.normals[:SEEN])
    asked = (shape.places[SEEN:], shape.normals[SEEN:])
    own = PaintedPoints(*(part[None] for part in (*seen, shape.paint[:SEEN] * 2 - 1)))
    mean_paint = shape.paint[:SEEN].mean(dim=0)
    return {
        "painted": painter.paint(request, *seen).at(*asked),
        "autoencoder": painter.encode(own).at(*asked),
        "mean paint of training": training.mean.expand(len(asked[0]), -1),
        "its own mean paint": mean_paint.expand(len(asked[0]), -1),
        "nearest training shape": training.nearest(shape, same_color=False),
        "nearest of the same colour": training.nearest(shape, same_color=True),
    }


def has_color(paint: Tensor, shape: Shape) -> bool | None:
    """Whether paint [Q,6] has the caption's colour where the shape has it; None where it has it nowhere."""
    if shape.color is None:
        return None
    palette = rgb2lab(np.array([hex_to_rgb(code) for code in PALETTE.values()])[None])[0]
    target = list(PALETTE).index(shape.color)
    true, made = (rgb2lab(values[None, :, :3].double().numpy())[0] for values in (shape.paint[SEEN:], paint))
    there = np.linalg.norm(true - palette[target], axis=1) < NEAR
    if there.sum() < ASKED // 100:
        return None
    nearest = np.linalg.norm(made[there][:, None] - palette, axis=2).argmin(axis=1)
    return bool((nearest == target).mean() > 0.5)


def shown(figure: Figure, digits: int = 3) -> str:
    low, high = figure.interval or (figure.value, figure.value)
    return f"{figure.value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def decibel(errors: list[float]) -> str:
    """PSNR of the mean of squared errors, with the interval of that mean."""
    figure = mean(errors)
    low, high = figure.interval or (figure.value, figure.value)
    value, worst, best = (-10 * np.log10(max(error, 1e-10)) for error in (figure.value, high, low))
    return f"{value:.2f} [{worst:.2f}, {best:.2f}]"


def table(results: list[dict[str, Tensor]], found: list[Shape]) -> None:
    """A line for each painter."""
    print(f"{'':28}{'PBR PSNR, dB':24}{'base colour error':24}{'colour accuracy':24}n = {len(found)}")
    for name in results[0]:
        errors = [result[name][:, :5] - shape.paint[SEEN:, :5] for result, shape in zip(results, found, strict=True)]
        squared = decibel([float(error.square().mean()) for error in errors])
        color = shown(mean([float(error[:, :3].abs().mean()) for error in errors]))
        hits = [has_color(result[name], shape) for result, shape in zip(results, found, strict=True)]
        known = [hit for hit in hits if hit is not None]
        accuracy = f"{shown(share(sum(known), len(known)))} n={len(known)}" if known else ""
        print(f"{name:28}{squared:24}{color:24}{accuracy}")


def main(arguments: list[str]) -> None:
    folder, shards, *more = arguments
    settings: dict[str, Any] = {"split": "val", "count": 200, "guide": "text", "pipeline": {}, **read_words(more)}
    pictures = settings["guide"] in ("image", "both")
    painter = open_pipeline(folder, settings["pipeline"]).painter
    training = Training(shapes(shards, "train", 10**9, STORED, pictures=False))
    found = shapes(shards, settings["split"], settings["count"], SEEN + ASKED, pictures)
    results = [
        paints(painter, training, shape, request_of(shape, settings["guide"], seed))
        for seed, shape in enumerate(track(found, "Painting"))
    ]
    table(results, found)


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
