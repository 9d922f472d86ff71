"""Low-poly meshes of a shard folder as token sequences, a dataset that resumes at the exact sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from omegaconf import MISSING
from torch import Tensor

from maquette.engine.randomness import fold
from maquette.errors import MaquetteError
from maquette.types import Mesh
from maquette_models.endless_samples import EndlessSamples
from maquette_models.mesh_tokens.augmentation import normalised, varied
from maquette_models.mesh_tokens.edge_points import points_with_edges
from maquette_models.mesh_tokens.quantise import quantise
from maquette_models.mesh_tokens.tokeniser import Sequence as TokenSequence
from maquette_models.mesh_tokens.tokeniser import Tokeniser
from maquette_models.mesh_tokens.vocabulary import END, Vocabulary
from maquette_models.shards import READER, open_shards, read_shards

FIELDS = ("mesh_vertices", "mesh_faces")


@dataclass
class MeshTokensConfig:
    """`shards` is a folder whose samples have the feature `triangles`; meshes of more than `max_faces` faces are left
    out. `blocks` and `offsets` make the grid: blocks * offsets cells a side.

    `points` of the surface are drawn for the condition, `edge_share` of them on sharp edges. `stretch` scales each axis
    by up to that share, `turn` turns by quarters about the vertical, `mirror` mirrors left and right, all in training
    alone. `limit` takes the first so many meshes of the training split. `sorted_within` samples of an epoch lie
    together by length, so that batches hold little padding.
    """

    shards: str = MISSING
    batch_size: int = 16
    max_faces: int = 200
    blocks: int = 8
    offsets: int = 16
    points: int = 512
    edge_share: float = 0.0
    stretch: float = 0.0
    turn: bool = False
    mirror: bool = False
    limit: int = 0
    sorted_within: int = 64
    seed: int = 0
    reader: str = READER


@dataclass(frozen=True)
class LowPoly:
    """One mesh of a split: normalised, and what the shards say of it."""

    mesh: Mesh
    id: str
    caption: str
    class_id: int


class MeshTokens(EndlessSamples):
    """Batches of `tokens` int64 [B,N], `token_mask` bool [B,N], `places` int64 and `positions` float32 [B,N,3] (see
    `tokeniser.Sequence`; padded behind), `surface` and `normals` float32 [B,P,3], `face_count` and `class_id` int64
    [B], `caption`, `id` and `position`, the place in the endless sequence or among the held-out samples.

    What is varied and drawn of a sample is a function of (seed, position).
    """

    name = "mesh_tokens"
    config: MeshTokensConfig

    def __init__(self, config: MeshTokensConfig) -> None:
        super().__init__(config, "mesh_tokens")
        if min(config.max_faces, config.points, config.sorted_within) < 1:
            raise MaquetteError("dataset 'mesh_tokens': max_faces, points and sorted_within must be at least 1")
        for name in ("stretch", "edge_share"):
            if not 0 <= getattr(config, name) < 1:
                raise MaquetteError(
                    f"dataset 'mesh_tokens': {name} {getattr(config, name)} must be a share below 1, e.g. 0.2"
                )
        self.tokeniser = Tokeniser(Vocabulary(config.blocks, config.offsets))
        self.splits: dict[str, list[LowPoly]] = {}

    def setup(self, stage: str | None = None) -> None:
        """Read both splits into memory.

        Raises:
            MaquetteError: shards without triangles or without small meshes, or a batch that ranks cannot share.
        """
        self.check_shares()
        if self.splits:
            return
        self.source_facts = dict(open_shards(self.config.shards, self.config.reader, FIELDS).facts())
        for split in ("train", "val"):
            self.splits[split] = self._read(split)
        if self.config.limit:
            self.splits["train"] = self.splits["train"][: self.config.limit]
        if not self.splits["train"]:
            raise MaquetteError(
                f"dataset 'mesh_tokens': '{self.config.shards}' has no training mesh of at most {self.config.max_faces}"
                " faces; raise max_faces"
            )

    def _read(self, split: str) -> list[LowPoly]:
        found = []
        for batch in read_shards(self.config.shards, split, self.config.reader, FIELDS):
            vertices, faces = (
                [value[mask] for value, mask in zip(batch[key], batch[f"{key}_mask"], strict=True)] for key in FIELDS
            )
            for row, name in enumerate(batch["id"]):
                if len(faces[row]) > self.config.max_faces:
                    continue
                mesh = normalised(Mesh(vertices[row].numpy(), faces[row].numpy()))
                if len(quantise(mesh, self.tokeniser.vocabulary.levels)):
                    found.append(LowPoly(mesh, name, batch["caption"][row], int(batch["class_id"][row])))
        return found

    def batch(self, split: str, rows: list[int], positions: Sequence[int]) -> dict[str, Any]:
        """See `EndlessSamples`; held-out meshes are as they are."""
        samples = [self.splits[split][row] for row in rows]
        meshes = [sample.mesh for sample in samples]
        if split == "train":
            meshes = [self._vary(mesh, position) for mesh, position in zip(meshes, positions, strict=True)]
        return self._batch(samples, meshes, positions)

    def arranged(self, order: Tensor) -> Tensor:
        """By length within groups."""
        faces = torch.tensor([len(sample.mesh.faces) for sample in self.splits["train"]])
        groups = [group[faces[group].argsort(stable=True)] for group in order.split(self.config.sorted_within)]
        return torch.cat(groups)

    def facts(self) -> dict[str, Any]:
        """What the shards say of themselves, the grid of the tokens, and the most faces of a mesh."""
        own = {key: getattr(self.config, key) for key in ("blocks", "offsets", "max_faces", "points", "edge_share")}
        return {**self.source_facts, **{f"mesh_{key}": value for key, value in own.items()}}

    def _vary(self, mesh: Mesh, position: int) -> Mesh:
        rng = np.random.default_rng(fold("mesh_variation", self.config.seed, position))
        return varied(mesh, rng, self.config.stretch, turn=self.config.turn, mirror=self.config.mirror)

    def _batch(self, samples: Sequence[LowPoly], meshes: Sequence[Mesh], positions: Sequence[int]) -> dict[str, Any]:
        levels = self.tokeniser.vocabulary.levels
        faces = [quantise(mesh, levels) for mesh in meshes]
        sequences = [self.tokeniser.encode(own) for own in faces]
        seeds = [fold("mesh_points", self.config.seed, position) for position in positions]
        count, share = self.config.points, self.config.edge_share
        drawn = [points_with_edges(mesh, count, share, seed) for mesh, seed in zip(meshes, seeds, strict=True)]
        return {
            **padded(sequences, levels),
            "surface": torch.stack([points for points, _ in drawn]),
            "normals": torch.stack([normals for _, normals in drawn]),
            "face_count": torch.tensor([len(own) for own in faces]),
            "class_id": torch.tensor([sample.class_id for sample in samples], dtype=torch.int64),
            "caption": [sample.caption for sample in samples],
            "id": [sample.id for sample in samples],
            "position": torch.tensor(positions, dtype=torch.int64),
        }


def padded(sequences: Sequence[TokenSequence], levels: int) -> dict[str, Tensor]:
    """Sequences as one batch, END behind the shorter ones; see `MeshTokens`."""
    rows, longest = len(sequences), max(len(sequence) for sequence in sequences)
    batch = {
        "tokens": torch.full((rows, longest), END),
        "token_mask": torch.zeros(rows, longest, dtype=torch.bool),
        "places": torch.full((rows, longest, 3), levels),
        "positions": torch.zeros(rows, longest, 3),
    }
    for row, sequence in enumerate(sequences):
        batch["token_mask"][row, : len(sequence)] = True
        for key in ("tokens", "places", "positions"):
            batch[key][row, : len(sequence)] = torch.from_numpy(getattr(sequence, key))
    return batch
