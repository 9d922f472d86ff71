"""Toy things of two kinds of parts: a board on four posts, with known labels, and a dataset of their points."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch

from maquette import hookimpl, plugins
from maquette.config import RunConfig, load
from maquette.runner import train
from maquette.types import Mesh
from maquette_models.surface_points import sampled

NAMES = ["post 1", "post 2", "post 3", "post 4", "board"]
CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
QUADS = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))


def box(center, half, cells: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and outward faces of a box whose sides are cut into cells."""
    vertices, faces = [], []
    steps = np.linspace(0, 1, cells + 1)
    for quad in QUADS:
        a, b, c, d = (np.array(center) + CORNERS[k] * half for k in quad)
        start = len(vertices)
        vertices += [(1 - u) * ((1 - v) * a + v * d) + u * ((1 - v) * b + v * c) for u in steps for v in steps]
        for i in range(cells):
            for j in range(cells):
                p, q = start + i * (cells + 1) + j, start + (i + 1) * (cells + 1) + j
                faces += [(p, q, q + 1), (p, q + 1, p + 1)]
    return np.array(vertices), np.array(faces)


def table(number: int) -> tuple[Mesh, np.ndarray]:
    """A mesh and the place in `NAMES` of each face."""
    rng = np.random.default_rng(number)
    tall, wide, thin = rng.uniform(0.15, 0.3), rng.uniform(0.25, 0.4), rng.uniform(0.03, 0.05)
    pieces = [box((x * wide * 0.8, 0, z * wide * 0.8), (thin, tall, thin)) for x in (-1, 1) for z in (-1, 1)]
    pieces.append(box((0, tall + thin, 0), (wide, thin, wide)))
    starts = np.cumsum([0, *(len(vertices) for vertices, _ in pieces)])
    faces = np.concatenate([own + start for (_, own), start in zip(pieces, starts, strict=False)])
    part = np.concatenate([np.full(len(own), place) for place, (_, own) in enumerate(pieces)])
    vertices = np.concatenate([vertices for vertices, _ in pieces])
    return Mesh(vertices - (vertices.min(0) + vertices.max(0)) / 2, faces), part


@dataclass
class ToyPartsConfig:
    batch_size: int = 4
    points: int = 512


class ToyParts(pl.LightningDataModule):
    """Tables, endlessly."""

    def __init__(self, config: ToyPartsConfig) -> None:
        super().__init__()
        self.config, self.rank, self.world, self.consumed = config, 0, 1, 0

    def train_dataloader(self) -> Iterator[dict[str, Any]]:
        while True:
            numbers = range(self.consumed, self.consumed + self.config.batch_size)
            self.consumed += self.config.batch_size
            yield batch(numbers, self.config.points)

    def val_dataloader(self) -> list[dict[str, Any]]:
        return [batch(range(10_000, 10_004), self.config.points)]

    def state_dict(self) -> dict[str, int]:
        return {"consumed": self.consumed}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.consumed = state_dict["consumed"]

    def facts(self) -> dict[str, Any]:
        return {"part_names": NAMES}


def batch(numbers: range, points: int) -> dict[str, Any]:
    """What the dataset `shards` gives with part_names: true."""
    rows: dict[str, list[torch.Tensor]] = {"surface": [], "normals": [], "surface_part": []}
    for number in numbers:
        mesh, part = table(number)
        places, normals, (faces, _) = sampled(mesh, points, number)
        for key, value in zip(rows, (places, normals, torch.from_numpy(part[faces].astype(np.uint8))), strict=True):
            rows[key].append(value)
    stacked = {key: torch.stack(values) for key, values in rows.items()}
    colors = torch.full_like(stacked["surface"], 0.5)
    names = [f"toy-{number}" for number in numbers]
    return {**stacked, "surface_color": colors, "part_names": [NAMES] * len(numbers), "id": names}


@hookimpl
def register_datasets(register: Any) -> None:
    register("toy_parts", ToyPartsConfig, ToyParts)


def trained(folder: Path, steps: int = 60) -> Path:
    """A run of a tiny segmenter."""
    if "toy_parts" not in plugins.manager().statuses:
        plugins.manager().add(sys.modules[__name__], "toy_parts")
    sizes = {"tokens": 48, "width": 32, "heads": 2, "depth": 1, "point_width": 16, "query_width": 32}
    config = {
        "folder": str(folder),
        "data": {"name": "toy_parts"},
        "model": {"name": "part_segmenter", "part_names": "${facts:part_names}", **sizes, "point_neighbours": 8},
        "objective": {"name": "part_labels", "queries": 128},
        "optimizer": {"learning_rate": 0.01, "warmup_steps": 5},
        "train": {"steps": steps, "ema_decays": [0.8]},
        "pipeline": {"name": "parts", "points": 512, "votes": 2048},
        "loggers": ["csv"],
    }
    return train(load(RunConfig, config)).path
