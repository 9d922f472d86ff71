"""Shards, filled in the order of the source as samples are decided."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from maquette.errors import MaquetteError
from maquette_data3d.building.ledger import Ledger
from maquette_data3d.building.outcome import Outcome
from maquette_data3d.shards.format import OFFSETS, Field, ShardFile, checksum, fields_of, write_shard

Earlier = Callable[[Outcome], "dict[str, np.ndarray] | None"]


class Assembler:
    """Writes a lot's shard once all its sources are decided; the samples' own files are then removed.

    A lot is `size` sources that follow each other. Its shard holds those that are kept, so that a shard depends
    on its own sources alone, whoever decides them in whatever order.

    Args:
        earlier: gives the sample of an outcome that an earlier build made, None where it did not.
    """

    def __init__(self, ledger: Ledger, size: int, total: int, ragged: tuple[str, ...], earlier: Earlier) -> None:
        self.ledger, self.size, self.total, self.ragged, self.earlier = ledger, size, total, ragged, earlier
        self.outcomes: dict[int, Outcome] = {}
        self.shards: dict[int, ShardFile | None] = ledger.lots()
        self.fields: dict[str, Field] = {}
        self._left: dict[int, int] = {}

    def add(self, outcome: Outcome) -> None:
        """Takes an outcome, and writes its shard when it was the last.

        Sources whose samples are then missing or damaged are taken out of `outcomes`, to be done again.
        """
        lot = outcome.number // self.size
        if outcome.number not in self.outcomes:
            self._left[lot] = self._left.get(lot, len(self._numbers(lot))) - 1
        self.outcomes[outcome.number] = outcome
        if not self._left[lot] and lot not in self.shards:
            self._write(lot)

    def _numbers(self, lot: int) -> range:
        return range(lot * self.size, min((lot + 1) * self.size, self.total))

    def _write(self, lot: int) -> None:
        kept = [self.outcomes[number] for number in self._numbers(lot) if not self.outcomes[number].reason]
        samples = [self._load(outcome) for outcome in kept]
        broken = [outcome.number for outcome, sample in zip(kept, samples, strict=True) if sample is None]
        if broken:
            for number in broken:
                self.ledger.forget(number, lot)
                del self.outcomes[number]
            self._left[lot] = len(broken)
            return
        whole = [sample for sample in samples if sample is not None]
        self.shards[lot] = self._write_file(lot, whole) if whole else None
        self.ledger.written(lot, self.shards[lot])
        for outcome in kept:
            self.ledger.sample(outcome.number).unlink(missing_ok=True)

    def _write_file(self, lot: int, samples: list[dict[str, np.ndarray]]) -> ShardFile:
        self.fields = self.fields or fields_of(samples[0], self.ragged)
        try:
            return write_shard(self.ledger.out, lot, samples, self.fields)
        except OSError as error:
            raise MaquetteError(
                f"'{self.ledger.out}' cannot be written ({error.strerror}); mend that and run the build again, "
                "it goes on where it was"
            ) from error

    def _load(self, outcome: Outcome) -> dict[str, np.ndarray] | None:
        """The sample's arrays where they are whole."""
        try:
            sample = load_file(self.ledger.sample(outcome.number))
            if checksum(sample) == outcome.checksum:
                return sample
        except (OSError, SafetensorError, ValueError):
            pass
        return self.earlier(outcome)


def stored_fields(path: Path) -> dict[str, Field]:
    """The fields of a shard file that an earlier process wrote."""
    with safe_open(path, framework="np") as file:
        names = sorted(file.keys())
        first = {name: file.get_slice(name)[:1] for name in names if not name.endswith(OFFSETS)}
    return {name: Field(array.dtype.name, array.shape[1:], name + OFFSETS in names) for name, array in first.items()}
