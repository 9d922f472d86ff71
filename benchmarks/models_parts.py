"""Are parts found? Labels of points on held-out procedural shapes, and of faces of their meshes.

    python benchmarks/models_parts.py RUN SHARDS [limit=0] [faces=48] [baselines=true]

RUN trained examples/configs/parts.yaml on SHARDS. A shape's figure is the mean over its parts (those that it has or is
said to have) of intersection over union, on up to 1024 points. Beside it: the kind that most points of its class have
in training (the class is given), and the labels of the training shape whose coarse occupancy overlaps most, carried
over to the nearest points. `limit` takes the first so many shapes of a split, `faces` is the number of meshes whose
faces are labelled; their truth is the part at a face's middle.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maquette.assets import open_pipeline
from maquette.cli import run
from maquette.config import read_words
from maquette.progress import track
from maquette.types import Request
from maquette_data3d import sample_shape
from maquette_kernels.ops import nearest_neighbours
from maquette_models.evaluation.estimates import mean
from maquette_models.parts.part_labels import UNLABELLED, kind_of_part, point_labels
from maquette_models.parts.segmentation import Places
from maquette_models.shards import read_shards, shard_facts

FIELDS = ("surface", "normals", "surface_color", "surface_part")
ASKED, CELLS = 1024, 16


class Known:
    """Training shapes: what the baselines know."""

    def __init__(self, shards: str, kinds: list[str], points: int) -> None:
        self.points, self.labels, occupied = [], [], []
        counts: dict[int, Counter[int]] = defaultdict(Counter)
        for batch in read_shards(shards, "train", fields=FIELDS, points=points, part_names=True):
            labels = point_labels(batch, kinds)
            self.points += list(batch["surface"])
            self.labels += list(labels)
            occupied += [occupancy(points) for points in batch["surface"]]
            for class_id, row in zip(batch["class_id"].tolist(), labels, strict=True):
                counts[class_id].update(row[row != UNLABELLED].tolist())
        self.occupied = torch.stack(occupied)
        self.usual = {class_id: found.most_common(1)[0][0] for class_id, found in counts.items()}

    def nearest(self, points: Tensor, asked: Tensor) -> Tensor:
        """Labels [Q] of the points asked for, from the most alike training shape."""
        own = occupancy(points)
        shared = self.occupied @ own
        best = int((shared / (self.occupied.sum(1) + own.sum() - shared)).argmax())
        _, index = nearest_neighbours(asked[None], self.points[best][None], 1)
        return self.labels[best][index[0, :, 0]]


def occupancy(points: Tensor) -> Tensor:
    """float32 [CELLS^3]: 1 where points [P, 3] of the unit cube lie."""
    cells = ((points + 0.5) * CELLS).long().clamp(0, CELLS - 1)
    grid = torch.zeros(CELLS**3)
    grid[(cells[:, 0] * CELLS + cells[:, 1]) * CELLS + cells[:, 2]] = 1.0
    return grid


def part_iou(found: np.ndarray, truth: np.ndarray) -> float:
    """Mean over the parts that either has."""
    parts = np.union1d(found, truth)
    overlaps = [((found == p) & (truth == p)).sum() / ((found == p) | (truth == p)).sum() for p in parts]
    return float(np.mean(overlaps))


def labelled(pipeline: Any, row: dict[str, Any], color: bool) -> Tensor:
    """The likeliest kinds [ASKED] of a sample's last points."""
    whole = Places(row["surface"], row["normals"], row["surface_color"], np.zeros(0, np.int64))
    asked = Places(*(row[key][-ASKED:] for key in FIELDS[:3]), np.zeros(0, np.int64))
    return pipeline.likelihoods(whole, asked, color).argmax(dim=1)


def rows_of(shards: str, split: str, pipeline: Any, limit: int) -> Iterator[dict[str, Any]]:
    """The samples of a split with their labels, as many points as the pipeline reads."""
    left, classes = limit or sys.maxsize, shard_facts(shards)["classes"]
    for batch in read_shards(shards, split, fields=FIELDS, points=pipeline.config.points, part_names=True):
        labels = point_labels(batch, pipeline.model.kinds)
        for number in range(min(len(labels), left)):
            own = {key: batch[key][number] for key in FIELDS[:3]}
            class_id = int(batch["class_id"][number])
            yield {**own, "labels": labels[number], "class_id": class_id, "class": classes[class_id]}
        left -= len(labels)
        if left <= 0:
            return


def points_of(split: str, shards: str, pipeline: Any, known: Known | None, limit: int) -> None:
    """Prints the figures of one split."""
    found: dict[str, list[float]] = defaultdict(list)
    by_class: dict[str, list[float]] = defaultdict(list)
    for row in track(list(rows_of(shards, split, pipeline, limit)), f"Labelling {split}"):
        truth = row["labels"][-ASKED:].numpy()
        asked = row["surface"][-ASKED:]
        guesses = {"model": labelled(pipeline, row, True), "model without colour": labelled(pipeline, row, False)}
        if known is not None:
            guesses["usual kind of the class"] = torch.full_like(guesses["model"], known.usual[row["class_id"]])
            guesses["nearest training shape"] = known.nearest(row["surface"], asked)
        for name, guess in guesses.items():
            found[name].append(part_iou(guess.numpy(), truth))
            found[f"{name}, points right"].append(float((guess.numpy() == truth).mean()))
        by_class[row["class"]].append(found["model"][-1])
    for name, values in found.items():
        figure = mean(values)
        low, high = figure.interval or (figure.value, figure.value)
        print(f"{split} {name}: {figure.value:.3f} [{low:.3f}, {high:.3f}] n {figure.n}")
    print(f"{split} by class:", {name: round(float(np.mean(rows)), 3) for name, rows in sorted(by_class.items())})


def faces_of(pipeline: Any, count: int) -> None:
    """Prints the figures of whole meshes of held-out pairs, with and without smoothing."""
    kinds, found = pipeline.model.kinds, defaultdict(list)
    shapes = (shape for shape in (sample_shape(61_000, n, 0.25) for n in range(sys.maxsize)) if shape.held_out)
    for _ in track(range(count), "Labelling faces"):
        shape = next(shapes)
        mesh = shape.mesh(64)
        part = shape.part_of(mesh.vertices.astype(np.float64)[mesh.faces].mean(axis=1))
        truth = np.array([kinds.index(kind_of_part(name)) for name in shape.program.part_names])[part]
        for smoothing in (0.0, 1.0):
            made = pipeline(Request(mesh=mesh, options={"smoothing": smoothing})).mesh
            labels = np.array([kinds.index(name) for name in made.part_names])[made.part]
            found[smoothing].append(part_iou(labels, truth))
    for smoothing, values in found.items():
        figure = mean(values)
        print(f"faces, smoothing {smoothing}: {figure.value:.3f} {figure.interval} n {figure.n}")


def main() -> None:
    folder, shards, *rest = sys.argv[1:]
    words = read_words(rest)
    torch.set_num_threads(1)
    pipeline = open_pipeline(folder, {"name": "parts"})
    known = Known(shards, pipeline.model.kinds, pipeline.config.points) if words.get("baselines", True) else None
    for split in ("val", "unseen_pairs"):
        points_of(split, shards, pipeline, known, int(words.get("limit", 0)))
    faces_of(pipeline, int(words.get("faces", 48)))


if __name__ == "__main__":
    sys.exit(run(main))
