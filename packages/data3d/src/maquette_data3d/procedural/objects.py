"""Mugs, cars, creatures, pebbles and gears."""

from __future__ import annotations

import numpy as np

from maquette_data3d.procedural import primitives as prim
from maquette_data3d.procedural.builder import Builder, turn
from maquette_data3d.procedural.grammar import Design, Dice, between, pick
from maquette_data3d.procedural.palette import BRASS, COFFEE, CREAM, GLASS, INK, SLATE, Vector, shade


def mug(rng: Dice, color: Vector) -> Design:
    """A mug with its handle towards +x: hollow, perhaps full, perhaps on a saucer."""
    size, handle = pick(rng, "tall", "wide", ""), pick(rng, "round", "square", "no", "two")
    form = pick(rng, "straight", "flared", "tapered")
    full, saucer = rng.random() < 0.5, rng.random() < 0.35
    radii = {"tall": between(rng, 0.19, 0.22), "wide": between(rng, 0.34, 0.38)}
    radius = radii.get(size, between(rng, 0.26, 0.29))
    halves = {"tall": between(rng, 0.36, 0.4), "wide": between(rng, 0.2, 0.23)}
    half = halves.get(size, between(rng, 0.27, 0.3))
    high = radius * {"straight": 1.0, "flared": 1.18, "tapered": 0.84}[form]
    wall = between(rng, 0.036, 0.048)
    build = Builder(material="glazed ceramic").part("cup", color)
    cavity = {"radius": radius - wall, "half": half, "top": high - wall, "rounding": 0.02}
    build.cylinder((0, half, 0), radius, half, high, rounding=0.02)
    build.cylinder((0, half + wall * 1.4, 0), **cavity, operation=prim.CUT)
    if handle != "no":
        tube = between(rng, 0.026, 0.034)
        build.part("handle", color)
        for side in (1, -1) if handle == "two" else (1,):
            _handle(build, handle, (side * (radius + high) / 2, half, 0.0), tube)
        # What reaches into the cup is cut off within its wall.
        build.cylinder((0, half, 0), radius - wall * 0.5, half * 1.5, high - wall * 0.5, operation=prim.CUT)
    if full:
        low, level = wall * 0.7, half * 1.6  # from within the bottom up, so that no air is trapped
        lean = (high - radius) / (2 * half)
        inner = radius - wall * 0.7
        build.part("drink", COFFEE)
        build.cylinder((0, (low + level) / 2, 0), inner + lean * low, (level - low) / 2, inner + lean * level)
    if saucer:
        build.part("saucer", shade(color, 0.88))
        build.cylinder((0, -0.005, 0), radius * 0.9, 0.022, radius * 1.5, rounding=0.012)
    words = {"no": "no handle", "two": "two handles"}.get(handle, f"a {handle} handle")
    features = (words, *(("a saucer",) if saucer else ()), *(("coffee",) if full else ()))
    attributes = dict(size=size, handle=handle, form=form, full=bool(full), saucer=bool(saucer))
    adjectives = (*((size,) if size else ()), *((form,) if form != "straight" else ()))
    return Design(build.finish(), adjectives, features, attributes)


def _handle(build: Builder, style: str, at: Vector, tube: float) -> None:
    half = at[1]
    ring = half * 0.44
    if style == "square":
        build.box(at, (ring * 1.25, half * 0.6, tube), 0.012)
        build.box(at, (ring * 1.25 - 2 * tube, half * 0.6 - 2 * tube, 1.0), operation=prim.CUT)
    else:
        build.ring(at, ring, tube, half * 0.16)


def car(rng: Dice, color: Vector) -> Design:
    """A car driving towards +z: body, cabin with windows, four wheels, lights."""
    style = pick(rng, "sedan", "van", "pickup", "hatchback")
    size, wheels = pick(rng, "long", "short", ""), pick(rng, "big", "small")
    length = {"long": 0.45, "short": between(rng, 0.31, 0.34)}.get(size, between(rng, 0.37, 0.4))
    width = between(rng, 0.16, 0.19)
    wheel = between(rng, 0.105, 0.12) if wheels == "big" else between(rng, 0.068, 0.078)
    deck = between(rng, 0.075, 0.09)  # half height of the body
    floor = wheel * 0.95
    build = Builder(material="car paint").part("body", color)
    build.box((0, floor + deck, 0), (width, deck, length), 0.045)
    axle, track = length * 0.62, width - 0.012
    for z in (axle, -axle):
        rotation = turn("z", 90.0)
        build.cylinder((0, wheel, z), wheel * 1.16, width * 2, rotation=rotation, operation=prim.CUT)
        build.box((0, floor + deck * 0.9, z), (width * 0.8, deck * 0.8, wheel * 1.25))
    if style == "pickup":
        bed = (width - 0.04, deck * 0.95, length * 0.4)
        build.box((0, floor + deck * 2.0, -length * 0.52), bed, operation=prim.CUT)
    top = floor + 2 * deck
    _cabin(build, style, (width, top, length), color)
    build.part("wheels", INK)
    across, places = turn("z", 90.0), [(x, wheel, z) for x in (track, -track) for z in (axle, -axle)]
    for at in places:
        build.cylinder(at, wheel, 0.042, rounding=0.016, rotation=across)
    build.part("hubs", pick(rng, CREAM, BRASS))
    for at in places:
        build.cylinder(at, wheel * 0.5, 0.05, rounding=0.006, rotation=across)
    build.part("lights", (0.98, 0.92, 0.7), "light")
    for x in (0.6, -0.6):
        build.ellipsoid((x * width, floor + deck * 1.15, length - 0.008), (0.034, 0.03, 0.024))
    rack = style in ("van", "sedan") and rng.random() < 0.3
    if rack:
        build.part("rack", SLATE)
        high = top + (0.23 if style == "van" else 0.16)
        build.box((0, high, -length * 0.1), (width * 0.72, 0.02, length * 0.34), 0.008)
    shapes = {"van": ("a tall cabin",), "pickup": ("a cargo bed",), "hatchback": ("a hatchback",)}
    features = (*shapes.get(style, ()), f"{wheels} wheels", *(("a roof rack",) if rack else ()))
    attributes = dict(style=style, size=size, wheels=wheels, rack=bool(rack))
    return Design(build.finish(), (size,) if size else (), features, attributes)


def _cabin(build: Builder, style: str, size: Vector, color: Vector) -> None:
    """Windows as a band of glass between the body and a roof of the body's colour."""
    width, top, length = size
    rise, middle, low, high = {
        "sedan": (0.16, -0.08, 0.58, 0.36),
        "van": (0.23, -0.08, 0.84, 0.78),
        "pickup": (0.16, 0.18, 0.32, 0.22),
        "hatchback": (0.17, -0.24, 0.7, 0.5),
    }[style]
    across = turn("y", 90.0)
    sunk = 0.05  # so that the rounded foot of the glass leaves no slit above the rounded rim of the body
    half = (rise + sunk) / 2
    at = (0.0, top + (rise - sunk) / 2, middle * length)
    build.part("windows", GLASS)
    build.prism(at, low * length, high * length, half, width * 0.86, rounding=0.03, rotation=across)
    build.part("roof", color)
    build.box((0, top + rise - 0.012, middle * length), (width * 0.88, 0.026, high * length + 0.012), 0.022)


def creature(rng: Dice, color: Vector) -> Design:
    """A four-legged creature looking towards +z."""
    legs, girth = pick(rng, "long", "short", ""), pick(rng, "fat", "slim", "")
    neck, ears = pick(rng, "long", "short"), pick(rng, "pointed", "round", "long", "no")
    tail = pick(rng, "long", "short", "no")
    girths = {"fat": between(rng, 0.17, 0.2), "slim": between(rng, 0.095, 0.11)}
    body, long = girths.get(girth, between(rng, 0.13, 0.145)), between(rng, 0.2, 0.27)
    heights = {"long": between(rng, 0.32, 0.38), "short": between(rng, 0.1, 0.13)}
    height, leg = heights.get(legs, between(rng, 0.2, 0.24)), between(rng, 0.034, 0.05)
    spine = height + body * 0.7
    build = Builder(0.03, "fur").part("body", color)
    build.ellipsoid((0, spine, 0), (body, body * 0.95, long))
    build.part("legs", shade(color, 0.86))
    for x in (0.62, -0.62):
        for z in (0.62, -0.62):
            hip = (x * body, spine - 0.02, z * long)
            build.limb((hip[0] * 1.05, leg, hip[2] * 1.05), hip, leg, leg * 1.25)
    head = between(rng, 0.1, 0.125)
    reach = (0.34 if neck == "long" else 0.13, 0.14 if neck == "long" else 0.09)
    at = (0.0, spine + reach[0], long + reach[1])
    throat = (0.0, spine + body * 0.2, long * 0.7)
    build.part("neck", color).limb(throat, (0, at[1], at[2] - 0.02), body * 0.62, head * 0.6)
    _head(build, at, head, color)
    _ears(build, ears, at, head, color)
    if tail != "no":
        far = 0.22 if tail == "long" else 0.09
        start = (0.0, spine + body * 0.35, -long * 0.9)
        build.part("tail", shade(color, 0.86))
        build.limb(start, (0, start[1] + far * 0.75, start[2] - far), 0.03, 0.022)
    _creature_rig(build, (body, spine, long), leg, (throat, at, head), tail)
    features = (
        *((f"{legs} legs",) if legs else ()),
        *(("a long neck",) if neck == "long" else ()),
        {"no": "no ears"}.get(ears, f"{ears} ears"),
        {"no": "no tail"}.get(tail, f"a {tail} tail"),
    )
    attributes = dict(legs=legs, girth=girth, neck=neck, ears=ears, tail=tail)
    return Design(build.finish(), (girth,) if girth else (), features, attributes)


def _creature_rig(build: Builder, trunk: Vector, leg: float, top: tuple[Vector, Vector, float], tail: str) -> None:
    """A spine of two bones, neck and head, two bones a leg, and a tail."""
    (body, spine, long), (throat, at, head), rig = trunk, top, build.rig
    middle, brow = (0.0, spine, 0.0), (0.0, at[1], at[2] - 0.02)
    rig.joint("pelvis", None, (0, spine, -long * 0.62), middle, body * 0.7)
    rig.joint("chest", "pelvis", middle, (0, spine, long * 0.62), body * 0.7)
    rig.joint("neck", "chest", throat, brow, (body * 0.62 + head * 0.6) / 2)
    rig.joint("head", "neck", brow, (0, at[1], at[2] + head * 0.6), head * 0.7)
    for side, x in (("left", 0.62), ("right", -0.62)):
        for end, parent, z in (("front", "chest", 0.62), ("hind", "pelvis", -0.62)):
            hip, foot = (x * body, spine - 0.02, z * long), (x * body * 1.05, leg, z * long * 1.05)
            knee = ((hip[0] + foot[0]) / 2, (hip[1] + foot[1]) / 2, (hip[2] + foot[2]) / 2)
            rig.chain((f"{side} {end} thigh", f"{side} {end} shin"), parent, (hip, knee, foot), leg * 1.1)
    if tail != "no":
        far, start = 0.22 if tail == "long" else 0.09, (0.0, spine + body * 0.35, -long * 0.9)
        rig.joint("tail", "pelvis", start, (0, start[1] + far * 0.75, start[2] - far), 0.026)


def _head(build: Builder, at: Vector, head: float, color: Vector) -> None:
    """A head with a pale snout and two eyes."""
    build.part("head", color).ellipsoid(at, (head * 0.92, head * 0.9, head))
    build.part("snout", (0.45 + 0.55 * color[0], 0.45 + 0.55 * color[1], 0.45 + 0.55 * color[2]))
    build.ellipsoid((0, at[1] - head * 0.3, at[2] + head * 0.85), (head * 0.48, head * 0.4, head * 0.5))
    build.part("eyes", INK, "glass")
    for x in (0.5, -0.5):
        build.ellipsoid((x * head, at[1] + head * 0.3, at[2] + head * 0.72), (0.021, 0.024, 0.021))


def _ears(build: Builder, style: str, at: Vector, head: float, color: Vector) -> None:
    if style == "no":
        return
    build.part("ears", shade(color, 0.86))
    for side in (-1, 1):
        root = (side * head * 0.5, at[1] + head * 0.6, at[2] - head * 0.2)
        if style == "round":
            build.ellipsoid((side * head * 0.8, root[1] + 0.03, root[2]), (0.055, 0.055, 0.024))
        elif style == "pointed":
            build.limb(root, (side * head * 0.85, root[1] + 0.1, root[2]), 0.042, 0.019)
        else:
            build.limb(root, (side * head * 0.75, root[1] + 0.2, root[2] - 0.04), 0.028, 0.036)


def pebble(rng: Dice, color: Vector) -> Design:
    """One superquadric, or a cairn of two or three."""
    form, size = pick(rng, "round", "boxy", "pinched", "barrel"), pick(rng, "flat", "tall", "")
    count = pick(rng, 1, 1, 2, 3)
    p, q = {"round": (2.0, 2.0), "boxy": (4.0, 4.0), "pinched": (4 / 3, 4 / 3), "barrel": (2.0, 4.0)}[form]
    build, y, half = Builder(material="stone"), 0.0, 0.42
    for number in range(count):
        tall = half * {"flat": between(rng, 0.3, 0.38), "tall": between(rng, 1.35, 1.7)}.get(
            size, between(rng, 0.7, 0.9)
        )
        if count > 1:
            tall *= 0.8
        sides = (half * between(rng, 0.85, 1.0), tall, half * between(rng, 0.7, 0.95))
        tone = (1.0, 0.86, 0.94)[number]
        build.part(f"stone {number + 1}", shade(color, tone))
        drift = 0.0 if number == 0 else half * 0.12
        at = (between(rng, -drift, drift), y + tall, between(rng, -drift, drift))
        spin = turn("y", between(rng, 0, 90))
        if form == "round":  # the superquadric of exponents 2, cheaper
            build.ellipsoid(at, sides, spin)
        else:
            build.superquadric(at, sides, p, q, spin)
        sink = 0.3 if form == "pinched" else 0.1
        y += 2 * tall - sink * tall
        half *= between(rng, 0.66, 0.78)
    words = {1: (), 2: ("a smaller one on top",), 3: ("two smaller ones on top",)}[count]
    attributes = dict(form=form, size=size, count=count)
    return Design(build.finish(), (*((size,) if size else ()), form), words, attributes)


def gear(rng: Dice, color: Vector) -> Design:
    """A gear wheel standing upright, its axis along z: teeth added, bore and windows cut."""
    teeth, size = pick(rng, 6, 8, 10, 12, 16), pick(rng, "thick", "thin")
    bore, windows = pick(rng, "large", "small"), pick(rng, 0, 0, 4, 5, 6)
    depth = between(rng, 0.13, 0.17) if size == "thick" else between(rng, 0.04, 0.055)
    root = between(rng, 0.34, 0.36)
    hole = between(rng, 0.13, 0.15) if bore == "large" else between(rng, 0.05, 0.065)
    if windows:
        hole = min(hole, 0.1)
        bore = "large" if hole > 0.08 else "small"
    face = turn("x", 90.0)
    tall = 0.45 - root + 0.02
    wide = min(0.5 * root * 2 * np.pi / teeth * between(rng, 0.46, 0.54), 0.09)
    build = Builder(material="painted steel").part("wheel", color)
    build.cylinder((0, 0, 0), root, depth, rounding=0.01, rotation=face)
    for number in range(teeth):
        angle = 2 * np.pi * number / teeth
        middle = root + tall / 2 - 0.02
        at = (-np.sin(angle) * middle, np.cos(angle) * middle, 0.0)
        spoke = turn("z", float(np.rad2deg(angle)))
        build.prism(at, wide, wide * 0.62, tall / 2, depth, rounding=0.008, rotation=spoke)
    for number in range(windows):
        angle = 2 * np.pi * (number + 0.5) / windows
        at = (np.sin(angle) * 0.215, np.cos(angle) * 0.215, 0.0)
        build.cylinder(at, {4: 0.08, 5: 0.075, 6: 0.066}[windows], 1.0, rotation=face, operation=prim.CUT)
    build.cylinder((0, 0, 0), hole, 1.0, rotation=face, operation=prim.CUT)
    hub = rng.random() < 0.5
    if hub:
        build.part("hub", pick(rng, BRASS, SLATE, shade(color, 0.7), CREAM))
        build.cylinder((0, 0, 0), hole + 0.045, depth + 0.03, rounding=0.008, rotation=face)
        build.cylinder((0, 0, 0), hole, 1.0, rotation=face, operation=prim.CUT)
    named = {6: "six", 8: "eight", 10: "ten", 12: "twelve", 16: "sixteen"}[teeth]
    words = {0: (), 4: ("four holes",), 5: ("five holes",), 6: ("six holes",)}[windows]
    features = (f"{named} teeth", f"a {bore} bore", *words, *(("a hub",) if hub else ()))
    attributes = dict(teeth=teeth, size=size, bore=bore, windows=windows, hub=bool(hub))
    return Design(build.finish(), (size,), features, attributes)
