"""Texture edits of procedural shapes that no model has seen: is what was asked for there, did all else stay?

    python benchmarks/models_texture_editing.py [RUN] [edits=120] [pipeline.KEY=..]

Each edit asks in words for another colour of a part of a shape, or of a half of it: the paint is recoloured. Their
paint has blotches, from half to one and a half times as bright. With RUN, one that paints (pipeline `view_texture` or
`texture`), the region is painted anew instead, by a prompt that names the shape's class and the colour.

An edit is met where most texels of the region are nearest, in CIELAB, to the colour asked for, of a palette of eight;
no region has that colour before. Which texels those are is told by the shape's own distance field, not by the labels
that the edit goes by. All shapes are of variety .25 and seed 43000, at 24 cells, every face with a cell of the atlas.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.color import rgb2lab

from maquette import plugins
from maquette.cli import run
from maquette.config import read_words
from maquette.finishing import finish
from maquette.placement import in_unit_cube
from maquette.progress import track
from maquette.types import Asset, Mesh, Request
from maquette_data3d import sample_shape
from maquette_data3d.procedural import ProceduralShape
from maquette_models.evaluation.estimates import share
from maquette_models.metrics.color_accuracy import PALETTE, hex_to_rgb
from maquette_models.texturing.view_atlas import Atlas, atlas_of, painted
from maquette_models.texturing.view_attributes import decoded, shown_attributes
from maquette_models.texturing.view_maps import corner_normals

SEED, VARIETY, CELLS, SIZE = 43_000, 0.25, 24, 256
WORDINGS = ("make the {what} {color}", "paint the {what} {color}", "{color} {what}", "turn the {what} into {color}")
PLACES = ("upper half", "lower half", "left half", "front half")
PALETTE_LAB = rgb2lab(np.array([hex_to_rgb(code) for code in PALETTE.values()])[None])[0]
LEAST = 0.01  # of the texels, that a part must have to be edited


def textured(shape: ProceduralShape) -> tuple[Mesh, Atlas]:
    """The shape with labelled faces and blotched paint in two images, and its atlas."""
    mesh = shape.mesh(CELLS)
    middle = mesh.vertices[mesh.faces].mean(axis=1).astype(np.float64)
    labels = shape.part_of(middle).astype(np.int32)
    mesh = replace(mesh, part=labels, part_names=tuple(shape.program.part_names))
    mesh = finish(Asset(mesh), [{"name": "unwrap", "largest_faces": 0, "resolution": SIZE}]).mesh
    atlas = atlas_of(mesh, corner_normals(mesh), SIZE)
    places = atlas.points.positions.numpy().astype(np.float64)
    part = shape.part_of(places)
    finishes = np.array([(material.metallic, material.roughness) for material in shape.program.materials])
    blotches = 1 + 0.5 * np.sin(places @ np.array([[23.0, 11], [-17, 29], [19, -13]])).prod(axis=1)
    color = (shape.program.part_colors[part] * blotches[:, None]).clip(0, 1)
    values = np.concatenate([color, finishes[part]], axis=1)
    return painted(mesh, atlas, torch.from_numpy(values.astype(np.float32)), "blotched"), atlas


def asked_for(
    shape: ProceduralShape, mesh: Mesh, atlas: Atlas, rng: np.random.Generator, place: bool
) -> tuple[str, NDArray[np.bool_]]:
    """What to change, in words, and which of the atlas's texels that is, by the shape itself."""
    if place:
        words = str(rng.choice(PLACES))
        axis, upper = {"upper": (1, True), "lower": (1, False), "left": (0, True), "front": (2, True)}[
            words.split(maxsplit=1)[0]
        ]
        along = atlas.points.positions[:, axis].numpy()
        middle = (along.min() + along.max()) / 2
        return words, along > middle + 0.02 if upper else along < middle - 0.02  # the seam is .02 wide
    part = shape.part_of(atlas.points.positions.numpy().astype(np.float64))
    names = [i for i, name in enumerate(shape.program.part_names) if (part == i).mean() > LEAST and i in mesh.part]
    chosen = int(rng.choice(names))
    return shape.program.part_names[chosen].rstrip("0123456789 "), part == chosen


def color_of_most(mesh: Mesh, atlas: Atlas, chosen: NDArray[np.bool_]) -> str:
    """The palette's colour that most of the chosen texels are nearest to."""
    kept = torch.from_numpy(np.flatnonzero(chosen))
    shown = shown_attributes(mesh, atlas.face[kept], atlas.share[kept])[:, :3].double().numpy()
    nearest = np.linalg.norm(rgb2lab(shown[None])[0][:, None] - PALETTE_LAB, axis=2).argmin(axis=1)
    return list(PALETTE)[int(np.bincount(nearest, minlength=len(PALETTE)).argmax())]


def stayed(before: Mesh, after: Mesh, atlas: Atlas, edited: NDArray[np.bool_]) -> bool:
    """Whether all texels of faces that lie outside what was edited are what they were, in both images."""
    rows = atlas.covered.nonzero().numpy()[~edited]
    pairs = [(decoded(mesh.images[i]) for mesh in (before, after)) for i in (0, 1)]
    return all(np.array_equal(a[rows[:, 0], rows[:, 1]], b[rows[:, 0], rows[:, 1]]) for a, b in pairs)


def told(found: list[bool]) -> str:
    """A share with its interval, in words."""
    figure = share(sum(found), len(found))
    low, high = figure.interval or (0.0, 1.0)
    return f"{figure.value:.3f} [{low:.3f}, {high:.3f}] n={figure.n}"


def main() -> None:
    """Measures and prints."""
    folders = [word for word in sys.argv[1:] if "=" not in word]
    given = read_words([word for word in sys.argv[1:] if "=" in word])
    block = {"name": "texture_edit", **({"run": folders[0]} if folders else {}), **given.pop("pipeline", {})}
    pipeline, count = plugins.build("pipelines", block), int(given.pop("edits", 120))
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    met: dict[str, list[bool]] = {"part": [], "place": []}
    kept, seconds = [], []
    for number in track(range(count), "Editing"):
        shape = sample_shape(SEED, number, VARIETY)
        mesh, atlas = textured(shape)
        kind = "place" if number % 3 == 2 else "part"
        what, chosen = asked_for(shape, mesh, atlas, rng, kind == "place")
        now = color_of_most(mesh, atlas, chosen)
        color = str(rng.choice([name for name in PALETTE if name != now]))
        request = Request(
            mesh=mesh, seed=number, options={"instruction": WORDINGS[number % 4].format(what=what, color=color)}
        )
        if folders:
            where = {"region": what} if kind == "place" else {"part": what}
            request = replace(request, prompt=f"a {color} {shape.class_name}", options=where)
        start = time.process_time()
        edited = pipeline(request).mesh
        seconds.append(time.process_time() - start)
        met[kind].append(color_of_most(edited, atlas, chosen) == color)
        kept.append(stayed(mesh, edited, atlas, region_texels(mesh, atlas, kind, what)))
    for kind, found in met.items():
        print(f"{kind}: met {told(found)}")
    print(f"all: met {told([*met['part'], *met['place']])}")
    print(
        f"untouched texels identical in {told(kept)}; {np.median(seconds):.2f} CPU-s an edit of {SIZE} x {SIZE} texels"
    )


def region_texels(mesh: Mesh, atlas: Atlas, kind: str, what: str) -> NDArray[np.bool_]:
    """Which of the atlas's texels the edit may change: by the labels, or the place's box."""
    from maquette_models.texturing.edit_regions import region_of

    option = {"region": what} if kind == "place" else {"part": what}
    return region_of(in_unit_cube(mesh), option)(atlas.face.numpy(), atlas.share.numpy().astype(np.float64))


if __name__ == "__main__":
    run(main)
