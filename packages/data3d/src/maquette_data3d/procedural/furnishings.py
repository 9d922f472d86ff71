"""Stools, benches, shelves, beds and sofas."""

from __future__ import annotations

import numpy as np

from maquette_data3d.procedural.builder import Builder, turn
from maquette_data3d.procedural.grammar import Design, Dice, between, pick
from maquette_data3d.procedural.palette import BRASS, BRICK, CREAM, LEAF, SAND, SLATE, WOOD, Vector, pale, shade

NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}


def stool(rng: Dice, color: Vector) -> Design:
    """A stool: a seat on three or four splayed legs or on a column, perhaps with a ring to rest feet on."""
    size, seat = pick(rng, "tall", "low", ""), pick(rng, "round", "square")
    legs, thickness = pick(rng, "four", "three", "column"), pick(rng, "thin", "thick")
    ring = size != "low" and rng.random() < 0.5
    cushion = rng.random() < 0.4
    height = {"tall": 0.84, "low": between(rng, 0.3, 0.36)}.get(size, between(rng, 0.52, 0.6))
    half = between(rng, 0.2, 0.24) if size != "low" else between(rng, 0.28, 0.32)
    leg = between(rng, 0.022, 0.026) if thickness == "thin" else between(rng, 0.04, 0.047)
    spread = half * (1.15 if size == "tall" else 0.98)
    build = Builder().part("legs", pick(rng, WOOD, SLATE, shade(color, 0.72), BRASS))
    if legs == "column":
        build.rod((0, 0.02, 0), (0, height, 0), leg * 1.3)
        build.cylinder((0, 0.024, 0), half * 0.95, 0.024, half * 0.8, rounding=0.01)
    else:
        count = 4 if legs == "four" else 3
        for number in range(count):
            angle = 2 * np.pi * (number + 0.5) / count
            c, s = float(np.cos(angle)), float(np.sin(angle))
            build.rod((c * spread, 0, s * spread), (c * half * 0.68, height, s * half * 0.68), leg, rounding=0.006)
    if ring:
        _footrest(build, legs, (half, height, spread))
    build.part("seat", color)
    if seat == "round":
        build.cylinder((0, height, 0), half, 0.032, rounding=0.014)
    else:
        build.box((0, height, 0), (half * 0.95, 0.032, half * 0.95), 0.016)
    if cushion:
        build.part("cushion", pale(color, 0.35), "fabric")
        corner = half * (0.88 if seat == "round" else 0.2)
        build.slab((0, height + 0.045, 0), (half * 0.88, 0.035, half * 0.88), corner, 0.03)
    feet = "a column" if legs == "column" else f"{legs} {thickness} legs"
    features = (feet, *(("a footrest",) if ring else ()), *(("a cushion",) if cushion else ()))
    extras = dict(footrest=bool(ring), cushion=bool(cushion))
    attributes = dict(size=size, seat=seat, legs=legs, leg_thickness=thickness, **extras)
    return Design(build.finish(), (*((size,) if size else ()), seat), features, attributes)


def _footrest(build: Builder, legs: str, size: Vector) -> None:
    half, height, spread = size
    level = height * 0.3
    radius = half * 0.8 if legs == "column" else spread + (half * 0.68 - spread) * 0.3
    build.part("ring", SLATE).ring((0, level, 0), radius, 0.02, rotation=turn("x", 90.0))
    if legs == "column":
        build.rod((-radius, level, 0), (radius, level, 0), 0.018)


def bench(rng: Dice, color: Vector) -> Design:
    """A bench along x: a long seat on legs, panels or trestles, perhaps with a back and arms."""
    back, legs = pick(rng, "slatted", "no", "solid"), pick(rng, "square", "panel", "trestle")
    size, seat = pick(rng, "long", "short"), pick(rng, "solid", "slatted")
    arms = back != "no" and rng.random() < 0.45
    half = 0.45 if size == "long" else between(rng, 0.29, 0.33)
    depth, high = between(rng, 0.12, 0.15), between(rng, 0.2, 0.25)
    trim = pick(rng, WOOD, SLATE, CREAM, shade(color, 0.72))
    build = Builder().part("legs", trim)
    for x in (-half * 0.82, half * 0.82):
        _bench_legs(build, legs, x, (high, depth))
    build.part("seat", color)
    if seat == "solid":
        build.box((0, high, 0), (half, 0.03, depth), 0.012)
    else:
        for z in (-0.7, 0.0, 0.7):
            build.box((0, high, z * depth), (half, 0.026, depth * 0.26), 0.01)
        for x in (-half * 0.82, half * 0.82):
            build.box((x, high - 0.02, 0), (0.03, 0.02, depth * 0.9))
    tall = between(rng, 0.22, 0.28)
    if back != "no":
        _bench_back(build, back, (half, high, depth), tall, color)
    if arms:
        build.part("arms", trim)
        for x in (-half * 0.92, half * 0.92):
            build.rod((x, high, depth * 0.75), (x, high + 0.13, depth * 0.75), 0.021)
            build.box((x, high + 0.13, 0), (0.026, 0.02, depth * 1.05), 0.012)
    feet = {"square": "four square legs", "panel": "panel legs", "trestle": "trestle legs"}[legs]
    planks = ("a slatted seat",) if seat == "slatted" else ()
    features = ("no back" if back == "no" else f"a {back} back", feet, *planks, *(("arms",) if arms else ()))
    attributes = dict(size=size, back=back, legs=legs, seat=seat, arms=bool(arms))
    return Design(build.finish(), (size,), features, attributes)


def _bench_legs(build: Builder, style: str, x: float, size: tuple[float, float]) -> None:
    high, depth = size
    if style == "panel":
        build.box((x, high / 2, 0), (0.028, high / 2, depth * 0.9), 0.006)
    elif style == "square":
        for z in (-depth * 0.78, depth * 0.78):
            build.box((x, high / 2, z), (0.025, high / 2, 0.025), 0.006)
    else:
        for side in (-1, 1):
            build.rod((x, 0, side * depth * 1.15), (x, high, -side * depth * 0.35), 0.023)


def _bench_back(build: Builder, style: str, seat: Vector, tall: float, color: Vector) -> None:
    half, y, depth = seat
    build.part("back", color)
    for x in (-half * 0.86, half * 0.86):
        build.rod((x, y, -depth * 0.85), (x, y + tall, -depth * 1.1), 0.024)
    if style == "solid":
        build.box((0, y + tall * 0.55, -depth * 0.98), (half * 0.98, tall * 0.45, 0.021), 0.012, turn("x", -6.0))
    else:
        for share in (0.4, 0.72, 1.0):
            build.box((0, y + tall * share, -depth * (0.85 + 0.25 * share)), (half * 0.98, 0.026, 0.02), 0.01)


def shelf(rng: Dice, color: Vector) -> Design:
    """Shelves between two sides: two to five boards, perhaps a back, a divider and books."""
    size, count = pick(rng, "tall", "wide", ""), pick(rng, 4, 3, 5, 2)
    back, divided = rng.random() < 0.5, rng.random() < 0.35
    books, feet = rng.random() < 0.5, rng.random() < 0.4
    if size == "wide":
        count = min(count, 3)
    half = {"tall": between(rng, 0.2, 0.24), "wide": 0.45}.get(size, between(rng, 0.31, 0.36))
    high = {"wide": between(rng, 0.44, 0.52)}.get(size, 0.9 if size == "tall" else between(rng, 0.62, 0.7))
    depth, board = between(rng, 0.1, 0.13), 0.02
    build = Builder().part("sides", color)
    for x in (-half + board, half - board):
        build.box((x, high / 2, 0), (board, high / 2, depth), 0.004)
    if back:
        build.part("back", shade(color, 0.82))
        build.box((0, high / 2, -depth + 0.019), (half - 0.01, high / 2 - 0.005, 0.019))
    build.part("boards", shade(color, 0.92))
    gap = (high - 2 * board) / (count - 1)
    for number in range(count):
        build.box((0, board + gap * number, 0), (half - 0.008, board, depth), 0.004)
    if divided:
        build.part("divider", shade(color, 0.92)).box((0, high / 2, 0), (board, high / 2 - 0.005, depth * 0.98))
    if books:
        _books(rng, build, (half, gap, depth), count)
    if feet:
        build.part("feet", SLATE)
        for x in (-half * 0.86, half * 0.86):
            for z in (-depth * 0.7, depth * 0.7):
                build.rod((x, -0.06, z), (x, 0.02, z), 0.024)
    features = (
        f"{NUMBERS[count]} boards",
        "a closed back" if back else "an open back",
        *(("a divider",) if divided else ()),
        *(("books",) if books else ()),
        *(("feet",) if feet else ()),
    )
    extras = dict(back=bool(back), divided=bool(divided), books=bool(books), feet=bool(feet))
    attributes = dict(size=size, boards=count, **extras)
    return Design(build.finish(), (size,) if size else (), features, attributes)


def _books(rng: Dice, build: Builder, space: Vector, count: int) -> None:
    """Rows of books that stand on every board but the topmost, at the left or the right."""
    half, gap, depth = space
    for number in range(count - 1):
        build.part(f"books {number + 1}", pick(rng, BRICK, LEAF, CREAM, SLATE, SAND))
        side, wide = pick(rng, -1, 1), half * between(rng, 0.2, 0.36)
        tall = gap * between(rng, 0.28, 0.36)
        at = (side * (half - 0.03 - wide), 0.03 + gap * number + tall, -depth * 0.1)
        build.box(at, (wide, tall, depth * 0.75), 0.005)


def bed(rng: Dice, color: Vector) -> Design:
    """A bed with its head towards -z: frame, mattress, pillows and a coloured blanket."""
    style, width = pick(rng, "plain", "bunk", "canopy"), pick(rng, "double", "single")
    head, foot = pick(rng, "solid", "slatted", "no", "round"), rng.random() < 0.4
    half = between(rng, 0.31, 0.35) if width == "double" else between(rng, 0.17, 0.2)
    if style == "bunk":
        half, width, foot = between(rng, 0.19, 0.21), "single", False
    if style != "plain":
        head = "solid" if head == "round" else head
    length, low = 0.45, between(rng, 0.12, 0.15)
    frame = pick(rng, WOOD, CREAM, SLATE, shade(color, 0.7))
    post = {"plain": low, "bunk": 0.68, "canopy": 0.66}[style]
    build = Builder().part("frame", frame)
    for x in (-half + 0.024, half - 0.024):
        for z in (-length + 0.024, length - 0.024):
            build.box((x, post / 2, z), (0.025, post / 2, 0.025), 0.005)
    for level in (low, *((0.5,) if style == "bunk" else ())):
        build.box((0, level, 0), (half, 0.035, length), 0.008)
    if style == "canopy":
        build.part("canopy", color, "fabric").box((0, post, 0), (half + 0.015, 0.022, length + 0.015), 0.01)
    if head != "no":
        _headboard(build, head, (half, low, -length), frame, 0.16 if style == "bunk" else 0.24)
    if foot:
        build.part("footboard", frame).box((0, low + 0.05, length - 0.005), (half, 0.09, 0.02), 0.008)
    pillows = 2 if width == "double" else 1
    for number, level in enumerate((low, *((0.5,) if style == "bunk" else ()))):
        _bedding(build, (half, level, length), color, (f"{number + 1}" if style == "bunk" else ""), pillows)
    features = (
        "no headboard" if head == "no" else f"a {head} headboard",
        *(("a footboard",) if foot else ()),
        *(("a canopy",) if style == "canopy" else ()),
        "two pillows" if pillows == 2 or style == "bunk" else "one pillow",
    )
    attributes = dict(
        style=style, width=width, headboard=head, footboard=bool(foot), pillows=2 if style == "bunk" else pillows
    )
    noun = "bunk bed" if style == "bunk" else f"{width} bed"
    return Design(build.finish(), (), features, attributes, noun)


def _headboard(build: Builder, style: str, at: Vector, color: Vector, tall: float) -> None:
    half, low, z = at
    build.part("headboard", color)
    if style == "round":
        build.slab((0, low + 0.06, z), (half, 0.022, half), half, 0.01, turn("x", 90.0))
    elif style == "solid":
        build.box((0, low + tall / 2, z), (half, tall / 2 + 0.02, 0.022), 0.01)
    else:
        build.box((0, low + tall, z), (half, 0.024, 0.022), 0.008)
        for share in (-0.92, -0.46, 0.0, 0.46, 0.92):
            build.rod((share * half, low, z), (share * half, low + tall, z), 0.02)


def _bedding(build: Builder, size: Vector, color: Vector, level: str, pillows: int) -> None:
    half, y, length = size
    build.part(f"mattress {level}".strip(), (0.95, 0.94, 0.91), "fabric")
    build.box((0, y + 0.06, 0.005), (half * 0.93, 0.045, length * 0.95), 0.025)
    build.part(f"blanket {level}".strip(), color, "fabric")
    build.box((0, y + 0.07, length * 0.27), (half * 0.97, 0.05, length * 0.7), 0.03)
    build.part(f"pillows {level}".strip(), (0.98, 0.97, 0.95), "fabric")
    wide = half * (0.4 if pillows == 2 else 0.66)
    for x in (-half * 0.46, half * 0.46) if pillows == 2 else (0.0,):
        build.ellipsoid((x, y + 0.115, -length * 0.7), (wide, 0.042, 0.085))


def sofa(rng: Dice, color: Vector) -> Design:
    """A sofa facing +z: two or three seats, arms, a back, perhaps an arm that turns the corner."""
    seats, arms = pick(rng, 3, 2), pick(rng, "square", "round", "no")
    back, feet = pick(rng, "high", "low"), pick(rng, "short", "no", "long")
    corner, cushions = rng.random() < 0.3, rng.random() < 0.4
    half = between(rng, 0.4, 0.45) if seats == 3 else between(rng, 0.27, 0.31)
    depth, seat = between(rng, 0.17, 0.2), between(rng, 0.15, 0.18)
    tall = between(rng, 0.26, 0.3) if back == "high" else between(rng, 0.13, 0.16)
    build = Builder(material="fabric").part("base", shade(color, 0.8))
    build.box((0, seat / 2, 0), (half, seat / 2, depth), 0.02)
    build.part("back", color)
    build.box((0, (seat + tall) / 2, -depth + 0.045), (half, (seat + tall) / 2, 0.055), 0.035, turn("x", -4.0))
    build.part("seats", color)
    wide = half / seats
    for number in range(seats):
        build.box(((2 * number + 1) * wide - half, seat + 0.018, 0.03), (wide * 0.97, 0.05, depth * 0.88), 0.03)
    if corner:
        build.part("corner", color)
        build.box((half - wide, seat * 0.6, depth * 1.55), (wide * 0.97, seat * 0.6, depth * 0.9), 0.04)
    if arms != "no":
        build.part("arms", shade(color, 0.9))
        _sofa_arms(build, arms, (half, seat, depth))
    if cushions:
        _cushions(build, (half, seat, depth), wide, tall, color)
    if feet != "no":
        build.part("feet", WOOD)
        drop = 0.045 if feet == "short" else 0.11
        for x in (-half * 0.88, half * 0.88):
            for z in (-depth * 0.8, depth * 0.8):
                build.rod((x, -drop, z), (x, 0.03, z), 0.02, 0.028)
    features = (
        f"{NUMBERS[seats]} seats",
        "no arms" if arms == "no" else f"{arms} arms",
        f"a {back} back",
        *((f"{feet} feet",) if feet != "no" else ()),
        *(("two cushions",) if cushions else ()),
    )
    attributes = dict(seats=seats, arms=arms, back=back, feet=feet, corner=bool(corner), cushions=bool(cushions))
    return Design(build.finish(), (), features, attributes, "corner sofa" if corner else "")


def _sofa_arms(build: Builder, arms: str, size: Vector) -> None:
    half, seat, depth = size
    for x in (-half - 0.03, half + 0.03):
        if arms == "square":
            build.box((x, seat * 0.8, 0), (0.045, seat * 0.8, depth), 0.02)
        else:
            build.box((x, seat * 0.7, 0), (0.035, seat * 0.7, depth * 0.97), 0.01)
            build.rod((x, seat * 1.4, -depth), (x, seat * 1.4, depth), 0.058, rounding=0.02)


def _cushions(build: Builder, size: Vector, wide: float, tall: float, color: Vector) -> None:
    half, seat, depth = size
    build.part("cushions", pale(color, 0.5))
    for x in (-half * 0.66, half * 0.66):
        size = (wide * 0.5, min(tall * 0.55, wide * 0.5), 0.04)
        build.ellipsoid((x, seat + 0.05 + size[1], -depth + 0.13), size, turn("x", -14.0))
