"""How much memory a process uses after each part of a step."""

from __future__ import annotations

import torch

from maquette.hardware.host import Host


class PhaseMemory:
    """Keeps the highest value seen after each phase: a look costs some microseconds and waits for nothing.

    On a GPU these are the bytes that the allocator has given out, elsewhere those that the process holds.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.highest: dict[str, int] = {}

    def after(self, phase: str) -> None:
        """The phase (forward, backward, update) has ended."""
        self.highest[phase] = max(self.now(), self.highest.get(phase, 0))

    def now(self) -> int:
        """Bytes in use."""
        if self.device.type == "cuda":
            return torch.cuda.memory_allocated(self.device)
        reading = Host().process()
        return reading.memory if reading else 0
