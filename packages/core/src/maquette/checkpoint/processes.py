"""The processes that save or load together: what fails on one of them is known to all."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, cast

import torch.distributed as dist

from maquette.errors import MaquetteError

T = TypeVar("T")
R = TypeVar("R")


class Ranks(Protocol):
    """What checkpoints need of a :class:`maquette.parallel.mesh.Mesh`."""

    @property
    def rank(self) -> int:
        """Of this process."""

    @property
    def world(self) -> int:
        """How many processes there are."""


@dataclass(frozen=True)
class _Outcome(Generic[T]):
    """A value, or the reason why there is none."""

    value: T | None = None
    error: str = ""
    mistake: bool = True


class Processes:
    """Collective steps over all processes.

    Args:
        mesh: the ranks; None for this process alone.
        own_group: make a gloo group for these steps, so that a thread may take them while training goes on. All
            processes must construct together then. Otherwise the default group serves.
    """

    def __init__(self, mesh: Ranks | None = None, own_group: bool = False) -> None:
        self.rank = mesh.rank if mesh else 0
        self.world = mesh.world if mesh else 1
        self.group = dist.new_group(backend="gloo") if own_group and self.world > 1 else None

    def gather(self, local: Callable[[], T], central: Callable[[list[T]], R]) -> R:
        """``central``, on rank 0, of every process's ``local``; the result is shared with all.

        Raises:
            MaquetteError: on all processes, where any of them raised it or an OSError.
            RuntimeError: on all processes, where any of them raised something else; with its traceback.
        """
        if self.world == 1:
            return central([local()])
        result = [self._centrally(local, central)]
        dist.broadcast_object_list(result, src=0, group=self.group)
        return _opened(cast("_Outcome[R]", result[0]))

    def scatter(self, local: Callable[[], T], central: Callable[[list[T]], list[R]]) -> R:
        """As :meth:`gather`, but ``central`` gives one value for each process and each gets its own."""
        if self.world == 1:
            return central([local()])[0]
        outcome = self._centrally(local, central)
        shares: list[Any] | None = None
        if outcome is not None:
            failed = outcome.value is None
            shares = [outcome] * self.world if failed else [_Outcome(value) for value in cast("list[R]", outcome.value)]
        own: list[Any] = [None]
        dist.scatter_object_list(own, shares, src=0, group=self.group)
        return _opened(cast("_Outcome[R]", own[0]))

    def all(self, flag: bool) -> bool:
        """Whether ``flag`` holds on every process."""
        return self.gather(lambda: flag, all)

    def _centrally(self, local: Callable[[], T], central: Callable[[list[T]], R]) -> _Outcome[R] | None:
        outcome = _attempted(local, f"rank {self.rank}: ")
        gathered: list[Any] | None = [None] * self.world if self.rank == 0 else None
        dist.gather_object(outcome, gathered, dst=0, group=self.group)
        if gathered is None:
            return None
        failed = [one for one in gathered if one.error]
        if failed:
            # A bug says more than the mistakes that it may have caused elsewhere.
            return cast("_Outcome[R]", min(failed, key=lambda one: one.mistake))
        return _attempted(lambda: central([one.value for one in gathered]), "")


def _attempted(function: Callable[[], T], where: str) -> _Outcome[T]:
    try:
        return _Outcome(function())
    except (MaquetteError, OSError) as error:
        return _Outcome(error=f"{where}{error}")
    except Exception:
        return _Outcome(error=where + traceback.format_exc(), mistake=False)


def _opened(outcome: _Outcome[T]) -> T:
    if outcome.error:
        raise MaquetteError(outcome.error) if outcome.mistake else RuntimeError(outcome.error)
    return cast(T, outcome.value)
