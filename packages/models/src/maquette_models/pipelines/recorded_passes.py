"""Passes of a model that a GPU records once and then repeats whole: launching their kernels is what takes the time."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

log = logging.getLogger("maquette.models")

MOST = 64
"""Recordings that are kept, the ones used last: sizes of batches times sizes of token sets."""

Record = Callable[[Callable[[], Tensor]], tuple[Tensor, Callable[[], None]]]
"""Records what a function does to memory: gives where its output lies, and what does it all again, in place."""


class CudaGraphs:
    """Records as CUDA graphs, which share one pool of memory: no two are repeated at once, and outputs are copied.

    `torch.cuda.graph`, see https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs. Only what this thread does
    counts, so that a monitor beside it may ask the GPU what it likes.
    """

    def __init__(self) -> None:
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
            output = run()
        return output, graph.replay


@dataclass
class Recording:
    """What is known of the passes of one set of shapes: how often they were asked for, and the recording, if any."""

    asked: int = 0
    failed: bool = False
    inputs: list[Tensor] = field(default_factory=list)
    output: Tensor | None = None
    repeat: Callable[[], None] | None = None


class RecordedPasses:
    """A model `(x, t, condition)` whose passes are recorded, one for each set of shapes, at the second time of asking.

    The first is made as ever, which compiles what is to be compiled. A recording reads the weights where they lie, so
    passes of a model that wears adapters are made as ever too. So are those that cannot be recorded, because they wait
    for the GPU: it is said once for each set of shapes.

    Args:
        model: without state that a pass changes.
        record: as CUDA graphs, or by whatever else does the same.
        most: recordings that are kept.
    """

    def __init__(self, model: nn.Module, record: Record, most: int = MOST) -> None:
        self.model, self.record, self.most = model, record, most
        self._own = [(part, part.data_ptr()) for part in model.parameters()]
        self._known: OrderedDict[Hashable, Recording] = OrderedDict()

    def __call__(self, x: Tensor, t: Tensor, condition: Mapping[str, Tensor]) -> Tensor:
        """What the model makes of x [B,...] at t [B], with the bits that it has without being recorded."""
        names, inputs = tuple(condition), [x, t, *condition.values()]
        known = self._asked_for(names, inputs)
        if known.asked > 1 and not known.failed and self._as_opened():
            if known.repeat is None:
                self._take(known, names, inputs)
            if known.repeat is not None and known.output is not None:
                for kept, value in zip(known.inputs, inputs, strict=True):
                    kept.copy_(value)
                known.repeat()
                return known.output.clone()
        return self.model(x, t, condition)

    def _asked_for(self, names: tuple[str, ...], inputs: list[Tensor]) -> Recording:
        """What is known of such inputs; what was not asked for the longest time is forgotten."""
        layouts = tuple((value.shape, value.stride(), value.dtype) for value in inputs)
        key = (names, layouts, torch.is_autocast_enabled(inputs[0].device.type))
        known = self._known.setdefault(key, Recording())
        self._known.move_to_end(key)
        while len(self._known) > self.most:
            self._known.popitem(last=False)
        known.asked += 1
        return known

    def _as_opened(self) -> bool:
        """Whether the model has the weights that it had at first, where they were."""
        parts = list(self.model.parameters())
        return len(parts) == len(self._own) and all(
            part is own and part.data_ptr() == place for part, (own, place) in zip(parts, self._own, strict=True)
        )

    def _take(self, known: Recording, names: tuple[str, ...], inputs: list[Tensor]) -> None:
        kept = [value.clone() for value in inputs]
        x, t, *condition = kept
        try:
            output, repeat = self.record(lambda: self.model(x, t, dict(zip(names, condition, strict=True))))
        except RuntimeError as error:
            known.failed = True
            log.warning("passes of %d rows are not recorded: %s", len(x), str(error).splitlines()[0])
        else:
            known.inputs, known.output, known.repeat = kept, output, repeat
