"""Local edits of procedural shapes that no model has seen: is the attribute met, does the rest stay where it was?

    python benchmarks/models_editing.py [RUN] [edits=140] [only=[lamp,mug]] [seed=0] [source=false] [picture=FILE.png]
        [pipeline.KEY=..]

RUN is a generator that was trained on shapes of variety .25, as examples/pretrain.py makes it. A region of each shape
is made anew by a prompt that asks for another value of an attribute, and told what the shape was unless source=false.
The judge of a form is a classifier of that region
of real shapes, of a colour the area that has it; its accuracy on other real shapes is the ceiling. Beside it: how often
the judge sees that value in the shapes as they were. The last line is of all attributes but those that the judge itself
sees in less than nine of ten real shapes. Distances are those of 20,000 points of either surface that lie
outside the region to the other surface, in voxels of the autoencoder's grid.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from maquette import plugins
from maquette.assets import open_pipeline
from maquette.cli import run
from maquette.config import read_words
from maquette.progress import track
from maquette.types import Mesh, Request
from maquette_data3d import contact_sheet, sample_shape
from maquette_kernels.ops import MeshQuery
from maquette_models.editing.regions import region_mask
from maquette_models.evaluation.estimates import share
from maquette_models.metrics.mesh_topology import is_closed
from maquette_models.metrics.shape_classifier import coarse_occupancy, train_classifier
from maquette_models.surface_points import surface_points

VARIETY, POINTS, PICTURES = 0.25, 20_000, 4
REAL, HELD_OUT, STEPS = 240, 120, 200  # real shapes behind a judge, those behind its ceiling, and its training
JUDGE_SEED, EDIT_SEED = 41_000, 42_000
SURE = 0.9  # a judge's ceiling from which its verdicts count in the last line


@dataclass(frozen=True)
class Change:
    """An attribute of a class, its values, the region that shows it, and a prompt with the shape's attributes."""

    class_name: str
    attribute: str
    values: tuple[str, ...]
    region: dict[str, Any]
    prompt: str


BRIGHT = ("red", "orange", "yellow", "green", "blue", "purple", "pink")
UPPER_HALF, UPPER_THIRD, MIDDLE = (
    {"region": "upper half"},
    {"region": "upper third"},
    {"box": [[-0.25] * 3, [0.25] * 3]},
)
CHANGES = (
    Change("lamp", "shade", ("cone", "drum"), {"region": "upper 70 %"}, "a {size} {color} lamp with a {shade} shade"),
    Change("table", "top", ("round", "square"), UPPER_HALF, "a {size} {top} {color} table with {leg_thickness} legs"),
    Change("chair", "back", ("solid", "slatted"), UPPER_HALF, "a {size} {color} chair with a {back} back"),
    Change(
        "mug", "handle", ("round", "square"), {"region": "left half"}, "a {size} {color} mug with a {handle} handle"
    ),
    Change("gear", "bore", ("large", "small"), MIDDLE, "a {size} {color} gear with a {bore} bore"),
    Change(
        "creature", "tail", ("short", "long"), {"region": "back third"}, "a {girth} {color} creature, a {tail} tail"
    ),
    Change("creature", "ears", ("round", "pointed"), UPPER_THIRD, "a {girth} {color} creature with {ears} ears"),
    Change("car", "color", BRIGHT, UPPER_HALF, "a {size} {color} car with {wheels} wheels"),
    Change("mug", "color", BRIGHT, UPPER_HALF, "a {size} {color} mug with a {handle} handle"),
)


class Judge:
    """Which of its values an attribute of a shape has, by what is in the region alone: the rest is not edited."""

    def __init__(self, change: Change) -> None:
        self.change = change
        x, y = self._real(JUDGE_SEED, REAL)
        self.classifier = train_classifier(x, y, len(change.values), STEPS, seed=0)
        x, y = self._real(JUDGE_SEED + 1, HELD_OUT)
        self.ceiling = float((self.classifier(x).argmax(dim=1) == y).float().mean())

    def _real(self, seed: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        shapes = [sample_shape(seed, i, VARIETY, [self.change.class_name]) for i in range(count)]
        labels = [self.change.values.index(shape.attributes[self.change.attribute]) for shape in shapes]
        fields = (torch.from_numpy(shape.tsdf())[None, None] for shape in shapes)
        return torch.cat([self._region(field) for field in fields]), torch.tensor(labels)

    def _region(self, field: torch.Tensor, mask: np.ndarray | None = None) -> torch.Tensor:
        """The coarse occupancy of a distance grid in the region, as it lies on the shape itself where no mask says."""
        if mask is None:
            cells = (field[0, 0] < 0).nonzero().numpy() + 0.5
            ends = np.stack([cells.min(axis=0), cells.max(axis=0), cells.max(axis=0)]) / len(field[0, 0]) - 0.5
            mask = region_mask(Mesh(ends, np.array([[0, 1, 2]])), self.change.region, len(field[0, 0]), 0.0)
        return coarse_occupancy(torch.where(torch.from_numpy(mask), field, 1.0))

    def sees(self, mesh: Mesh, field: torch.Tensor, mask: np.ndarray | None = None) -> str:
        """The value in a distance grid [1,1,R,R,R]; the mesh is that of the same shape."""
        return self.change.values[int(self.classifier(self._region(field, mask)).argmax())]


class ColorJudge:
    """Which colour leads in the region, by area; white is trim on many shapes and counts where nothing else does."""

    def __init__(self, change: Change) -> None:
        self.change, self.metric = change, plugins.build("metrics", {"name": "color_accuracy"})
        shapes = [sample_shape(JUDGE_SEED, i, VARIETY, [change.class_name]) for i in range(HELD_OUT)]
        seen = [(self.sees(shape.mesh(48), torch.empty(0)), shape.attributes["color"]) for shape in shapes]
        self.ceiling = sum(one == other for one, other in seen) / len(seen)

    def sees(self, mesh: Mesh, field: torch.Tensor, mask: np.ndarray | None = None) -> str:
        """The colour of a mesh in the region, as it lies on the mesh itself where no mask says."""
        mask = region_mask(mesh, self.change.region, 64, 0.0) if mask is None else mask
        cell = ((mesh.vertices[mesh.faces].mean(axis=1) + 0.5) * len(mask)).astype(np.int64).clip(0, len(mask) - 1)
        shares = self.metric.shares(Mesh(mesh.vertices, mesh.faces[mask[tuple(cell.T)]], mesh.colors))
        bright = {name: part for name, part in shares.items() if name != "white" and part >= self.metric.config.share}
        return max(bright or shares, key=lambda name: shares[name])


@dataclass
class Outcome:
    """What one edit came to; distances are in the unit cube's units."""

    met: bool
    met_before: bool
    closed: bool
    distances: np.ndarray


def distances_outside(one: Mesh, other: Mesh, mask: np.ndarray) -> np.ndarray:
    """Of points of `one` outside a mask [R,R,R], to the surface of `other`."""
    points = surface_points(one, POINTS)[0]
    cell = ((points.numpy() + 0.5) * len(mask)).astype(np.int64).clip(0, len(mask) - 1)
    query = MeshQuery(torch.from_numpy(other.vertices), torch.from_numpy(other.faces))
    return query.closest(points[torch.from_numpy(~mask[tuple(cell.T)])])[0].numpy()


def edit(pipeline: Any, judge: Judge | ColorJudge, number: int, seed: int, told: bool) -> tuple[Outcome, list[Any]]:
    """One edit of a shape to the value that it does not have, and its two tiles of a picture; `told` what it was."""
    change, config = judge.change, pipeline.config
    shape = sample_shape(EDIT_SEED + seed, number, VARIETY, [change.class_name])
    given = shape.mesh(128)
    values = [value for value in change.values if value != shape.attributes[change.attribute]]
    wanted = values[number % len(values)]
    prompt = change.prompt.format(**{**shape.attributes, change.attribute: wanted})
    source = {"source": change.prompt.format(**shape.attributes)} if told else {}
    asset, field = pipeline.edit(Request(prompt, seed + number, mesh=given, options={**change.region, **source}))
    mask = region_mask(given, change.region, config.extract, config.margin)
    there, back = distances_outside(given, asset.mesh, mask), distances_outside(asset.mesh, given, mask)
    before = judge.sees(given, torch.from_numpy(shape.tsdf())[None, None])
    outcome = Outcome(
        judge.sees(asset.mesh, field, mask) == wanted,
        before == wanted,
        is_closed(asset.mesh),
        np.concatenate([there, back]),
    )
    return outcome, [(given, shape.caption), (asset.mesh, prompt)]


def main(words: list[str]) -> None:
    given = read_words(words[1:])
    pipeline = open_pipeline(words[0], {"name": "edit", **given.get("pipeline", {})})
    changes = [change for change in CHANGES if change.class_name in given.get("only", change.class_name)]
    each = max(1, int(given.get("edits", 140)) // len(changes))
    seed, told, voxels = int(given.get("seed", 0)), bool(given.get("source", True)), pipeline.resolution
    outcomes: list[Outcome] = []
    rows = []
    print("class     attribute  ceiling  met                     met before  closed  moved: mean, max (voxels)")
    for change in changes:
        judge = ColorJudge(change) if change.attribute == "color" else Judge(change)
        numbers = track(range(each), f"Editing {change.class_name}s")
        made = [edit(pipeline, judge, number, seed, told) for number in numbers]
        rows.append([tile for _, tiles in made[:PICTURES] for tile in tiles])
        outcomes += [outcome for outcome, _ in made if judge.ceiling >= SURE]
        name = f"{change.class_name:9s} {change.attribute:9s}"
        print(f"{name} {judge.ceiling:8.3f}  {line([outcome for outcome, _ in made], voxels)}", flush=True)
    if outcomes:
        print(f"{'all':19s} {'':8s}  {line(outcomes, voxels)}")
    if "picture" in given:
        contact_sheet(rows, given.picture)


def line(outcomes: list[Outcome], voxels: int) -> str:
    """The figures of some edits."""
    met = share(sum(outcome.met for outcome in outcomes), len(outcomes))
    low, high = met.interval or (0.0, 1.0)
    moved = np.concatenate([outcome.distances for outcome in outcomes]) * voxels
    before, closed = (np.mean([getattr(o, name) for o in outcomes]) for name in ("met_before", "closed"))
    figure = f"{met.value:.3f} [{low:.2f}, {high:.2f}] n={met.n}"
    return f"{figure:23s} {before:10.3f}  {closed:6.3f}  {moved.mean():.3f}, {moved.max():.3f}"


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:] or ["runs/pretrain"]))
