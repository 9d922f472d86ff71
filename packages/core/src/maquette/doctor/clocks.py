"""Whether the clocks of all processes agree, and whether somebody keeps them right."""

from __future__ import annotations

import ctypes
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from maquette.doctor.finding import Action, Finding, Status, judge, not_applicable, unknown
from maquette.doctor.machine import Machine

ROUNDS = 5
UNSYNCHRONISED = 5
"""TIME_ERROR, the answer of adjtimex(2) where nobody keeps the clock right."""
TIMEX_BYTES = 256
"""Room for the kernel's struct timex, which has 208."""


@dataclass
class ClockConfig:
    """Limits of clocks."""

    skew_s: float = 1.0
    """Seconds between two processes' clocks that are a warning: logs and file times no longer compare."""
    skew_critical_s: float = 60.0
    """Seconds after which tokens and certificates fail too."""


class KeptClock:
    """Whether this machine's clock is kept right, by NTP or its like."""

    together = False

    def __init__(self, config: ClockConfig) -> None:
        self.config = config

    def __call__(self, machine: Machine) -> Iterator[Finding]:
        """One finding of this machine."""
        state = kernel_clock_state()
        if state < 0:
            yield unknown("clock.ntp", "the kernel does not tell whether the clock is kept right")
            return
        fine = state != UNSYNCHRONISED
        evidence = "" if fine else "nobody keeps this clock right; start chrony or systemd-timesyncd"
        yield Finding("clock.ntp", Status.PASS if fine else Status.WARN, "", "kept" if fine else "not kept",
                      "kept", evidence, Action.NONE if fine else Action.CONFIGURE)  # fmt: skip


class ClockSkew:
    """How far the clocks of the processes are apart; names the one that is off."""

    together = True

    def __init__(self, config: ClockConfig) -> None:
        self.config = config

    def __call__(self, machine: Machine) -> Iterator[Finding]:
        """One finding of all processes; a good one where all agree."""
        if machine.mesh.world == 1:
            yield not_applicable("clock.skew", "one process")
            return
        found = offsets(machine)
        furthest = max(range(len(found)), key=lambda rank: abs(found[rank]))
        ahead = "ahead of" if found[furthest] > 0 else "behind"
        others = "rank 0" if len(found) == 2 else "the others"
        yield judge("clock.skew", abs(found[furthest]), subject=f"rank {furthest}", unit="s",
                    warn=self.config.skew_s, critical=self.config.skew_critical_s,
                    advice=f"rank {furthest}'s clock is {ahead} {others}", action=Action.CONFIGURE)  # fmt: skip


def kernel_clock_state() -> int:
    """What adjtimex(2) answers when asked to change nothing; -1 where it may not be asked."""
    try:
        return int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(TIMEX_BYTES)))
    except (OSError, AttributeError):
        return -1


def offsets(machine: Machine) -> list[float]:
    """Seconds by which each process's clock is off; all processes call it together.

    Each looks at its clock as it leaves a barrier, which all leave at nearly the same moment. A clock is compared with
    the median of all, of two with rank 0's.
    """
    looks = []
    for _ in range(ROUNDS):
        machine.mesh.barrier()
        looks.append(machine.now())
    rounds = list(zip(*machine.mesh.gather(looks), strict=True))
    right = [times[0] if len(times) == 2 else statistics.median(times) for times in rounds]
    return [
        statistics.median(times[rank] - reference for times, reference in zip(rounds, right, strict=True))
        for rank in range(machine.mesh.world)
    ]
