"""Keeps a run's pipeline open and turns requests into assets, a few at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from maquette.assets import open_pipeline
from maquette.errors import MaquetteError
from maquette.types import Asset, Request


class Generator:
    """A run, opened once.

    Args:
        run: the folder of a trained generator.
        overrides: changes to the run's ``pipeline`` block.
        batch_size: how many requests are computed together.
        adapters: put on the run's model, "FILE" or "FILE:scale" each.

    Raises:
        MaquetteError: the run is missing or broken, or ``batch_size`` is below one.
    """

    def __init__(
        self,
        run: str | Path,
        overrides: Mapping[str, Any] | None = None,
        batch_size: int = 8,
        adapters: Sequence[str] = (),
    ) -> None:
        if batch_size < 1:
            raise MaquetteError(f"batch_size is {batch_size}; it must be at least 1")
        self.batch_size = batch_size
        self.pipeline = open_pipeline(run, overrides, adapters)

    def generate(self, requests: Sequence[Request]) -> Iterator[Asset | MaquetteError]:
        """Yield one asset a request, in order, as its batch is done; where one fails, its error in its place."""
        for start in range(0, len(requests), self.batch_size):
            yield from self.pipeline.batch(requests[start : start + self.batch_size])
