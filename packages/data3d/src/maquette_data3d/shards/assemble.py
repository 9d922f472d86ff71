"""Shards, filled in the order of the source as samples are decided, and the index over them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from maquette.durable import write_text
from maquette_data3d.shards import arrays
from maquette_data3d.shards.ledger import Ledger
from maquette_data3d.shards.process import Outcome
from maquette_data3d.shards.sources import Item

TRAIN, VALIDATION = "train", "validation"
_WORD = re.compile(r"[a-z0-9]+")


def shard_name(number: int) -> str:
    """File name of a shard."""
    return f"shard_{number:05d}.safetensors"


class Assembler:
    """Writes each shard once its samples are there; a sample's own file is then removed."""

    def __init__(self, ledger: Ledger, size: int, total: int) -> None:
        self.ledger, self.size, self.total = ledger, size, total
        self.outcomes: dict[int, Outcome] = {}
        self.next_item, self.shard = 0, 0
        self.filling: list[Outcome] = []

    def add(self, outcome: Outcome) -> list[int]:
        """Takes an outcome and writes the shards that are full now; the items to make again, usually none."""
        self.outcomes[outcome.number] = outcome
        broken: list[int] = []
        while self.next_item in self.outcomes and not broken:
            decided = self.outcomes[self.next_item]
            self.next_item += 1
            if not decided.reason:
                self.filling.append(decided)
            if len(self.filling) == self.size or (self.next_item == self.total and self.filling):
                broken = self._write()
        return broken

    def _write(self) -> list[int]:
        path = self.ledger.out / shard_name(self.shard)
        numbers = [outcome.number for outcome in self.filling]
        if not path.is_file():
            samples, broken = self._load()
            if broken:
                first = min(broken)
                for number in broken:
                    self.ledger.forget(number)
                    del self.outcomes[number]
                # What came after the first missing one is looked at again when it is there.
                self.filling = [outcome for outcome in self.filling if outcome.number < first]
                self.next_item = first
                return broken
            arrays.write(path, {name: np.stack([sample[name] for sample in samples]) for name in arrays.FIELDS})
        for number in numbers:
            self.ledger.sample(number).unlink(missing_ok=True)
        self.filling, self.shard = [], self.shard + 1
        return []

    def _load(self) -> tuple[list[dict[str, np.ndarray]], list[int]]:
        samples, broken = [], []
        for outcome in self.filling:
            try:
                sample = load_file(self.ledger.sample(outcome.number))
                whole = arrays.checksum(sample) == outcome.checksum
            except (OSError, KeyError, SafetensorError):
                sample, whole = {}, False
            samples.append(sample)
            if not whole:
                broken.append(outcome.number)
        return samples, broken


def splits(outcomes: list[Outcome], held_out: float) -> list[str]:
    """Which side each kept sample is on, by the hash of its content: copies of a shape stay together.

    Where both sides can have something, they have: the hash nearest to the border moves over.
    """
    place = {o.content: int(o.content[:16], 16) / 2**64 for o in outcomes}
    border = held_out
    if held_out > 0 and len(place) > 1:
        ordered = sorted(place.values())
        border = min(max(border, float(np.nextafter(ordered[0], 2.0))), ordered[-1])
    return [VALIDATION if place[o.content] < border else TRAIN for o in outcomes]


def index_lines(
    items: list[Item], outcomes: list[Outcome], sides: list[str], shard_samples: int
) -> list[dict[str, Any]]:
    """One entry a kept sample, in the order of the shards."""
    lines = []
    for place, (outcome, side) in enumerate(zip(outcomes, sides, strict=True)):
        item = items[outcome.number]
        lineage = {"source": item.name, "sha256": outcome.source_sha256, "repairs": outcome.repairs}
        lines.append(
            {
                "id": item.name,
                "shard": shard_name(place // shard_samples),
                "row": place % shard_samples,
                "caption": outcome.caption,
                "class": outcome.class_name,
                "split": side,
                "attributes": outcome.attributes,
                "content": outcome.content,
                "lineage": lineage,
                "sha256": outcome.checksum,
            }
        )
    return lines


def vocabulary(lines: list[dict[str, Any]]) -> list[str]:
    """The lower-case words of the training captions, sorted."""
    return sorted({word for line in lines if line["split"] == TRAIN for word in _WORD.findall(line["caption"].lower())})


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    """JSON lines, whole or not at all."""
    write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
