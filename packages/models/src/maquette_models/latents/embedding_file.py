"""Outputs of frozen encoders for a whole shard folder, in one file, looked up by sample."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from maquette.durable import whole_file
from maquette.errors import MaquetteError

MIRRORED = "-mirrored"
"""What is added to a sample's id for its twin."""


class Embedded(NamedTuple):
    """What an encoder gave of one sample: embedding [K,T,E] and mask bool [K,T], of K captions or K pictures."""

    id: str
    embedding: Tensor
    mask: Tensor


class EmbeddingFile:
    """A file that `write_embeddings` wrote; rows are read from the disk as they are asked for.

    Attributes:
        name: the conditioner whose encoder it was; fields of a batch are called after it.
        per_caption: whether there is one embedding a caption, or else one a picture.

    Raises:
        MaquetteError: there is no such file, or it is another one.
    """

    def __init__(self, path: str | Path) -> None:
        try:
            self._file = safe_open(str(path), framework="pt")
            about = json.loads(self._file.metadata()["embeddings"])
            self.name, self.per_caption = str(about["name"]), bool(about["per_caption"])
            self._rows = {sample: row for row, sample in enumerate(about["ids"])}
            self._first = [0]
            for count in about["counts"]:
                self._first.append(self._first[-1] + count)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            raise MaquetteError(f"'{path}' is no file of embeddings; make one with: maquette precompute") from None
        self.path = Path(path)

    def count(self, sample: str) -> int:
        """How many captions or pictures of a sample there are.

        Raises:
            MaquetteError: the sample is not in the file.
        """
        row = self._row(sample)
        return self._first[row + 1] - self._first[row]

    def read(self, sample: str, chosen: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Embedding [K,T,E] and mask [K,T] of some of a sample's captions or pictures.

        Raises:
            MaquetteError: the sample, or so many of them, are not in the file.
        """
        first, count = self._first[self._row(sample)], self.count(sample)
        if max(chosen) >= count:
            raise MaquetteError(f"'{self.path}' has {count} embeddings of '{sample}'; make it anew from these shards")
        embedding, mask = (self._file.get_slice(key) for key in ("embedding", "mask"))
        places = [first + number for number in chosen]
        return tuple(torch.cat([part[place : place + 1] for place in places]) for part in (embedding, mask))  # type: ignore[return-value]

    def _row(self, sample: str) -> int:
        if sample not in self._rows:
            hint = "; make it with mirrored twins" if sample.endswith(MIRRORED) else ""
            raise MaquetteError(f"'{self.path}' has no embedding of '{sample}'{hint}")
        return self._rows[sample]


def write_embeddings(path: str | Path, name: str, per_caption: bool, samples: Iterable[Embedded]) -> int:
    """Write a file atomically; returns how many samples are in it.

    Raises:
        MaquetteError: there are none, or the folder cannot be written.
    """
    listed = list(samples)
    if not listed:
        raise MaquetteError(f"nothing to write to '{path}': there are no samples")
    counts = [len(one.embedding) for one in listed]
    about = {"name": name, "per_caption": per_caption, "ids": [one.id for one in listed], "counts": counts}
    tensors = {
        "embedding": torch.cat([one.embedding for one in listed]).contiguous(),
        "mask": torch.cat([one.mask for one in listed]).contiguous(),
    }
    try:
        with whole_file(Path(path)) as temporary:
            save_file(tensors, temporary, {"embeddings": json.dumps(about)})
    except OSError as error:
        raise MaquetteError(f"cannot write '{path}': {error.strerror or error}") from None
    return len(listed)
