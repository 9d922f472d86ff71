"""A toy objective and dataset that get stuck, or break, on purpose, on one rank; a loose-file plugin."""

from __future__ import annotations

import ctypes
import os
import queue
import re
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from maquette import hookimpl

sys.path[:0] = [str(Path(__file__).parent)]

from toy_plugin import ToyData, ToyDataConfig, ToyObjective, ToyObjectiveConfig  # noqa: E402


@dataclass
class StuckDataConfig(ToyDataConfig):
    """``stuck_at`` is the batch that never comes on rank 1; ``slow_validation`` seconds a validation batch takes."""

    stuck_at: int = -1
    slow_validation: float = 0.0


class StuckData(ToyData):
    """Its loader may wait for a batch that nobody puts; after a restart no more."""

    def train_dataloader(self) -> Iterator[Any]:
        first = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
        for number, batch in enumerate(super().train_dataloader()):
            if number == self.config.stuck_at and self.rank == 1 and first:
                queue.SimpleQueue().get()
            yield batch

    def val_dataloader(self) -> Iterator[Any]:
        time.sleep(self.config.slow_validation)
        yield from super().val_dataloader()


@dataclass
class StuckObjectiveConfig(ToyObjectiveConfig):
    """What goes wrong (a method's name), from which call on, and on which rank."""

    fault: str = ""
    at: int = 5
    rank: int = 1


class StuckObjective(ToyObjective):
    """Fails once it was called often enough; after a restart, which finds a checkpoint, no more."""

    def __init__(self, config: StuckObjectiveConfig) -> None:
        super().__init__(config)
        self.config, self.called = config, 0

    def __call__(self, model: Any, batch: Any) -> dict[str, Any]:
        self.called += 1
        first = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
        here = int(os.environ.get("RANK", "0")) == self.config.rank
        if self.config.fault and self.called == self.config.at and first:
            getattr(self, self.config.fault)(here)
        return super().__call__(model, batch)

    def sleep(self, here: bool) -> None:
        if here:
            time.sleep(10_000)

    def hold_the_interpreter(self, here: bool) -> None:
        if here:
            re.match(r"(a+)+$", "a" * 64 + "b")

    def skip(self, here: bool) -> None:
        if not here:
            distributed.broadcast(torch.ones(3, 5), src=1)

    def mismatch(self, here: bool) -> None:
        distributed.all_reduce(torch.ones(7 if here else 5))
        time.sleep(10_000)

    def segfault(self, here: bool) -> None:
        if here:
            ctypes.string_at(0)

    def killed(self, here: bool) -> None:
        if here:
            os.kill(os.getpid(), signal.SIGKILL)

    def crash(self, here: bool) -> None:
        if here:
            raise ZeroDivisionError("on purpose")

    def fill(self, here: bool) -> None:
        if here:
            ballast = torch.ones(2_000_003)
            torch.empty(ballast.numel() * 10**9)


@hookimpl
def register_datasets(register: Any) -> None:
    register("stuck", StuckDataConfig, StuckData)


@hookimpl
def register_objectives(register: Any) -> None:
    register("stuck", StuckObjectiveConfig, StuckObjective)
