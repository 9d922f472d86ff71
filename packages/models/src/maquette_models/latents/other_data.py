"""The data of a finetuned run: other shards under the same autoencoder, and old ones mixed in against forgetting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from maquette import plugins
from maquette.engine.randomness import fold
from maquette.errors import MaquetteError
from maquette_models.shards import READER, shard_facts


def finetuned_block(own: Mapping[str, Any], given: dict[str, Any], out: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The block of a dataset over `shards` for other shards, and what those say of themselves.

    Args:
        own: the base run's block.
        given: changes; `source` and `build` say what shards to build in `out`, `replay` alone takes the base's own.
        out: a folder.

    Raises:
        MaquetteError: the reader's dataset cannot be built from a source.
    """
    source, settings = given.pop("source", None), given.pop("build", {})
    block = {**own, **given}
    reader = str(block.get("reader", READER))
    if source is not None:
        door = getattr(plugins.lookup("datasets", reader).config, "finetuned", None)
        if door is None:
            raise MaquetteError(f"dataset '{reader}' cannot be built from a source; build it and give data.shards")
        built, _ = door({"name": reader}, {"source": source, "build": settings}, out)
        block["shards"] = built["folder"]
    if block.get("replay") and not block.get("replay_shards"):
        block["replay_shards"] = own["shards"]
    return block, shard_facts(str(block["shards"]), reader)


@dataclass(frozen=True)
class Turns:
    """Whose turn it is at each position of an endless sequence: of `new` rows, or of the `old` rows behind them.

    A share of the positions, evenly spread, is the old rows'. Each kind goes through its rows in an order of its own
    for each epoch, a function of (name, seed, epoch) alone.
    """

    new: int
    old: int
    share: float
    name: str
    seed: int

    def row(self, position: int) -> int:
        """The row in [0, new + old)."""
        before = int(position * self.share)
        if int((position + 1) * self.share) > before:
            return self.new + self._place("old", self.old, before)
        return self._place("new", self.new, position - before)

    def _place(self, kind: str, count: int, number: int) -> int:
        epoch, place = divmod(number, count)
        return int(_epoch_order(fold(self.name, kind, self.seed, epoch), count)[place])


@lru_cache(maxsize=4)  # positions come in runs
def _epoch_order(seed: int, count: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))
