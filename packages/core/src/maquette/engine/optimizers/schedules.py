"""The learning rate as a pure function of the step, so that a resumed run needs no scheduler's state."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol


class Schedule(Protocol):
    """What a schedule is made from; every :class:`OptimizerConfig` is one."""

    learning_rate: float
    warmup_steps: int
    schedule: str
    min_ratio: float


def learning_rate(step: int, steps: int, config: Schedule) -> float:
    """The learning rate of optimizer step ``step`` (from 0) of ``steps``: linear warm-up, then the schedule.

    Steps past the end have the last rate.
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / (config.warmup_steps + 1)
    if config.schedule == "constant":
        return config.learning_rate
    begin = config.warmup_steps
    if config.schedule == "wsd":
        begin = max(begin, steps - round(getattr(config, "decay_share", 0.2) * steps))
    progress = min(1.0, max(0.0, (step - begin) / max(1, steps - begin)))
    falling = _FALLING[config.schedule](progress)
    return config.learning_rate * (config.min_ratio + (1 - config.min_ratio) * falling)


_FALLING: dict[str, Callable[[float], float]] = {
    "linear": lambda progress: 1 - progress,
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
    # The form that cooled down best in Haegele et al. 2024, "Scaling Laws and Compute-Optimal Training Beyond Fixed
    # Training Durations"; warm-up, stable, decay is Hu et al. 2024, "MiniCPM".
    "wsd": lambda progress: 1 - math.sqrt(progress),
}
