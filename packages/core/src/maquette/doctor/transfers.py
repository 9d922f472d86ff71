"""How fast bytes move between memory and GPU, and within memory; a process that is slower than the others is named."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from maquette.doctor.finding import Action, Finding, Status, judge, not_applicable
from maquette.doctor.machine import Machine, outliers

GB = 1e9
MIB = 2**20
KNOWN = {"H100": 48.0, "H200": 48.0}
"""GB/s between memory and GPU, each way, that a healthy machine reaches; by a piece of the GPU's name."""


@dataclass
class TransferConfig:
    """What to move."""

    mib: int = 256
    """Bytes of a copy."""
    repeats: int = 3
    """The best one counts."""
    host_gb_s: float = 0.0
    """The least speed between memory and GPU; 0 takes what is known of the GPU, or judges nothing."""
    share: float = 0.75
    """Of the processes' median below which one is an outlier."""


class Transfers:
    """Speed of copies within memory and between memory and GPU, against what is known and among processes."""

    together = True

    def __init__(self, config: TransferConfig) -> None:
        self.config = config

    def __call__(self, machine: Machine) -> Iterator[Finding]:
        """All findings of all processes."""
        if machine.quick:
            return
        everybodys = machine.everybodys(lambda: self.measure(machine))
        if machine.mesh.device.type == "cpu":
            yield not_applicable("transfer.host_to_gpu", machine.no_gpu() or "torch uses no GPU")
            yield not_applicable("transfer.gpu_to_host", machine.no_gpu() or "torch uses no GPU")
        for id in everybodys[0]:
            yield from self._judged(id, [speeds[id] for speeds in everybodys])

    def measure(self, machine: Machine) -> dict[str, float]:
        """Finding -> GB/s of this process."""
        size = self.config.mib * MIB
        source, target = torch.ones(size, dtype=torch.uint8), torch.zeros(size, dtype=torch.uint8)
        found = {"transfer.memory": self._speed(lambda: target.copy_(source), size)}
        if machine.mesh.device.type == "cuda":
            pinned = source.pin_memory()
            there = pinned.to(machine.mesh.device)

            def done(copied: torch.Tensor) -> None:
                torch.cuda.synchronize(machine.mesh.device)

            found["transfer.host_to_gpu"] = self._speed(lambda: done(there.copy_(pinned, non_blocking=True)), size)
            found["transfer.gpu_to_host"] = self._speed(lambda: done(pinned.copy_(there, non_blocking=True)), size)
        return found

    def _speed(self, copy: Callable[[], object], size: int) -> float:
        copy()
        times = []
        for _ in range(self.config.repeats):
            begin = time.perf_counter()
            copy()
            times.append(time.perf_counter() - begin)
        return size / min(times) / GB

    def _judged(self, id: str, speeds: list[float]) -> Iterator[Finding]:
        least = self.config.host_gb_s or known_speed() if id != "transfer.memory" else None
        for rank in outliers(speeds, self.config.share):
            evidence = f"the fastest reaches {max(speeds):.3g}"
            yield Finding(id, Status.WARN, f"rank {rank}", round(speeds[rank], 2),
                          f">= {self.config.share} of the others", evidence, Action.DRAIN, "GB/s")  # fmt: skip
        slowest = min(range(len(speeds)), key=speeds.__getitem__)
        yield judge(id, speeds[slowest], subject=f"rank {slowest}", unit="GB/s", warn=least, at_least=True,
                    evidence="the slowest of all processes", action=Action.SERVICE)  # fmt: skip


def known_speed() -> float | None:
    """What the first GPU's kind reaches, where that is known."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return next((speed for piece, speed in KNOWN.items() if piece in name), None)
