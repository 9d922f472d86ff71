"""Colours by name, and what the parts of a shape are made of."""

from __future__ import annotations

from dataclasses import dataclass

Vector = tuple[float, float, float]


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
STEEL, SAND, BRICK, LEAF = _rgb("a9adb3"), _rgb("c3b08f"), _rgb("8d5247"), _rgb("5d7a4a")
LIGHT = _rgb("faebb3")


def shade(color: Vector, factor: float) -> Vector:
    """The same hue, darker (< 1)."""
    return (color[0] * factor, color[1] * factor, color[2] * factor)


def pale(color: Vector, share: float = 0.45) -> Vector:
    """The same hue, mixed with white up to `share` of it."""
    return (share + (1 - share) * color[0], share + (1 - share) * color[1], share + (1 - share) * color[2])


def accent(color: Vector) -> Vector:
    """A tone of the same hue that stands out on it: pale, or dark where the colour is pale itself."""
    return shade(color, 0.55) if min(color) > 0.7 else pale(color, 0.65)


@dataclass(frozen=True)
class PartMaterial:
    """A part's surface in the metallic-roughness model of glTF 2.0; its base colour is the part's colour.

    Attributes:
        metallic, roughness: in [0, 1].
    """

    name: str
    metallic: float
    roughness: float


def _material(name: str, metallic: float, roughness: float) -> PartMaterial:
    return PartMaterial(name, metallic, roughness)


MATERIALS: dict[str, PartMaterial] = {
    material.name: material
    for material in (
        _material("oak", 0.0, 0.62),
        _material("painted wood", 0.0, 0.5),
        _material("lacquer", 0.0, 0.22),
        _material("fabric", 0.0, 0.92),
        _material("leather", 0.0, 0.55),
        _material("painted steel", 0.55, 0.42),
        _material("brushed steel", 1.0, 0.34),
        _material("brushed brass", 1.0, 0.3),
        _material("cast iron", 0.9, 0.68),
        _material("car paint", 0.35, 0.16),
        _material("rubber", 0.0, 0.95),
        _material("plastic", 0.0, 0.38),
        _material("glass", 0.0, 0.04),
        _material("glazed ceramic", 0.0, 0.14),
        _material("stoneware", 0.0, 0.72),
        _material("liquid", 0.0, 0.08),
        _material("stone", 0.0, 0.86),
        _material("plaster", 0.0, 0.8),
        _material("brick", 0.0, 0.9),
        _material("fur", 0.0, 0.97),
        _material("skin", 0.0, 0.6),
        _material("feathers", 0.0, 0.88),
        _material("scales", 0.25, 0.3),
        _material("foliage", 0.0, 0.9),
        _material("light", 0.0, 0.3),
    )
}
TRIM: dict[Vector, PartMaterial] = {
    WOOD: MATERIALS["oak"],
    SLATE: MATERIALS["painted steel"],
    CREAM: MATERIALS["lacquer"],
    BRASS: MATERIALS["brushed brass"],
    GLASS: MATERIALS["glass"],
    COFFEE: MATERIALS["liquid"],
    INK: MATERIALS["rubber"],
    STEEL: MATERIALS["brushed steel"],
    SAND: MATERIALS["stone"],
    BRICK: MATERIALS["brick"],
    LEAF: MATERIALS["foliage"],
    LIGHT: MATERIALS["light"],
}
