"""Instructions such as "make the seat dark red" in plain words: which parts or place, and which look."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from maquette.errors import MaquetteError
from maquette_models.editing.regions import AXES, SHARES
from maquette_models.metrics.color_accuracy import PALETTE, hex_to_rgb

Color = tuple[float, float, float]
MORE_COLORS = {
    "black": "1c1c1f", "grey": "808285", "gray": "808285", "brown": "7a4e2d", "beige": "d8c8a8", "turquoise": "36b3a8",
    "gold": "d4a017", "golden": "d4a017", "silver": "c3c7cb", "copper": "b5703c", "brass": "b98d3e", "bronze": "8c6a3a",
    "chrome": "d5d8db", "steel": "a9adb3",
}  # fmt: skip
METALS = ("gold", "golden", "silver", "copper", "brass", "bronze", "chrome", "steel", "metal", "metallic")
ROUGHNESS = {
    "matte": 0.95, "matt": 0.95, "rough": 0.9, "dull": 0.85, "satin": 0.5, "plastic": 0.4, "glossy": 0.15,
    "shiny": 0.15, "polished": 0.1, "chrome": 0.1,
}  # fmt: skip
DARK, LIGHT = ("dark", "deep"), ("light", "pale", "bright")
NOT_METAL = ("plastic", "wooden", "rubber")
ALL = ("all", "everything", "whole", "it", "mesh", "object")
FILLING = {
    "make", "paint", "color", "colour", "recolor", "recolour", "turn", "change", "give", "set", "the", "a", "an", "of",
    "in", "to", "into", "and", "with", "its", "be", "more", "look", "please", "finish", "side", "part", "end", "at",
    "on", "surface",
}  # fmt: skip
METAL_ROUGHNESS = 0.35
"""Of what is called metallic, where nothing is said of its finish."""


@dataclass(frozen=True)
class Look:
    """What a region is to look like; None leaves it as it is. Colour is sRGB in [0,1]."""

    color: Color | None = None
    metallic: float | None = None
    roughness: float | None = None

    def __bool__(self) -> bool:
        return (self.color, self.metallic, self.roughness) != (None, None, None)


@dataclass(frozen=True)
class Instruction:
    """`parts` are numbers of the mesh's parts, `place` words such as "upper half" that `regions.box_of_words` reads;
    where both are empty all of the mesh is meant."""

    parts: tuple[int, ...]
    place: str
    look: Look


def read_instruction(text: str, part_names: Sequence[str], nouns: Sequence[str] = ()) -> Instruction:
    """What a text asks for.

    Args:
        text: names a look, and parts, a place, or nothing for all of the mesh.
        part_names: of the mesh.
        nouns: words for the whole of it, such as its class.

    Raises:
        MaquetteError: no look is named, or something that the mesh has no part of.
    """
    said = re.findall(r"[a-z]+", text.lower())
    look = look_of(said)
    if not look:
        raise MaquetteError(
            f"'{text}' names no look; use colours ({', '.join(PALETTE)}, black, ...), metal, or a finish such as matte"
        )
    parts = named_parts(said, part_names)
    known = FILLING | look_words() | {word for place in parts for word in part_words(part_names[place])}
    rest = [word for word in said if word not in known and singular(word) not in known]
    places = [word for word in rest if word in AXES]
    strange = [word for word in rest if word not in (*AXES, *SHARES, *ALL, *nouns)]
    if strange:
        has = ", ".join(dict.fromkeys(part_names)) or "no named parts"
        raise MaquetteError(f"'{text}': nothing of the mesh is called '{strange[0]}'; it has {has}")
    return Instruction(parts, text if places else "", look)


def look_of(said: Sequence[str]) -> Look:
    """The look that words name: the last colour, and what goes with it."""
    colors = [word for word in said if word in PALETTE or word in MORE_COLORS]
    color = color_of(colors[-1], said) if colors else None
    finish = [ROUGHNESS[word] for word in said if word in ROUGHNESS]
    metallic, roughness = None, finish[-1] if finish else None
    if any(word in METALS for word in said):
        metallic, roughness = 1.0, METAL_ROUGHNESS if roughness is None else roughness
    elif any(word in NOT_METAL for word in said):
        metallic = 0.0
    return Look(color, metallic, roughness)


def color_of(name: str, said: Sequence[str] = ()) -> Color:
    """A colour by name, darker or paler where the words beside it say so.

    Raises:
        MaquetteError: no such colour.
    """
    code = {**MORE_COLORS, **PALETTE}.get(name.lower(), name.removeprefix("#"))
    if not re.fullmatch("[0-9a-fA-F]{6}", code):
        raise MaquetteError(f"'{name}' is no colour; use {', '.join((*PALETTE, *MORE_COLORS))}, or a code like #cf3a34")
    red, green, blue = hex_to_rgb(code).tolist()
    if any(word in DARK for word in said):
        return 0.6 * red, 0.6 * green, 0.6 * blue
    if any(word in LIGHT for word in said):
        return 0.35 + 0.65 * red, 0.35 + 0.65 * green, 0.35 + 0.65 * blue
    return red, green, blue


def named_parts(said: Sequence[str], part_names: Sequence[str]) -> tuple[int, ...]:
    """The parts all of whose words are said, in one number or the other; those of the longest names only, so that "the
    left wheel" is not every wheel."""
    spoken = {singular(word) for word in said}
    found = {place: words for place, name in enumerate(part_names) if (words := part_words(name)) and words <= spoken}
    return tuple(place for place, words in found.items() if not any(words < other for other in found.values()))


def part_words(name: str) -> frozenset[str]:
    """The words of a part's name, each in the singular and without numbers."""
    return frozenset(singular(word) for word in re.findall(r"[a-z]+", name.lower()))


def singular(word: str) -> str:
    """A word without the plural's ending, as far as parts of things need it."""
    if word.endswith("ves"):
        return word[:-3] + "f"
    return word[:-1] if len(word) > 2 and word.endswith("s") and not word.endswith("ss") else word


def look_words() -> set[str]:
    """All words that say what something looks like."""
    return {*PALETTE, *MORE_COLORS, *METALS, *ROUGHNESS, *DARK, *LIGHT, *NOT_METAL}
