"""What the Trainer iterates over: a dataset's loaders, cut and kept in step between processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from maquette.batches import rows_of
from maquette.parallel.mesh import Mesh


class TrainingStream:
    """A finite view on a dataset's endless training loader.

    Having a length keeps Lightning from fetching ahead, which would put the data position one batch off.
    """

    def __init__(self, loader: Iterable[Any], length: int) -> None:
        self.loader, self.length = loader, length

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Any]:
        iterator = iter(self.loader)
        for _ in range(self.length):
            yield next(iterator)


class ValidationStream:
    """Pairs (batch, its number of samples) of a dataset's validation loader, asked for anew at each pass.

    Sharded models need all processes in every forward pass. One that has run out of batches repeats its last one,
    counted as no samples.
    """

    def __init__(self, loader: Callable[[], Iterable[Any]], mesh: Mesh) -> None:
        self.loader, self.mesh = loader, mesh

    def __iter__(self) -> Iterator[tuple[Mapping[str, Any], int]]:
        iterator = iter(self.loader())
        batch = next(iterator, None)
        spare: Mapping[str, Any] = batch or {}
        if self.mesh.any(batch is None):
            donors = self.mesh.gather(batch)
            spare = next((donor for donor in donors if donor is not None), {})
            if not spare:
                return
        while self.mesh.any(batch is not None):
            yield (batch, rows_of(batch)) if batch is not None else (spare, 0)
            spare, batch = (batch, next(iterator, None)) if batch is not None else (spare, None)
