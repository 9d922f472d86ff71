"""A data plugin of boxes and pyramids, and a run that learned a few of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from maquette import hookimpl, plugins
from maquette.config import RunConfig, load
from maquette.runner import train
from maquette.types import Mesh

CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
SIDES = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
BOX = np.array([(a, *pair) for a, b, c, d in SIDES for pair in ((b, c), (c, d))], np.int32)
PYRAMID = np.array([(0, 1, 5), (0, 5, 4), (0, 2, 1), (1, 2, 5), (5, 2, 4), (4, 2, 0)], np.int32)


def toy_mesh(number: int) -> Mesh:
    """A box, or a pyramid over half of it, of sizes of its own."""
    sizes = 0.15 + 0.3 * np.random.default_rng(number).random(3)
    return Mesh(CORNERS * sizes, PYRAMID if number % 2 else BOX)


@dataclass
class ToyMeshesConfig:
    folder: str = "toy"
    batch_size: int = 4
    shuffle: bool = True
    count: int = 16
    fields: list[str] = field(default_factory=list)


class ToyMeshes(pl.LightningDataModule):
    """Ids 0..count-1 in order; every fourth is held out."""

    def __init__(self, config: ToyMeshesConfig) -> None:
        super().__init__()
        self.config, self.rank, self.world = config, 0, 1

    def train_dataloader(self) -> Iterator[dict[str, Any]]:
        train = [n for n in range(self.config.count) if n % 4]
        while True:
            for start in range(0, len(train), 4):
                yield batch(train[start : start + 4])

    def val_dataloader(self) -> list[dict[str, Any]]:
        return [batch(list(range(0, self.config.count, 4)))]

    def facts(self) -> dict[str, Any]:
        return {"classes": ["box", "pyramid"]}


def finer(mesh: Mesh) -> Mesh:
    """The same surface, each face cut in two at the middle of its longest side."""
    vertices, faces = list(mesh.vertices), []
    for face in mesh.faces:
        corners = mesh.vertices[face]
        turn = int(np.linalg.norm(corners - np.roll(corners, -1, axis=0), axis=1).argmax())
        a, b, c = np.roll(face, -turn)
        vertices.append((mesh.vertices[a] + mesh.vertices[b]) / 2)
        faces += [(a, len(vertices) - 1, c), (len(vertices) - 1, b, c)]
    return Mesh(np.array(vertices, np.float32), np.array(faces, np.int32))


TWINS = [(plain := Mesh(CORNERS * np.float32([0.45, 0.1, 0.3]), BOX)), finer(plain)]


class Twins(ToyMeshes):
    """One box in two ways; one more of each is held out."""

    def train_dataloader(self) -> Iterator[dict[str, Any]]:
        while True:
            yield batch([0, 1], TWINS)

    def val_dataloader(self) -> list[dict[str, Any]]:
        return [batch([2, 3], TWINS)]


def batch(numbers: list[int], cycle: Sequence[Mesh] = ()) -> dict[str, Any]:
    """What the shards would give of some meshes, or of those in a cycle."""
    meshes = [cycle[n % len(cycle)] if cycle else toy_mesh(n) for n in numbers]
    found: dict[str, Any] = {
        "class_id": torch.tensor([n % 2 for n in numbers]),
        "caption": ["a pyramid" if n % 2 else "a box" for n in numbers],
        "id": [f"toy-{n}" for n in numbers],
    }
    for name in ("vertices", "faces"):
        values = [torch.from_numpy(getattr(mesh, name)) for mesh in meshes]
        found[f"mesh_{name}"] = pad_sequence(values, batch_first=True)
        lengths = torch.tensor([len(value) for value in values])
        found[f"mesh_{name}_mask"] = torch.arange(int(lengths.max())) < lengths[:, None]
    return found


@hookimpl
def register_datasets(register: Any) -> None:
    register("toy_meshes", ToyMeshesConfig, ToyMeshes)
    register("toy_twins", ToyMeshesConfig, Twins)


def install() -> None:
    """Register the plugin with the process's manager, once."""
    if "toy_meshes" not in plugins.manager().statuses:
        plugins.manager().add(sys.modules[__name__], "toy_meshes")


def model_block(**changes: Any) -> dict[str, Any]:
    conditioner = {"name": "shape", "points": 64, "tokens": 8, "width": 32, "depth": 1, "heads": 2}
    sizes = {"blocks": 4, "offsets": 8, "width": 64, "depth": 2, "heads": 2}
    return {"name": "mesh_transformer", **sizes, "conditioner": conditioner, **changes}


def train_twins(folder: Path, steps: int) -> Path:
    """A run that sees points on edges, and how many faces are asked for."""
    shape = {"points": 64, "tokens": 8, "depth": 1, "heads": 2, "drop": 0.0}
    parts = {"shape": shape, "face_count": {"drop": 0.0}}
    model = model_block(conditioner={"name": "composite", "width": 32, "drop_all": 0.0, "parts": parts})
    data = {"reader": "toy_twins", "batch_size": 2, "limit": 2, "max_faces": 24, "edge_share": 0.5}
    return train_toy(folder, steps, data, model)


def train_toy(
    folder: Path, steps: int, data: dict[str, Any] | None = None, model: dict[str, Any] | None = None
) -> Path:
    """A run of a tiny model on the toy meshes, with a pipeline."""
    block = {"name": "mesh_tokens", "shards": "toy", "reader": "toy_meshes", "blocks": 4, "offsets": 8, "points": 64}
    config = {
        "folder": str(folder),
        "data": {**block, "batch_size": 4, "limit": 4, "max_faces": 12, **(data or {})},
        "model": model or model_block(),
        "objective": {"name": "next_mesh_token"},
        "optimizer": {"learning_rate": 0.005, "warmup_steps": 5, "schedule": "cosine"},
        "train": {"steps": steps, "ema_decays": [0.9], "threads": 1},
        "pipeline": {"name": "low_poly", "temperature": 1.0, "top_p": 1.0, "rows": 4},
        "loggers": ["csv"],
    }
    return train(load(RunConfig, config)).path
