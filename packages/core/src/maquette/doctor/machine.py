"""What a check may look at."""

from __future__ import annotations

import os
import socket
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from maquette.errors import MaquetteError
from maquette.hardware.gpu import GpuReading
from maquette.hardware.host import Host
from maquette.hardware.nvml import Nvml
from maquette.parallel.mesh import Mesh

Seen = TypeVar("Seen")


class FailedElsewhereError(MaquetteError):
    """A look that all processes took together has failed on others, which tell why."""


@dataclass
class Machine:
    """This process's machine, and the other processes.

    Attributes:
        mesh: all processes that take part.
        quick: leave out what takes longer than a moment.
        folder: where the run writes, or will.
        checkpoint_bytes: what one checkpoint of the run takes; None where there is no run, or nobody knows.
        host: reads /proc and /sys.
        nvml: the library for GPUs; None takes NVIDIA's.
        kernel_log: where the driver's errors are logged.
        now: the machine's clock, in seconds.
        ours: the processes that take part and run on this machine; found out when all are examined.
    """

    mesh: Mesh
    quick: bool = False
    folder: Path = Path()
    checkpoint_bytes: int | None = None
    host: Host = field(default_factory=Host)
    nvml: Any = None
    kernel_log: Path = Path("/dev/kmsg")
    now: Callable[[], float] = time.time
    ours: frozenset[int] = frozenset()

    @property
    def name(self) -> str:
        """As the network knows it."""
        return socket.gethostname()

    @property
    def first_here(self) -> bool:
        """Whether this process is the one that looks after its machine."""
        return os.environ.get("LOCAL_RANK", "0") == "0" or self.mesh.world == 1

    @cached_property
    def gpus(self) -> list[GpuReading] | None:
        """The GPUs, read once; None where there is no driver.

        Raises:
            MaquetteError: there is a driver and it does not answer.
        """
        nvml = Nvml.open(self.nvml)
        if nvml is None:
            return None
        with nvml:
            self.driver_cuda = nvml.cuda
            return nvml.read_all(fast=self.quick)

    def everybodys(self, look: Callable[[], Seen]) -> list[Seen]:
        """What ``look`` gives on each process, in the order of ranks; all processes call it together.

        Where it fails on one all raise, so that none goes on to a collective in which the others are missing.

        Raises:
            Exception: what ``look`` has raised here.
            FailedElsewhereError: it has failed on other processes alone.
        """
        seen: Seen | None = None
        failure: Exception | None = None
        try:
            seen = look()
        except Exception as error:  # whatever it is, the others wait to hear of it
            failure = error
        told: list[tuple[Seen, bool]] = self.mesh.gather((seen, failure is None))
        if failure:
            raise failure
        if failed := [rank for rank, (_, fine) in enumerate(told) if not fine]:
            raise FailedElsewhereError(f"it failed on ranks {failed}")
        return [value for value, _ in told]

    driver_cuda: tuple[int, int] | None = None
    """The newest CUDA that the driver serves, once :attr:`gpus` are read."""

    def no_gpu(self) -> str:
        """Why checks of GPUs are not applicable; empty where there is one."""
        try:
            return "" if self.gpus else "no NVIDIA GPU"
        except MaquetteError as error:
            return str(error)


def outliers(values: Sequence[float], share: float) -> list[int]:
    """Who is slow: the places whose value is below ``share`` of the median, or of the other one where there are two."""
    usual = max(values) if len(values) == 2 else statistics.median(values)
    return [place for place, value in enumerate(values) if value < share * usual]
