"""What a run under chaos is made of, and how it tells the driver where it is; a loose-file plugin.

The folder in ``data.control`` holds ``progress`` (the step under way), ``resumes`` (a line a start: the step
reached and the one resumed at), ``pids`` (a line a process), ``rank_<n>`` (its process now), and the orders, see
`failpoints`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from maquette import hookimpl

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "core")]

import failpoints  # noqa: E402
from toy_plugin import ToyData, ToyDataConfig  # noqa: E402


@dataclass
class ChaosDataConfig(ToyDataConfig):
    """``control`` is the driver's folder."""

    batch_size: int = 12
    control: str = ""


class ChaosData(ToyData):
    """The toy's batches; tells how far it is."""

    def __init__(self, config: ChaosDataConfig) -> None:
        super().__init__(config)
        self.control = Path(config.control)
        self._rank = int(os.environ.get("RANK", "0"))

    def setup(self, stage: str | None = None) -> None:
        failpoints.arm(self.control, self._rank)
        append(self.control / "pids", str(os.getpid()))
        (self.control / f"rank_{self._rank}").write_text(str(os.getpid()))
        failpoints.pause("start")

    def train_dataloader(self) -> Iterator[dict[str, Tensor]]:
        file = os.open(self.control / "progress", os.O_RDWR | os.O_CREAT)
        step = self.consumed // self.config.batch_size
        if self._rank == 0:
            reached = int(os.pread(file, 12, 0) or 0)
            append(self.control / "resumes", json.dumps({"reached": reached, "resumed": step}))
        for batch in super().train_dataloader():
            if self._rank == 0:
                os.pwrite(file, f"{self.consumed // self.config.batch_size - 1:012d}".encode(), 0)
            failpoints.pause("data")
            yield batch

    def val_dataloader(self) -> Iterator[dict[str, Tensor]]:
        for batch in super().val_dataloader():
            failpoints.pause("validation")
            yield batch


def append(path: Path, line: str) -> None:
    """One line, by one call, so that a kill leaves it whole or out."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


@hookimpl
def register_datasets(register: Any) -> None:
    register("chaos", ChaosDataConfig, ChaosData)
