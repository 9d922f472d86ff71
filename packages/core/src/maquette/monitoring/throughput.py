"""How fast a run trains: samples, tokens and model arithmetic a second, the share of peak, waiting, memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from maquette.accelerators import GIB, Accelerator
from maquette.batches import rows_of
from maquette.monitoring.step_clock import StepClock

PASSES = 3
"""Forward passes' worth of arithmetic in a training step: backward costs two. What checkpointing computes again is not
counted, as usual for model FLOPs utilisation (Chowdhery et al., "PaLM", 2022, appendix B)."""


class Throughput:
    """Counts what goes through and divides by the time between two readings.

    Figures are of the whole run: what this process sees times ``data_world``, since all shares of a batch are alike.

    Args:
        model: asked for ``flops(batch)`` (multiply-adds x 2 of one forward pass on this process's samples, whole model)
            and ``token_count(batch)``, where it has them.
        precision: of the products: fp32, bf16 or fp8; whose peak the share is taken of.
        peak: the accelerator; None leaves the share out.
        data_world: into how many shares a batch is cut.
        world: how many processes there are.
        clock: of the process's steps.
    """

    def __init__(
        self,
        model: nn.Module,
        precision: str,
        peak: Accelerator | None,
        *,
        data_world: int = 1,
        world: int = 1,
        clock: StepClock | None = None,
    ) -> None:
        self._flops: Callable[[Mapping[str, Any]], int] | None = getattr(model, "flops", None)
        self._tokens: Callable[[Mapping[str, Any]], int] | None = getattr(model, "token_count", None)
        self.rate = peak.rate(precision) * world if peak else 0.0
        self.data_world, self.clock = data_world, clock or StepClock()
        self.start()

    def start(self) -> None:
        """Begin to count, and a step; forgets what was counted."""
        self.clock.start()
        self._mark_now()

    def _mark_now(self) -> None:
        self._began, self._waited, self._steps = self.clock.now(), self.clock.waited, self.clock.steps
        self._samples = self._token_sum = self._flop_sum = 0

    def fetched(self, batch: Mapping[str, Any]) -> None:
        """A batch has come."""
        self._samples += rows_of(batch)
        self._token_sum += self._tokens(batch) if self._tokens else 0
        self._flop_sum += PASSES * self._flops(batch) if self._flops else 0

    def read(self) -> dict[str, float]:
        """The figures since the last reading, and start again.

        Returns:
            ``steps_per_second``, ``samples_per_second``, ``data_wait_share``; with ``tokens_per_second``,
            ``model_tflops`` (10^12 operations a second, all processes) and ``mfu`` where the model and the accelerator
            are known; ``memory_gib`` (highest since the last reading on a GPU, resident now elsewhere).
        """
        seconds = max(self.clock.now() - self._began, 1e-9)
        whole = self.data_world / seconds
        figures = {
            "steps_per_second": (self.clock.steps - self._steps) / seconds,
            "samples_per_second": self._samples * whole,
            "data_wait_share": (self.clock.waited - self._waited) / seconds,
            "memory_gib": _memory() / GIB,
        }
        if self._tokens:
            figures["tokens_per_second"] = self._token_sum * whole
        if self._flops:
            figures["model_tflops"] = self._flop_sum * whole / 1e12
            if self.rate:
                figures["mfu"] = self._flop_sum * whole / self.rate
        self._mark_now()
        return figures


def _memory() -> int:
    """Bytes in use: the allocator's peak since it was last asked on a GPU, the process's resident set elsewhere."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        peak = torch.cuda.max_memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        return peak
    statistics = Path("/proc/self/statm")
    return int(statistics.read_text().split()[1]) * 4096 if statistics.exists() else 0
