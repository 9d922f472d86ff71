"""Outputs of frozen encoders for a whole shard folder, in a folder of their own, looked up by sample.

embeddings.json            the encoder's conditioner, and which samples are in which part
part-00000.safetensors     `embedding` float16 [M,T,E] and `mask` bool [M,T] of the captions or pictures of some samples
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from maquette.durable import whole_folder
from maquette.errors import MaquetteError
from maquette.json_text import read_json

MIRRORED = "-mirrored"
"""What is added to a sample's id for its twin."""
INDEX = "embeddings.json"
PART = 256
"""Samples a part."""


class Embedded(NamedTuple):
    """What an encoder gave of one sample: embedding [K,T,E] and mask bool [K,T], of K captions or K pictures."""

    id: str
    embedding: Tensor
    mask: Tensor


class Place(NamedTuple):
    """Where a sample's embeddings are: in which part, from which row on, and how many."""

    part: str
    first: int
    count: int


class StoredEmbeddings:
    """A folder that `write_embeddings` wrote; rows are read from the disk as they are asked for.

    Attributes:
        name: the conditioner whose encoder it was; fields of a batch are called after it.
        per_caption: whether there is one embedding a caption, or else one a picture.

    Raises:
        MaquetteError: there is no such folder, or it is another one.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        try:
            about = read_json(self.folder / INDEX)
            self.name, self.per_caption = str(about["name"]), bool(about["per_caption"])
            self._places = {one: place for part, rows in about["parts"].items() for one, place in _places(part, rows)}
        except (OSError, KeyError, TypeError, ValueError):
            raise MaquetteError(f"'{folder}' holds no embeddings; make them with: maquette precompute") from None
        self._open: dict[str, Any] = {}

    def count(self, sample: str) -> int:
        """How many captions or pictures of a sample there are.

        Raises:
            MaquetteError: the sample is not there.
        """
        return self._place(sample).count

    def read(self, sample: str, chosen: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Embedding [K,T,E] and mask [K,T] of some of a sample's captions or pictures.

        Raises:
            MaquetteError: the sample, or so many of them, are not there.
        """
        part, first, count = self._place(sample)
        if max(chosen) >= count:
            raise MaquetteError(f"'{self.folder}' has {count} embeddings of '{sample}'; make it anew from these shards")
        if part not in self._open:
            self._open[part] = safe_open(str(self.folder / part), framework="pt")
        embedding, mask = (self._open[part].get_slice(key) for key in ("embedding", "mask"))
        rows = [first + number for number in chosen]
        return torch.cat([embedding[row : row + 1] for row in rows]), torch.cat([mask[row : row + 1] for row in rows])

    def _place(self, sample: str) -> Place:
        if sample not in self._places:
            hint = "; make it with mirrored twins" if sample.endswith(MIRRORED) else ""
            raise MaquetteError(f"'{self.folder}' has no embedding of '{sample}'{hint}")
        return self._places[sample]


def write_embeddings(folder: str | Path, name: str, per_caption: bool, samples: Iterable[Embedded]) -> int:
    """Write a folder, which is there whole or not at all; returns how many samples are in it.

    Raises:
        MaquetteError: there are no samples, or the folder exists.
    """
    if Path(folder).exists():
        raise MaquetteError(f"'{folder}' exists already; choose another folder, or delete it")
    parts: dict[str, list[tuple[str, int]]] = {}
    with whole_folder(Path(folder)) as temporary:
        left = iter(samples)
        while some := list(islice(left, PART)):
            part = f"part-{len(parts):05d}.safetensors"
            tensors = {
                key: torch.cat([getattr(one, key) for one in some]).contiguous() for key in ("embedding", "mask")
            }
            save_file(tensors, temporary / part)
            parts[part] = [(one.id, len(one.embedding)) for one in some]
        if not parts:
            raise MaquetteError(f"nothing to write to '{folder}': there are no samples")
        about = {"name": name, "per_caption": per_caption, "parts": parts}
        (temporary / INDEX).write_text(json.dumps(about))
    return sum(len(rows) for rows in parts.values())


def _places(part: str, rows: Sequence[tuple[str, int]]) -> Iterator[tuple[str, Place]]:
    first = 0
    for sample, count in rows:
        yield sample, Place(part, first, count)
        first += count
