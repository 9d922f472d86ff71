"""What the Trainer iterates over: a dataset's loaders, cut and kept in step between processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any

import torch

from maquette.batches import rows_of
from maquette.monitoring.step_clock import StepClock
from maquette.parallel.mesh import Mesh


class TrainingStream:
    """A finite view on a dataset's endless training loader.

    Having a length keeps Lightning from fetching ahead, which would put the data position one batch off.

    Args:
        loader: the endless one.
        length: how many batches to take.
        clock: measures how long they take to come.
    """

    def __init__(self, loader: Iterable[Any], length: int, clock: StepClock) -> None:
        self.loader, self.length, self.clock = loader, length, clock

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Any]:
        yield from self.clock.fetching(islice(self.loader, self.length))


class ValidationStream:
    """Pairs (batch, its number of samples) of a dataset's validation loader, asked for anew at each pass.

    Sharded models need all processes in every forward pass. One that has run out of batches repeats its last one,
    counted as no samples. A pass is cut short when any process is asked to stop.

    Args:
        loader: gives the loader of one pass.
        mesh: the processes.
        stopping: whether this one is asked to stop.
        preparing: entered until all processes have their first batch, which may take a loader some time.

    Attributes:
        cut: whether the last pass was.
    """

    def __init__(
        self,
        loader: Callable[[], Iterable[Any]],
        mesh: Mesh,
        stopping: Callable[[], bool] = lambda: False,
        preparing: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.loader, self.mesh, self.stopping, self.preparing = loader, mesh, stopping, preparing
        self.cut = False

    def __iter__(self) -> Iterator[tuple[Mapping[str, Any], int]]:
        self.cut = False
        with self.preparing():
            iterator = iter(self.loader())
            batch = next(iterator, None)
            spare: Mapping[str, Any] = batch or {}
            if self.mesh.any(batch is None):
                donors = self.mesh.gather(batch)
                spare = next((donor for donor in donors if donor is not None), {})
        if not spare:
            return
        while True:
            # One collective for both questions.
            left, stop = self.mesh.sum(torch.tensor([batch is not None, self.stopping()]).float().to(self.mesh.device))
            if stop:
                self.cut = True
                return
            if not left:
                return
            yield (batch, rows_of(batch)) if batch is not None else (spare, 0)
            spare, batch = (batch, next(iterator, None)) if batch is not None else (spare, None)
