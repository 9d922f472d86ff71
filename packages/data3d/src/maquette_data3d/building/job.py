"""What an engine is asked to do, and within which limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from maquette_data3d.building.outcome import Outcome
from maquette_data3d.building.recipe import Recipe
from maquette_data3d.building.sources import Item


@dataclass(frozen=True)
class Job:
    """One source to decide.

    Attributes:
        target: file that the sample's arrays go to, when it is kept.
        picture: whether a thumbnail is wanted.
    """

    item: Item
    target: str
    picture: bool = False

    def plain(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self)

    @classmethod
    def of(cls, plain: dict[str, Any]) -> Job:
        """From what `plain` gave."""
        return cls(Item(**plain["item"]), plain["target"], plain["picture"])


@dataclass(frozen=True)
class Limits:
    """Of one source: seconds and memory; and how many processes there may be."""

    deadline_s: float
    memory_mb: int
    processes: int = 1


class Engine(Protocol):
    """Runs jobs somewhere.

    The outcomes come in any order. A job that is lost with its machine may be left out: it is asked for again.
    """

    def run(self, jobs: Sequence[Job], recipe: Recipe, limits: Limits) -> Iterator[Outcome]:
        """Decides every job; samples are in their targets when their outcomes come."""
