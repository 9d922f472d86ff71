"""Colours, and captions from attributes that the geometry really has."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from maquette_data3d.procedural.builder import Program
from maquette_data3d.procedural.palette import COLORS, Vector


@dataclass(frozen=True)
class Design:
    """What a class's sampler hands over: the geometry, and what may be said about it.

    Attributes:
        adjectives: words before the colour ("tall", "round").
        features: phrases after the noun, without the joining word: "thick legs", "no back".
        attributes: every choice that shaped the geometry.
        noun: what it is called where that says more than its class ("sailboat").
    """

    program: Program
    adjectives: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    noun: str = ""


@dataclass(frozen=True)
class Dice:
    """Draws for a shape's design. `variety` 1 offers every choice, less only the first few; sizes always vary.

    A small model learns from few shapes only what they share.
    """

    rng: np.random.Generator
    variety: float = 1.0

    def integers(self, count: int) -> int:
        """One of the first choices."""
        return int(self.rng.integers(math.ceil(1 + self.variety * (count - 1) - 1e-9)))

    def uniform(self, low: float, high: float) -> float:
        """A number of a range."""
        return float(self.rng.uniform(low, high))

    def random(self) -> float:
        """In [0, 1] or above: below any p with probability p * variety."""
        return float(self.rng.random()) / max(self.variety, 1e-9)


def pick(rng: np.random.Generator | Dice, *choices: Any) -> Any:
    """One of the choices, all equally likely."""
    return choices[int(rng.integers(len(choices)))]


def between(rng: np.random.Generator | Dice, low: float, high: float) -> float:
    """A uniform float."""
    return float(rng.uniform(low, high))


def color_of_body(rng: np.random.Generator) -> tuple[str, Vector]:
    """A named colour."""
    name = pick(rng, *COLORS)
    return name, COLORS[name]


def listed(items: tuple[str, ...]) -> str:
    """Items in words: "a, b and c"."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


def caption(rng: np.random.Generator, design: Design, color: str, noun: str) -> str:
    """A caption that names the colour and the noun always, the rest mostly, in one of a few wordings."""
    features = tuple(f for f in design.features if rng.random() < 0.85)
    adjectives = " and ".join(design.adjectives)
    full, bare = " ".join((*design.adjectives, color, noun)), f"{color} {noun}"
    wording = int(rng.integers(4))
    if not features:
        return with_article(full) if wording < 3 else full
    if wording < 2:
        return f"{with_article(full)} with {listed(features)}"
    if wording == 2:
        return f"{full}, {', '.join(features)}"
    if adjectives:
        return f"{with_article(bare)} with {listed(features)}, {adjectives}"
    return f"{with_article(full)} that has {listed(features)}"


def with_article(phrase: str) -> str:
    """The phrase after "a" or "an"."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"
