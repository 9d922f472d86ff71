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
from typing import Any

from maquette.errors import MaquetteError
from maquette.hardware.gpu import GpuReading
from maquette.hardware.host import Host
from maquette.hardware.nvml import Nvml
from maquette.parallel.mesh import Mesh


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
