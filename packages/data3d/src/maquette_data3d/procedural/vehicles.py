"""Trucks, boats and airplanes."""

from __future__ import annotations

import numpy as np

from maquette_data3d.procedural import primitives as prim
from maquette_data3d.procedural.builder import Builder, turn
from maquette_data3d.procedural.grammar import Design, Dice, between, pick
from maquette_data3d.procedural.palette import CREAM, GLASS, INK, LIGHT, SLATE, STEEL, WOOD, Vector, accent, pale, shade

_ACROSS = turn("z", 90.0)


def truck(rng: Dice, color: Vector) -> Design:
    """A truck driving towards +z: a coloured cab, what it carries behind, two or three axles."""
    style, nose = pick(rng, "box", "tanker", "flatbed", "dump"), pick(rng, "flat", "long")
    size, axles = pick(rng, "long", "short"), pick(rng, 2, 3)
    stacks = rng.random() < 0.4
    if size == "short":
        axles = 2
    wheel, width = between(rng, 0.062, 0.07), between(rng, 0.115, 0.13)
    length = 0.3 if size == "long" else between(rng, 0.18, 0.2)  # half length of the load
    floor, cab = wheel * 1.5, 0.11 if nose == "flat" else 0.1
    front = length + 2 * cab + (0.14 if nose == "long" else 0.0)
    build = Builder(material="car paint").part("chassis", SLATE)
    build.box((0, floor, (front - length) / 2), (width * 0.62, 0.03, (front + length) / 2 - 0.01), 0.005)
    build.part("cab", color)
    tall, at = 0.16, length + cab + 0.012
    build.prism((0, floor + tall, at), cab * 1.0, cab * 0.88, tall, width, rounding=0.025, rotation=turn("y", 90.0))
    if nose == "long":
        build.box((0, floor + 0.085, length + 2 * cab + 0.06), (width * 0.8, 0.085, 0.08), 0.03)
    build.part("windows", GLASS)
    build.box((0, floor + tall * 1.5, at + cab * 0.82), (width * 0.84, tall * 0.28, 0.026), 0.008, turn("x", -4.0))
    build.box((0, floor + tall * 1.5, at + cab * 0.1), (width + 0.006, tall * 0.26, cab * 0.5), 0.008)
    _load(build, style, (width, floor + 0.03, length), color)
    _truck_wheels(build, axles, (width, wheel, length), floor, front)
    build.part("lights", LIGHT)
    for x in (0.6, -0.6):
        build.ellipsoid((x * width, floor + 0.06, front + (0.0 if nose == "long" else 0.006)), (0.026, 0.026, 0.02))
    if stacks:
        build.part("stacks", STEEL)
        for x in (0.8, -0.8):
            build.rod((x * width, floor, length + 0.012), (x * width, floor + 2 * tall + 0.08, length + 0.012), 0.019)
    words = {"box": "a box", "tanker": "a tank", "flatbed": "a flat bed", "dump": "an open bed"}[style]
    count = "two axles" if axles == 2 else "three axles"
    features = (words, count, f"a {nose} nose", *(("exhaust stacks",) if stacks else ()))
    attributes = dict(style=style, size=size, nose=nose, axles=axles, stacks=bool(stacks))
    noun = {"tanker": "tanker truck", "dump": "dump truck", "flatbed": "flatbed truck"}.get(style, "box truck")
    return Design(build.finish(), (size,), features, attributes, noun)


def _truck_wheels(build: Builder, axles: int, size: Vector, floor: float, front: float) -> None:
    """Wheels on one axle in front and the others under the load, and what holds them."""
    width, wheel, length = size
    rear = {2: (-length * 0.55,), 3: (-length * 0.3, -length * 0.3 - wheel * 2.15)}[axles]
    build.part("wheels", INK)
    places = [(x, wheel, z) for x in (width * 0.88, -width * 0.88) for z in (*rear, front - wheel * 1.9)]
    for place in places:
        build.cylinder(place, wheel, 0.036, rounding=0.012, rotation=_ACROSS)
    build.part("hubs", CREAM)
    for place in places:
        build.cylinder(place, wheel * 0.5, 0.044, rounding=0.006, rotation=_ACROSS)
    build.part("axles", SLATE)
    for x in (width, -width):
        build.rod((x * 0.8, wheel, rear[0]), (x * 0.6, floor, rear[0]), 0.02)


def _load(build: Builder, style: str, size: Vector, color: Vector) -> None:
    width, y, length = size
    if style == "box":
        build.part("box", pale(color, 0.6)).box((0, y + 0.165, 0), (width * 1.08, 0.17, length), 0.012)
    elif style == "tanker":
        build.part("tank", STEEL)
        build.rod((0, y + 0.13, -length), (0, y + 0.13, length), width * 1.05, rounding=0.04)
        build.box((0, y + 0.02, 0), (width * 0.7, 0.03, length * 0.8))
        for z in (-0.4, 0.4):
            build.cylinder((0, y + 0.14 + width, z * length), 0.045, 0.03)
    else:
        build.part("bed", WOOD if style == "flatbed" else pale(color, 0.25))
        build.box((0, y + 0.012, 0), (width * 1.05, 0.024, length), 0.006)
        if style == "dump":
            build.box((0, y + 0.1, 0), (width * 1.08, 0.1, length), 0.01)
            build.box((0, y + 0.16, 0), (width * 1.08 - 0.034, 0.13, length - 0.034), operation=prim.CUT)
        else:
            build.box((0, y + 0.09, length - 0.02), (width * 1.05, 0.09, 0.02), 0.006)


def boat(rng: Dice, color: Vector) -> Design:
    """A boat heading for +z: a coloured hull, open or decked, with oars, sails, a cabin or a funnel."""
    style, size = pick(rng, "sail", "row", "motor", "tug"), pick(rng, "long", "short")
    hull, stripe = pick(rng, "deep", "shallow"), rng.random() < 0.4
    sails = pick(rng, 2, 1) if style == "sail" else 0
    length = 0.45 if size == "long" else between(rng, 0.31, 0.34)
    width, deep = between(rng, 0.125, 0.145), between(rng, 0.17, 0.2) if hull == "deep" else between(rng, 0.1, 0.12)
    build = Builder(material="lacquer").part("hull", color)
    _hull(build, width, deep, length)
    if style == "row":
        _hull(build, width - 0.036, deep - 0.04, length - 0.05, operation=prim.CUT)
        build.box((0, 0.5, 0), (1, 0.5, 1), operation=prim.CUT)
    if stripe:
        build.part("stripe", accent(color))
        _hull(build, width + 0.012, deep + 0.012, length + 0.012).within((-1, -0.048, -1), (1, -0.012, 1))
        build.box((0, deep, 0), (1, deep - 0.012, 1), operation=prim.CUT)
        build.box((0, -deep, 0), (1, deep - 0.048, 1), operation=prim.CUT)
        _hull(build, width - 0.02, deep - 0.02, length - 0.02, operation=prim.CUT)
    {"sail": _rigging, "row": _oars, "motor": _cabin, "tug": _bridge}[style](rng, build, (width, length, sails), color)
    words = {"sail": ("one sail" if sails == 1 else "two sails",), "row": ("two oars", "three thwarts")}
    features = (
        *words.get(style, ("a cabin", "an outboard motor") if style == "motor" else ("a bridge", "a funnel")),
        f"a {hull} hull",
        *(("a painted stripe",) if stripe else ()),
    )
    attributes = dict(style=style, size=size, hull=hull, stripe=bool(stripe), sails=sails)
    noun = {"sail": "sailboat", "row": "rowboat", "motor": "motorboat", "tug": "tugboat"}[style]
    return Design(build.finish(), (size,), features, attributes, noun)


def _hull(build: Builder, width: float, deep: float, length: float, operation: int = prim.ADD) -> Builder:
    """The lower part of a spindle along z, blunt astern and pointed ahead: as wide as it says at the deck."""
    radius = (width * width + deep * deep) / (2 * deep) if deep < width else width
    rise = radius - deep  # of the spindle's axis over the deck; below 0 where the hull is a full half and more
    shape = (0.8, 0.95, 1.0, 0.94, 0.66, 0.08)
    a, b, c, d, e, f = (max(r * radius, 0.016) for r in shape)
    build.lathe((0, rise, 0), (a, b, c, d, e, f), length, rotation=turn("x", 90.0), operation=operation)
    if operation == prim.ADD:
        outline = prim.profile(np.array([a, b, c, d, e, f]))
        levels = np.linspace(-length, length, len(outline))
        bow = float(np.interp(-max(rise, 0.0), -outline[9:], levels[9:]))  # where the deck cuts the spindle's end
        build.within((-width, -1, -1), (width, 0, bow))
        build.box((0, 0.5, 0), (1, 0.5, 1), operation=prim.CUT)
    return build


def _rigging(rng: Dice, build: Builder, hull: Vector, color: Vector) -> None:
    _, length, sails = hull
    tall, foot = between(rng, 0.66, 0.76), length * 0.1
    build.part("mast", WOOD).rod((0, -0.05, foot), (0, tall, foot), 0.021)
    build.rod((0, 0.07, foot), (0, 0.07, foot - length * 0.75), 0.019)
    build.part("sails", CREAM, "fabric")
    _sail(build, (foot - 0.005, 0.07), (foot - length * 0.75, 0.07), (foot - 0.005, tall - 0.02))
    if sails == 2:
        build.rod((0, 0.02, length * 0.86), (0, tall * 0.78, foot), 0.018)
        _sail(build, (foot + 0.005, 0.13), (length * 0.72, 0.1), (foot + 0.005, tall * 0.74))


def _sail(build: Builder, inner: tuple[float, float], outer: tuple[float, float], top: tuple[float, float]) -> None:
    """A triangle of (z, y) corners: half of a prism, whose other half is cut off along the mast."""
    wide, tall = abs(outer[0] - inner[0]), top[1] - min(inner[1], outer[1])
    lower = min(inner[1], outer[1])
    at = (0.0, lower + tall / 2, inner[0])
    side = 1.0 if outer[0] > inner[0] else -1.0
    part = build.names[-1]
    color, material = build.colors[-1], build.materials[-1].name
    if side > 0:
        build.part(f"{part} 2", color, material)
    build.prism(at, wide, 0.012, tall / 2, 0.0185, rotation=turn("y", 90.0))
    build.within((-1, -1, min(inner[0], outer[0])), (1, 1, max(inner[0], outer[0])))
    build.box((0, at[1], inner[0] - side * wide), (0.1, tall, wide), operation=prim.CUT)


def _oars(rng: Dice, build: Builder, hull: Vector, color: Vector) -> None:
    width, length, _ = hull
    build.part("thwarts", WOOD)
    for z in (-0.4, 0.0, 0.4):
        build.box((0, -0.03, z * length), (width * 0.88, 0.02, 0.034), 0.006)
    build.part("oars", shade(WOOD, 1.2), "oak")
    for x in (-1, 1):
        tip = (x * width * 2.3, -0.06, -length * 0.42)
        build.rod((x * width * 0.35, 0.03, length * 0.08), tip, 0.019)
        build.ellipsoid(tip, (0.085, 0.022, 0.045), turn("y", x * 32.0))


def _cabin(rng: Dice, build: Builder, hull: Vector, color: Vector) -> None:
    width, length, _ = hull
    build.part("cabin", CREAM)
    build.prism((0, 0.03, length * 0.05), length * 0.36, length * 0.26, 0.06, width * 0.62, rounding=0.02,
                rotation=turn("y", 90.0))  # fmt: skip
    build.part("windows", GLASS)
    build.prism((0, 0.12, -length * 0.02), length * 0.27, length * 0.14, 0.055, width * 0.56, rounding=0.02,
                rotation=turn("y", 90.0))  # fmt: skip
    build.part("motor", SLATE)
    build.box((0, 0.01, -length * 0.74), (0.05, 0.07, 0.045), 0.02)
    build.rod((0, 0.0, -length * 0.76), (0, -0.14, -length * 0.76), 0.022)


def _bridge(rng: Dice, build: Builder, hull: Vector, color: Vector) -> None:
    width, length, _ = hull
    build.part("bridge", CREAM)
    build.box((0, 0.05, 0), (width * 0.62, 0.06, length * 0.42), 0.012)
    build.box((0, 0.15, length * 0.16), (width * 0.5, 0.06, length * 0.2), 0.012)
    build.part("windows", GLASS).box((0, 0.165, length * 0.16), (width * 0.53, 0.026, length * 0.22), 0.006)
    build.part("roof", shade(color, 0.8)).box((0, 0.22, length * 0.16), (width * 0.6, 0.019, length * 0.26), 0.008)
    build.part("funnel", color).rod((0, 0.08, -length * 0.2), (0, 0.3, -length * 0.23), 0.05, 0.042)
    build.part("band", INK).rod((0, 0.25, -length * 0.223), (0, 0.31, -length * 0.232), 0.049)


def airplane(rng: Dice, color: Vector) -> Design:
    """An airplane flying towards +z: fuselage, wings, tail, engines or propellers."""
    style, wings = pick(rng, "jet", "propeller", "glider"), pick(rng, "swept", "straight")
    size, tail = pick(rng, "long", "short"), pick(rng, "low", "high")
    engines = {"jet": pick(rng, 2, 4), "propeller": pick(rng, 1, 2), "glider": 0}[style]
    two = style == "propeller" and engines == 1 and rng.random() < 0.5
    if style == "glider":
        wings = "straight"
    length = 0.45 if size == "long" else between(rng, 0.31, 0.34)
    body = between(rng, 0.048, 0.056) if size == "long" else between(rng, 0.056, 0.064)
    span, chord = (0.42 if style != "glider" else 0.45), between(rng, 0.085, 0.1) * (0.8 if style == "glider" else 1.0)
    build = Builder(material="car paint").part("fuselage", color)
    build.limb((0, 0, length * 0.6), (0, body * 0.25, -length * 0.9), body, body * 0.5)
    build.ellipsoid((0, -body * 0.05, length * 0.62), (body * 0.98, body * 0.98, length * 0.38))
    build.part("windows", GLASS).ellipsoid((0, body * 0.62, length * 0.66), (body * 0.6, body * 0.5, length * 0.15))
    build.part("wings", pale(color, 0.5))
    lean = 0.16 if wings == "swept" else 0.0
    middle = length * 0.12
    levels = (-body * 0.4, body * 2.6) if two else (body * (0.75 if style == "glider" else -0.3),)
    for level in levels:
        for side in (-1, 1):
            tip = (side * span, level + 0.015, middle - lean)
            build.plate((0, level, middle), tip, (chord, chord * 0.55), 0.0185, (0, 0, 1), 0.008)
    if two:
        for x in (-0.6, 0.6):
            build.rod((x * span, levels[0], middle), (x * span, levels[1], middle), 0.018)
            build.rod((x * 0.15, 0, middle), (x * 0.15, levels[1], middle), 0.018)
    _tail(build, tail, (length, body, lean), color)
    if engines:
        _engines(build, style, engines, ((length, body), (span, middle, lean)))
    words = {
        "jet": f"{'two' if engines == 2 else 'four'} engines",
        "propeller": "one propeller" if engines == 1 else "two propellers",
        "glider": "no engine",
    }[style]
    features = (words, f"{wings} wings", f"a {tail} tailplane", *(("two pairs of wings",) if two else ()))
    attributes = dict(style=style, size=size, wings=wings, tail=tail, engines=engines, biplane=bool(two))
    return Design(build.finish(), (size,), features, attributes, "jet airplane" if style == "jet" else "")


def _tail(build: Builder, style: str, size: Vector, color: Vector) -> None:
    length, body, lean = size
    root, slope = -length * 0.82, 0.06 + lean * 0.3
    tall = 0.19 if style == "high" else 0.16
    build.part("fin", color)
    build.plate((0, 0, root), (0, tall, root - slope), (0.07, 0.045), 0.019, (0, 0, 1), 0.008)
    build.part("tailplane", pale(color, 0.5))
    level, back = (tall - 0.012, root - slope) if style == "high" else (body * 0.3, root)
    for side in (-1, 1):
        tip = (side * 0.15, level, back - lean * 0.35)
        build.plate((0, level, back), tip, (0.055, 0.035), 0.0185, (0, 0, 1), 0.008)


def _engines(build: Builder, style: str, count: int, places: tuple[tuple[float, float], Vector]) -> None:
    """Jets under the wings, or propellers at the nose or the wings."""
    (length, body), (span, middle, lean) = places
    shares = {1: (0.0,), 2: (-0.36, 0.36), 4: (-0.64, -0.32, 0.32, 0.64)}[count]
    build.part("engines", SLATE)
    ends = []
    for share in shares:
        front = middle - lean * abs(share) + 0.14
        at = (share * span, -body * 0.75, front) if count > 1 else (0.0, 0.0, length * 0.94)
        radius = 0.04 if style == "jet" else 0.036
        build.rod((at[0], at[1], at[2] - 0.15), at, radius * 0.8, radius, 0.012)
        ends.append(at)
    if style == "jet":
        return
    build.part("propellers", INK)
    for x, y, z in ends:
        build.ellipsoid((x, y, z + 0.01), (0.025, 0.025, 0.035))
        build.box((x, y, z + 0.012), (0.022, 0.125 if count == 1 else 0.105, 0.018), 0.012, turn("z", 35.0))
