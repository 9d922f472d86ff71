"""What the conditioner reads of shards beside class and caption: pictures, points, other wordings, stored embeddings.

Datasets of latents hold their latents by sample; this holds the rest, and gives it for the same samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from maquette.engine.randomness import fold
from maquette.errors import MaquetteError, unknown_name
from maquette_models.conditioners.byte_pairs import SMALLEST, train_merges
from maquette_models.latents.stored_embeddings import MIRRORED, StoredEmbeddings
from maquette_models.shards import read_shards

POINTS = ("surface", "normals", "surface_color", "sharp", "sharp_normals")
VIEWS = ("view_rgb", "view_depth", "view_camera", "view_intrinsics")
SPARE = 4
"""Of the points of a sample so many times those of a batch are kept in memory, to take a window from."""


@dataclass
class ConditionFieldsConfig:
    """What a batch holds for the conditioner beside `class_id` and `caption`."""

    fields: list[str] = field(default_factory=list)
    """Arrays of the shards: view_rgb, view_camera, surface, normals, ..."""
    views: int = 1
    """How many of a sample's pictures, drawn anew each time."""
    points: int = 1024
    """How many of a sample's points: a window, drawn anew each time, of an order that is random."""
    paraphrases: bool = False
    """Draws among a sample's captions anew each time, where the shards have more than one."""
    tokenizer: int = 0
    """Entries of a byte-pair tokenizer that is trained on the training captions and given as the fact `merges`; 0 is
    none."""
    embeddings: list[str] = field(default_factory=list)
    """Folders that `maquette precompute` made of the same shards."""

    def __post_init__(self) -> None:
        """Raises ValueError on a value that cannot be."""
        for name in self.fields:
            if name not in POINTS + VIEWS:
                raise ValueError(str(unknown_name("field", name, POINTS + VIEWS)))
        if self.views < 1 or self.points < 1:
            raise ValueError(f"views {self.views} and points {self.points} must be at least 1")
        if self.tokenizer and self.tokenizer < SMALLEST:
            raise ValueError(
                f"tokenizer {self.tokenizer}: bytes alone are {SMALLEST} entries; give more, or 0 for none"
            )

    def wanted(self) -> bool:
        """Whether there is anything to read."""
        return bool(self.fields or self.paraphrases or self.tokenizer or self.embeddings)


@dataclass
class Sample:
    """The arrays of a sample as they are kept, pictures in bytes, and all its captions."""

    arrays: dict[str, Tensor]
    captions: list[str]


class ConditionFields:
    """The further fields of both splits of shard folders, by sample, read once.

    Raises:
        MaquetteError: the shards lack a field, two folders have a sample of one name, or a folder of embeddings is
            none.
    """

    def __init__(self, config: ConditionFieldsConfig, folders: Sequence[str], reader: str, seed: int) -> None:
        self.config, self.seed = config, seed
        self.stored = [StoredEmbeddings(path) for path in config.embeddings]
        self.samples: dict[str, Sample] = {}
        words = [caption for folder in folders for caption in self._read(folder, reader)]
        self.merges = train_merges(words, config.tokenizer) if config.tokenizer else None

    def _read(self, folder: str, reader: str) -> list[str]:
        """Keep a folder's samples; returns the training captions, all wordings."""
        settings: dict[str, Any] = {"attributes": True} if self.config.paraphrases or self.config.tokenizer else {}
        if set(self.config.fields) & set(POINTS):
            settings["points"] = 0
        captions: list[str] = []
        for split in ("train", "val"):
            found: dict[str, Sample] = {}
            for batch in read_shards(folder, split, reader, self.config.fields, **settings):
                found |= self._keep(batch)
            for name in found.keys() & self.samples.keys():
                raise MaquetteError(f"'{folder}' and other shards of this run both have a sample '{name}'")
            self.samples |= found
            if split == "train":
                captions = [caption for sample in found.values() for caption in sample.captions]
        return captions

    def facts(self) -> dict[str, Any]:
        """The tokenizer, where one was trained."""
        return {} if self.merges is None else {"merges": self.merges}

    def batch(self, split: str, ids: Sequence[str], positions: Sequence[int]) -> dict[str, Any]:
        """The fields of samples, each at its place in a split's endless sequence, which alone decides what is drawn.

        The id of a mirrored twin is that of the sample and "-mirrored"; what it shows is mirrored along x.
        """
        rows = [self._row(split, name, position) for name, position in zip(ids, positions, strict=True)]
        captions = {"caption": [row.pop("caption") for row in rows]} if self.config.paraphrases else {}
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]} | captions

    def _keep(self, batch: Mapping[str, Any]) -> dict[str, Sample]:
        most = SPARE * self.config.points
        arrays = {name: batch[name] for name in self.config.fields}
        arrays = {name: value[:, :most] if name in POINTS else value for name, value in arrays.items()}
        kept = {name: _compact(name, value) for name, value in arrays.items()}
        further = batch.get("attributes", [{}] * len(batch["id"]))
        captions = [
            [caption, *more.get("paraphrases", ())] for caption, more in zip(batch["caption"], further, strict=True)
        ]
        return {
            name: Sample({key: value[row].clone() for key, value in kept.items()}, captions[row])
            for row, name in enumerate(batch["id"])
        }

    def _row(self, split: str, name: str, position: int) -> dict[str, Any]:
        mirrored = name.endswith(MIRRORED)
        sample = self.samples[name.removesuffix(MIRRORED)]
        caption = self._draw("caption", split, position) % len(sample.captions) if self.config.paraphrases else 0
        views = self._views(sample, name, split, position)
        row: dict[str, Any] = {"caption": sample.captions[caption]} if self.config.paraphrases else {}
        for key, stored in sample.arrays.items():
            if key in POINTS:
                spare = len(stored) - self.config.points
                start = self._draw("points", split, position) % (spare + 1) if spare > 0 else 0
                value = stored[start : start + self.config.points]
            else:
                value = stored[views]
            value = value / 255 if key == "view_rgb" else value.float()
            row[key] = MIRRORS[key](value) if mirrored else value
        for one in self.stored:
            wanted, chosen = (name.removesuffix(MIRRORED), [caption]) if one.per_caption else (name, views)
            row[f"{one.name}_embedding"], row[f"{one.name}_mask"] = one.read(wanted, chosen)
        return row

    def _views(self, sample: Sample, name: str, split: str, position: int) -> list[int]:
        """Which of the sample's pictures, in which order."""
        stored = next((len(value) for key, value in sample.arrays.items() if key in VIEWS), 0)
        stored = stored or next((one.count(name) for one in self.stored if not one.per_caption), 0)
        if not stored:
            return []
        if stored < self.config.views:
            raise MaquetteError(f"views {self.config.views} were asked for, but the shards store {stored} a sample")
        generator = torch.Generator().manual_seed(self._draw("views", split, position))
        return torch.randperm(stored, generator=generator)[: self.config.views].tolist()

    def _draw(self, what: str, split: str, position: int) -> int:
        return fold(what, self.seed, split, position)


def _compact(name: str, value: Tensor) -> Tensor:
    """As little memory as the stored values need."""
    if name == "view_rgb":
        return (value * 255).round().to(torch.uint8)
    return value.half() if name in POINTS or name == "view_depth" else value


def _turned_picture(value: Tensor) -> Tensor:
    return value.flip(-1)


def _negated(value: Tensor) -> Tensor:
    return value * value.new_tensor([-1.0, 1.0, 1.0])


def _as_is(value: Tensor) -> Tensor:
    return value


def _turned_camera(value: Tensor) -> Tensor:
    """World to camera [V,4,4] of a mirrored world in a mirrored picture: both x axes are turned around."""
    turn = torch.diag(value.new_tensor([-1.0, 1.0, 1.0, 1.0]))
    return turn @ value @ turn


MIRRORS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "view_rgb": _turned_picture,
    "view_depth": _turned_picture,
    "view_camera": _turned_camera,
    "view_intrinsics": _as_is,
    "surface": _negated,
    "normals": _negated,
    "sharp": _negated,
    "sharp_normals": _negated,
    "surface_color": _as_is,
}
"""How each field of a sample becomes that of its twin, mirrored along x. Pictures are centred on the camera's axis."""
