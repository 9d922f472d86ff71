"""How large samples may be at each point of a training: the interface of a curriculum, and the built-in one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from maquette.errors import MaquetteError


@dataclass(frozen=True)
class Stage:
    """Limits on what is delivered. None is no limit.

    Attributes:
        points: the largest window of points.
        resolution: the side of the finest grid; stored grids are averaged down to it.
        most_tokens: larger samples are passed over.
    """

    points: int | None = None
    resolution: int | None = None
    most_tokens: int | None = None


class Curriculum(Protocol):
    """What a plugin of the kind `curricula` builds."""

    def at(self, consumed: int) -> Stage:
        """The stage after `consumed` samples of all processes; a pure function."""


@dataclass
class StepConfig:
    """One stage of `steps`; 0 is no limit."""

    after: int = 0
    """Samples of all processes from which on the stage holds."""
    points: int = 0
    resolution: int = 0
    most_tokens: int = 0


@dataclass
class StepsConfig:
    """Stages one after the other; before the first one there is no limit."""

    stages: list[StepConfig] = field(default_factory=list)


class Steps:
    """A curriculum of fixed stages."""

    def __init__(self, config: StepsConfig) -> None:
        starts = [stage.after for stage in config.stages]
        limits = [limit for s in config.stages for limit in (s.after, s.points, s.resolution, s.most_tokens)]
        if not starts or starts != sorted(set(starts)) or min(limits) < 0:
            raise MaquetteError("curriculum 'steps': give stages with rising 'after' and limits of 0 or more")
        self.stages = list(config.stages)

    def at(self, consumed: int) -> Stage:
        """The last stage that has begun."""
        begun = [stage for stage in self.stages if stage.after <= consumed]
        if not begun:
            return Stage()
        last = begun[-1]
        return Stage(last.points or None, last.resolution or None, last.most_tokens or None)
