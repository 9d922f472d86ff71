"""Houses, towers and bridges."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from maquette_data3d.procedural import primitives as prim
from maquette_data3d.procedural.builder import Builder, turn
from maquette_data3d.procedural.furnishings import NUMBERS
from maquette_data3d.procedural.grammar import Design, Dice, between, pick
from maquette_data3d.procedural.palette import BRICK, CREAM, GLASS, INK, SAND, SLATE, WOOD, Vector, pale, shade

_ALONG = turn("y", 90.0)


def house(rng: Dice, color: Vector) -> Design:
    """A house with its door towards +z: coloured walls, one or two storeys, one of four roofs."""
    roof, storeys = pick(rng, "gable", "hip", "flat", "shed"), pick(rng, 1, 2)
    size, chimney = pick(rng, "wide", "narrow"), rng.random() < 0.5
    porch, garage = rng.random() < 0.35, rng.random() < 0.3
    half = between(rng, 0.3, 0.36) if size == "wide" else between(rng, 0.18, 0.21)
    depth, floor, rise = between(rng, 0.19, 0.23), between(rng, 0.19, 0.22), between(rng, 0.17, 0.21)
    high = floor * storeys
    build = Builder(material="plaster").part("walls", color)
    if roof == "shed":
        build.box((0, (high + rise) / 2, 0), (half, (high + rise) / 2, depth))
        build.within((-1, 0, -1), (1, high + 0.8 * rise, 1))
        lean = _lean(rise, depth)
        up = lean @ np.array([0.0, 1.0, 0.0])
        build.box((0, high + rise * 0.4 + up[1], up[2]), (1, 1, 1), rotation=lean, operation=prim.CUT)
    else:
        build.box((0, high / 2, 0), (half, high / 2, depth))
    if garage:
        build.box((half + 0.1, floor * 0.42, -0.02), (0.12, floor * 0.42, depth * 0.8))
    tiles = pick(rng, BRICK, SLATE, shade(BRICK, 0.6), shade(SLATE, 1.5))
    build.part("roof", tiles, "brick")
    _roof(build, roof, (half, high, depth), rise)
    if garage:
        build.box((half + 0.11, floor * 0.86, -0.02), (0.145, 0.02, depth * 0.8 + 0.03), 0.006)
    _openings(build, storeys, (half, floor, depth), garage)
    if chimney:
        build.part("chimney", shade(BRICK, 0.85), "brick")
        build.box((-half * 0.5, high + rise * 0.7, -depth * 0.3), (0.036, rise * 0.75 + 0.02, 0.036))
    if porch:
        _porch(build, floor, depth)
    features = (
        f"a {roof} roof",
        "one storey" if storeys == 1 else "two storeys",
        *(("a chimney",) if chimney else ()),
        *(("a porch",) if porch else ()),
        *(("a garage",) if garage else ()),
    )
    extras = dict(chimney=bool(chimney), porch=bool(porch), garage=bool(garage))
    attributes = dict(roof=roof, storeys=storeys, size=size, **extras)
    return Design(build.finish(), (size,), features, attributes)


def _roof(build: Builder, style: str, walls: Vector, rise: float) -> None:
    half, y, depth = walls
    out = 0.035
    if style == "gable":
        build.prism((0, y + rise / 2 - 0.004, 0), depth + out, 0.012, rise / 2, half + out, rotation=_ALONG)
    elif style == "hip":
        build.prism((0, y + rise / 2 - 0.004, 0), depth + out, 0.012, rise / 2, half + out, rotation=_ALONG)
        slope = float(np.rad2deg(np.arctan2(depth + out, rise)))
        for side in (-1, 1):
            away = turn("z", side * slope)
            at = np.array([side * (half + out), y - 0.004, 0.0]) + away @ np.array([side * 0.5, 0.0, 0.0])
            build.box((at[0], at[1], at[2]), (0.5, 1.0, 1.0), rotation=away, operation=prim.CUT)
    elif style == "flat":
        build.box((0, y + 0.01, 0), (half + out * 0.7, 0.03, depth + out * 0.7), 0.006)
    else:
        build.box((0, y + rise * 0.4, 0), (half + out, 0.022, depth * 1.05 + out), 0.005, _lean(rise, depth))


def _lean(rise: float, depth: float) -> np.ndarray:
    """Tilt of a roof that falls towards the front."""
    return turn("x", float(np.rad2deg(np.arctan2(rise * 0.4, depth))))


def _openings(build: Builder, storeys: int, walls: Vector, garage: bool) -> None:
    """A door in the middle, windows to either side on both long walls, and a gate for the garage."""
    half, floor, depth = walls
    build.part("door", WOOD).box((0, floor * 0.34, depth), (0.05, floor * 0.34, 0.02), 0.004)
    build.part("windows", GLASS)
    columns = (-0.66, 0.66) if half < 0.25 else (-0.7, -0.38, 0.38, 0.7)
    wide = 0.04 if half < 0.25 else 0.042
    for storey in range(storeys):
        for share in (*columns, *((0.0,) if storey else ())):
            for z in (depth, -depth):
                build.box((share * half, floor * (storey + 0.56), z), (wide, floor * 0.2, 0.017), 0.003)
    if garage:
        build.part("gate", CREAM)
        build.box((half + 0.11, floor * 0.33, depth * 0.8 - 0.02), (0.08, floor * 0.33, 0.02), 0.004)


def tower(rng: Dice, color: Vector) -> Design:
    """A tower: round, square or eight-sided, under battlements, a cone, a dome or a flat platform."""
    form, top = pick(rng, "round", "square", "tapered"), pick(rng, "battlements", "cone", "dome", "platform")
    size, clock = pick(rng, "slim", "broad"), rng.random() < 0.35
    windows, base = pick(rng, 3, 2, 4), rng.random() < 0.5
    half = between(rng, 0.09, 0.105) if size == "slim" else between(rng, 0.16, 0.19)
    high = between(rng, 0.6, 0.64)
    upper = half * (0.68 if form == "tapered" else 1.0)
    build = Builder(material="stone").part("walls", color)
    if form == "square":
        build.box((0, high / 2, 0), (half, high / 2, half), 0.004)
    else:
        build.cylinder((0, high / 2, 0), half, high / 2, upper)
    if base:
        build.part("base", SAND)
        if form == "square":
            build.box((0, 0.035, 0), (half * 1.25, 0.045, half * 1.25), 0.006)
        else:
            build.cylinder((0, 0.035, 0), half * 1.32, 0.045, half * 1.2)
    _crown(build, form, top, (upper, high, half), color)
    build.part("door", WOOD)
    build.box((0, 0.06 if not base else 0.1, half * 0.98), (0.036, 0.07, half * 0.25 + 0.012), 0.004)
    build.part("windows", INK, "glass")
    for number in range(windows):
        share = 0.34 + 0.5 * number / max(windows - 1, 1) * (0.72 if clock else 1.0)
        reach = half + (upper - half) * share
        build.box((0, high * share, 0), (0.022, 0.036, reach + 0.008), 0.004)
        build.box((0, high * share, 0), (reach + 0.008, 0.036, 0.022), 0.004)
    if clock:
        build.part("clock", CREAM)
        reach = half + (upper - half) * 0.87
        build.cylinder((0, high * 0.87, 0), min(reach * 0.66, 0.09), reach + 0.02, rotation=turn("x", 90.0))
    words = {"battlements": "battlements", "cone": "a cone roof", "dome": "a dome", "platform": "a flat platform"}[top]
    extras = (*(("a clock",) if clock else ()), *(("a stone base",) if base else ()))
    features = (words, f"{NUMBERS[windows]} rows of windows", *extras)
    attributes = dict(form=form, top=top, size=size, windows=windows, clock=bool(clock), base=bool(base))
    return Design(build.finish(), (size, form), features, attributes)


def _crown(build: Builder, form: str, top: str, size: Vector, color: Vector) -> None:
    upper, high, _ = size
    square = form == "square"
    if top in ("battlements", "platform"):
        build.part("platform", shade(color, 0.85))
        wide = upper * 1.22 + 0.012
        if square:
            build.box((0, high, 0), (wide, 0.034, wide), 0.004)
        else:
            build.cylinder((0, high, 0), wide * 0.92, 0.034, wide)
        if top == "platform":
            return
        build.part("battlements", color)
        tooth = max(wide * 0.17, 0.021)
        for number in range(8):
            angle = np.pi * number / 4
            x, z = float(np.cos(angle)), float(np.sin(angle))
            stretch = 1 / max(abs(x), abs(z)) if square else 1.0
            reach = (wide - tooth * 1.05) * stretch
            at = (x * reach, high + 0.06, z * reach)
            build.box(at, (tooth, 0.042, tooth), 0.003, None if square else turn("y", -45.0 * number))
    elif top == "dome":
        build.part("dome", SLATE, "brushed brass")
        build.ellipsoid((0, high, 0), (upper * 1.08, upper * 1.15, upper * 1.08))
        build.box((0, high - 1.02, 0), (1, 1, 1), operation=prim.CUT)
        build.rod((0, high + upper, 0), (0, high + upper * 1.15 + 0.09, 0), 0.019)
    else:
        build.part("roof", BRICK)
        tall = max(upper * 1.7, 0.18)
        if square:
            build.prism((0, high + tall / 2 - 0.004, 0), upper * 1.2, 0.012, tall / 2, upper * 1.2)
            slope = float(np.rad2deg(np.arctan2(upper * 1.2, tall)))
            for side in (-1, 1):
                away = turn("x", -side * slope)
                at = np.array([0.0, high - 0.004, side * upper * 1.2]) + away @ np.array([0.0, 0.0, side * 0.5])
                build.box((at[0], at[1], at[2]), (1.0, 1.0, 0.5), rotation=away, operation=prim.CUT)
        else:
            build.cylinder((0, high + tall / 2 - 0.004, 0), upper * 1.25, tall / 2, 0.012)


def bridge(rng: Dice, color: Vector) -> Design:
    """A bridge along x: arches of stone, a suspension bridge, or a beam on piers."""
    style, railings = pick(rng, "arch", "suspension", "beam"), pick(rng, "solid", "no", "posts")
    size, spans = pick(rng, "wide", "narrow"), pick(rng, 2, 1, 3)
    lamps = rng.random() < 0.35
    depth, high = (between(rng, 0.13, 0.16) if size == "wide" else between(rng, 0.07, 0.085)), between(rng, 0.2, 0.26)
    if style == "suspension":
        spans, railings = 3, "no"
    build = Builder(material="painted steel" if style != "arch" else "stone").part("deck", color)
    build.box((0, high, 0), (0.45, 0.026, depth), 0.004)
    if style == "arch":
        _arches(build, spans, (0.45, high, depth), color)
    elif style == "beam":
        build.part("piers", SAND)
        for number in range(spans + 1):
            x = 0.39 * (2 * number / spans - 1)
            build.box((x, high / 2, 0), (0.035, high / 2, depth * 0.7), 0.006)
            build.box((x, high - 0.045, 0), (0.055, 0.03, depth * 0.95), 0.006)
    else:
        _cables(build, (0.45, high, depth))
    if railings != "no":
        build.part("railings", shade(color, 0.8))
        _railings(build, railings, high, depth)
    if lamps:
        build.part("lamp posts", INK, "cast iron")
        places = [(x, z) for x in (-0.22, 0.22) for z in (-depth + 0.02, depth - 0.02)]
        for x, z in places:
            build.rod((x, high, z), (x, high + 0.2, z), 0.018)
        build.part("lanterns", (0.98, 0.92, 0.7), "light")
        for x, z in places:
            build.ellipsoid((x, high + 0.21, z), (0.03, 0.034, 0.03))
    words = {"arch": "arch" if spans == 1 else "arches", "beam": "span" if spans == 1 else "spans"}
    sides = {"solid": "solid railings", "posts": "open railings", "no": "no railings"}[railings]
    features = ("two towers", "cables") if style == "suspension" else (f"{NUMBERS[spans]} {words[style]}", sides)
    features = (*features, *(("four lamp posts",) if lamps else ()))
    attributes = dict(style=style, size=size, spans=spans, railings=railings, lamps=bool(lamps))
    return Design(build.finish(), (size,), features, attributes, f"{style} bridge")


def _railings(build: Builder, style: str, high: float, depth: float) -> None:
    for z in (-depth + 0.019, depth - 0.019):
        if style == "solid":
            build.box((0, high + 0.05, z), (0.45, 0.034, 0.019), 0.004)
            continue
        build.box((0, high + 0.095, z), (0.45, 0.018, 0.019), 0.004)
        for number in range(7):
            x = 0.43 * (number / 3 - 1)
            build.rod((x, high, z), (x, high + 0.095, z), 0.019)


def _arches(build: Builder, spans: int, deck: Vector, color: Vector) -> None:
    half, high, depth = deck
    build.part("arches", shade(color, 0.86))
    build.box((0, high / 2, 0), (half, high / 2, depth * 0.94))
    wide = half / spans
    radius, across = wide * 0.8, turn("x", 90.0)
    squash = min(1.0, (high - 0.055) / radius)
    for number in range(spans):
        x = (2 * number + 1) * wide - half
        if squash < 1.0:  # a flat arch: the part of a larger circle that fits under the deck
            rise = high - 0.055
            circle = (radius**2 + rise**2) / (2 * rise)
            build.cylinder((x, rise - circle, 0), circle, 1.0, rotation=across, operation=prim.CUT)
        else:
            spring = high - 0.055 - radius
            build.cylinder((x, spring, 0), radius, 1.0, rotation=across, operation=prim.CUT)
            build.box((x, spring / 2 - 0.5, 0), (radius, spring / 2 + 0.5, 1.0), operation=prim.CUT)


def _cables(build: Builder, deck: Vector) -> None:
    """Two gate towers, cables that sag between them and run down to the ends, and hangers."""
    half, high, depth = deck
    place, top = half * 0.56, high + 0.3
    build.part("towers", SLATE)
    for x in (-place, place):
        for z in (-depth, depth):
            build.box((x, top / 2, z), (0.028, top / 2, 0.024), 0.004)
        build.box((x, top - 0.05, 0), (0.024, 0.024, depth))
    build.part("cables", pale(SLATE, 0.3), "brushed steel")
    for z in (-depth, depth):
        knots = [(place * t, high + 0.05 + 0.24 * t * t) for t in (-1.0, -0.6, -0.2, 0.2, 0.6, 1.0)]
        line = [(-half + 0.01, high + 0.01), *knots, (half - 0.01, high + 0.01)]
        for (x0, y0), (x1, y1) in pairwise(line):
            build.limb((x0, y0, z), (x1, y1, z), 0.018)
        for x, y in (*knots[1:-1], (-half * 0.78, high + 0.16), (half * 0.78, high + 0.16)):
            build.rod((x, high, z), (x, y, z), 0.018)


def _porch(build: Builder, floor: float, depth: float) -> None:
    build.part("porch", CREAM)
    build.box((0, floor * 0.82, depth + 0.06), (0.13, 0.02, 0.09), 0.006)
    build.box((0, 0.012, depth + 0.06), (0.13, 0.02, 0.09))
    for x in (-0.105, 0.105):
        build.rod((x, 0, depth + 0.125), (x, floor * 0.82, depth + 0.125), 0.02)
