"""Colours, and captions from attributes that the geometry really has."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from maquette_data3d.procedural.builder import Program, Vector


def _rgb(code: str) -> Vector:
    return (int(code[0:2], 16) / 255, int(code[2:4], 16) / 255, int(code[4:6], 16) / 255)


COLORS: dict[str, Vector] = {
    name: _rgb(code)
    for name, code in {
        "red": "cf3a34",
        "orange": "ee8a2d",
        "yellow": "f2c83c",
        "green": "4e9f58",
        "blue": "3b6fc4",
        "purple": "7d55b4",
        "pink": "ea8fb0",
        "white": "ece9e2",
    }.items()
}
# Trim: never named in a caption, never the colour of a body.
WOOD, SLATE, CREAM, BRASS = _rgb("8a6142"), _rgb("41454f"), _rgb("d9cdb8"), _rgb("b98d3e")
GLASS, COFFEE, INK = _rgb("93b3c4"), _rgb("4a2f20"), _rgb("25252b")


def shade(color: Vector, factor: float) -> Vector:
    """The same hue, darker (< 1)."""
    return (color[0] * factor, color[1] * factor, color[2] * factor)


@dataclass(frozen=True)
class Design:
    """What a class's sampler hands over: the geometry, and what may be said about it.

    Attributes:
        adjectives: words before the colour ("tall", "round").
        features: phrases after the noun, without the joining word: "thick legs", "no back".
        attributes: every choice that shaped the geometry.
    """

    program: Program
    adjectives: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)


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


def _listed(items: tuple[str, ...]) -> str:
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


def caption(rng: np.random.Generator, design: Design, color: str, noun: str) -> str:
    """A caption that names the colour and the noun always, the rest mostly, in one of a few wordings."""
    features = tuple(f for f in design.features if rng.random() < 0.85)
    adjectives = " and ".join(design.adjectives)
    full, bare = " ".join((*design.adjectives, color, noun)), f"{color} {noun}"
    wording = int(rng.integers(4))
    if not features:
        return _with_article(full) if wording < 3 else full
    if wording < 2:
        return f"{_with_article(full)} with {_listed(features)}"
    if wording == 2:
        return f"{full}, {', '.join(features)}"
    if adjectives:
        return f"{_with_article(bare)} with {_listed(features)}, {adjectives}"
    return f"{_with_article(full)} that has {_listed(features)}"


def _with_article(phrase: str) -> str:
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"
