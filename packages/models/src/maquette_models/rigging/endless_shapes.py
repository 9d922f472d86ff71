"""Rigged shapes of shard folders as an endless sequence of batches that resumes at the exact sample."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from maquette.engine.randomness import fold
from maquette.errors import MaquetteError
from maquette_models.rigging.rigged_shapes import RiggedShape, read_rigged, role_names
from maquette_models.rigging.skeleton_tree import mirrored_roles
from maquette_models.rigging.variation import VariationConfig, framed, varied
from maquette_models.shards import READER


@dataclass
class EndlessShapesConfig:
    """`shards` are folders whose samples have the features `skeleton` with `roles: true` and `surface` with
    `skin: true`; `repeats` is how often each folder's training shapes come in an epoch, once where it is empty.
    `variation` is made in training alone. A skeleton has at most `joints`; shapes with more are left out. Of each
    shape `points` are drawn.
    """

    shards: list[str] = field(default_factory=list)
    repeats: list[int] = field(default_factory=list)
    batch_size: int = 16
    joints: int = 48
    points: int = 1024
    variation: VariationConfig = field(default_factory=VariationConfig)
    seed: int = 0
    reader: str = READER


class EndlessShapes(pl.LightningDataModule):
    """Batches that a subclass makes in `batch_of`; each has `id` and `position`, the place in the endless sequence or
    among the held-out samples.

    An epoch's order is a function of (seed, epoch), what is varied and drawn of a sample one of (seed, position). The
    state is the number of samples consumed by all ranks; `batch_size` counts those of all ranks together.
    """

    name = "rigged shapes"

    def __init__(self, config: EndlessShapesConfig) -> None:
        super().__init__()
        if min(config.batch_size, config.joints, config.points) < 1 or not config.shards:
            raise MaquetteError(f"dataset '{self.name}': needs shards, and batch_size, joints and points of at least 1")
        if config.repeats and len(config.repeats) != len(config.shards):
            raise MaquetteError(
                f"dataset '{self.name}': {len(config.repeats)} repeats for {len(config.shards)} folders of shards"
            )
        self.config = config
        self.rank, self.world = 0, 1
        self.consumed = 0
        self.roles: list[str] = []
        self.splits: dict[str, list[RiggedShape]] = {}
        self.rows: list[int] = []  # of the training split, as often as each comes in an epoch

    def setup(self, stage: str | None = None) -> None:
        """Read both splits into memory.

        Raises:
            MaquetteError: shards without skeletons, no shape that is small enough, or a batch that ranks cannot share.
        """
        if self.config.batch_size % self.world:
            raise MaquetteError(
                f"dataset '{self.name}': batch_size {self.config.batch_size} must be shared by {self.world} processes"
            )
        if self.splits:
            return
        self.roles = role_names(self.config.shards, self.config.reader)
        self.mirrored = mirrored_roles(self.roles)
        train: list[RiggedShape] = []
        for number, folder in enumerate(self.config.shards):
            found = list(self._read(folder, "train"))
            repeats = self.config.repeats[number] if self.config.repeats else 1
            self.rows += list(range(len(train), len(train) + len(found))) * repeats
            train += found
        self.splits = {
            "train": train,
            "val": [shape for folder in self.config.shards for shape in self._read(folder, "val")],
        }
        if not self.rows:
            raise MaquetteError(f"dataset '{self.name}': no training shape of at most {self.config.joints} joints")

    def keeps(self, shape: RiggedShape) -> bool:
        """Whether a shape is used."""
        return len(shape.tree) <= self.config.joints

    def batch_of(self, shapes: Sequence[RiggedShape]) -> dict[str, Any]:
        """A batch of shapes, of each of which `points` are left."""
        raise NotImplementedError

    def train_dataloader(self) -> Iterator[dict[str, Any]]:
        """This rank's share of each batch, for ever, from where the state is."""
        own = self.config.batch_size // self.world
        while True:
            positions = range(self.consumed + self.rank * own, self.consumed + (self.rank + 1) * own)
            shapes = [self._varied(self.splits["train"][self.row(position)], position) for position in positions]
            self.consumed += self.config.batch_size
            yield self._batch(shapes, positions)

    def val_dataloader(self) -> list[dict[str, Any]]:
        """This rank's share of the held-out shapes, once, in order, as they are."""
        held_out, size = self.splits["val"], self.config.batch_size
        rows = list(range(self.rank, len(held_out), self.world))
        parts = [rows[i : i + size] for i in range(0, len(rows), size)]
        return [self._batch([self._drawn(framed(held_out[row]), row) for row in part], part) for part in parts]

    def row(self, position: int) -> int:
        """The training shape at a position of the endless sequence."""
        epoch, place = divmod(position, len(self.rows))
        rng = np.random.default_rng(fold("rigged_shapes", self.config.seed, epoch))
        return self.rows[int(rng.permutation(len(self.rows))[place])]

    def state_dict(self) -> dict[str, Any]:
        """The exact position."""
        return {"consumed": self.consumed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a position, also with another batch size or number of ranks."""
        self.consumed = int(state_dict["consumed"])

    def _read(self, folder: str, split: str) -> Iterator[RiggedShape]:
        shapes = read_rigged([folder], split, self.roles, self.config.reader)
        return (shape for shape in shapes if self.keeps(shape))

    def _varied(self, shape: RiggedShape, position: int) -> RiggedShape:
        rng = np.random.default_rng(fold("rig_variation", self.config.seed, position))
        return self._drawn(varied(shape, rng, self.config.variation, self.mirrored), position)

    def _drawn(self, shape: RiggedShape, position: int) -> RiggedShape:
        """The shape with `points` of its points, again and again where it has fewer."""
        rng = np.random.default_rng(fold("rig_points", self.config.seed, position))
        chosen = rng.permutation(len(shape.surface))
        chosen = np.resize(chosen, self.config.points)
        return RiggedShape(
            shape.surface[chosen], shape.normals[chosen], shape.tree, shape.weights[chosen], shape.id, shape.kind
        )

    def _batch(self, shapes: Sequence[RiggedShape], positions: Sequence[int]) -> dict[str, Any]:
        return {
            **self.batch_of(shapes),
            "id": [shape.id for shape in shapes],
            "position": torch.tensor(positions, dtype=torch.int64),
        }


def stacked(arrays: Sequence[np.ndarray]) -> Tensor:
    """Float arrays of one shape as a batch, float32."""
    return torch.from_numpy(np.stack(arrays).astype(np.float32))
