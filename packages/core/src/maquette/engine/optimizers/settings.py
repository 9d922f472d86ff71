"""What every optimizer's block holds: rate, schedule, decay, groups. No torch here."""

from __future__ import annotations

from dataclasses import dataclass, field

from maquette.blocks import MISSING

SCHEDULES = ("constant", "linear", "cosine", "wsd")


@dataclass
class GroupConfig:
    """Parameters that are treated apart."""

    match: str = MISSING
    """A glob of parameter names, e.g. ``conditioner.*``. The first group that matches counts."""
    learning_rate_scale: float = 1.0
    weight_decay: float | None = None
    """Of all that matches, vectors too; none leaves the common rule."""

    def __post_init__(self) -> None:
        _not_negative("optimizer.groups.learning_rate_scale", self.learning_rate_scale)
        _not_negative("optimizer.groups.weight_decay", self.weight_decay or 0.0)


@dataclass
class OptimizerConfig:
    """The learning rate over the run and the weight decay."""

    learning_rate: float = 1e-3
    """The highest of the run."""
    weight_decay: float = 0.01
    """Decoupled (Loshchilov & Hutter 2019); of matrices alone, unless a group says otherwise."""
    warmup_steps: int = 50
    schedule: str = "cosine"
    """After the warm-up: constant, linear, cosine, or wsd (stays at the highest, falls at the end)."""
    decay_share: float = 0.2
    """The share of the run's steps in which wsd falls."""
    min_ratio: float = 0.02
    """The learning rate at the end, as a share of the highest."""
    groups: list[GroupConfig] = field(default_factory=list)

    def __post_init__(self) -> None:
        one_of("optimizer.schedule", self.schedule, SCHEDULES)
        for key in ("learning_rate", "weight_decay", "warmup_steps"):
            _not_negative(f"optimizer.{key}", getattr(self, key))
        for key in ("decay_share", "min_ratio"):
            in_unit(f"optimizer.{key}", getattr(self, key))


def in_unit(key: str, value: float) -> None:
    """Refuse what is not a share.

    Raises:
        ValueError: ``value`` is outside [0, 1].
    """
    if not 0 <= value <= 1:
        raise ValueError(f"'{key}' is {value}; it must be in [0, 1]")


def one_of(key: str, value: str, known: tuple[str, ...]) -> None:
    """Refuse an unknown word.

    Raises:
        ValueError: ``value`` is not among ``known``.
    """
    if value not in known:
        raise ValueError(f"'{key}' is '{value}'; known: {', '.join(known)}")


def check_betas(betas: list[float]) -> None:
    """Refuse what are not two decay rates of Adam.

    Raises:
        ValueError: not two numbers in [0, 1).
    """
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"'optimizer.betas' is {list(betas)}; it must be two numbers in [0, 1)")


def _not_negative(key: str, value: float) -> None:
    if value < 0:
        raise ValueError(f"'{key}' is {value}; it must be at least 0")
