"""Chairs, tables and lamps."""

from __future__ import annotations

import numpy as np

from maquette_data3d.procedural import primitives as prim
from maquette_data3d.procedural.builder import Builder, turn
from maquette_data3d.procedural.grammar import Design, Dice, between, pick
from maquette_data3d.procedural.palette import BRASS, CREAM, SLATE, WOOD, Vector, shade

Place = tuple[float, float]


def _legs(build: Builder, style: str, places: list[Place], top: float, thickness: float) -> None:
    """Legs from the floor (y = 0) up to `top`; the feet of round ones stand further out."""
    splay = 0.17 if style == "round" else 0.0
    for x, z in places:
        foot = (x * (1 + splay), 0.0, z * (1 + splay))
        if style == "square":
            build.box((x, top / 2, z), (thickness, top / 2, thickness), 0.006)
        else:
            build.rod(foot, (x, top, z), thickness * (0.8 if splay else 1.0), thickness, 0.006)


def _corners(x: float, z: float) -> list[Place]:
    return [(x, z), (-x, z), (x, -z), (-x, -z)]


def chair(rng: Dice, color: Vector) -> Design:
    """A chair facing +z: four legs or a pedestal, a seat, perhaps a back and arms."""
    size = pick(rng, "tall", "short", "wide", "")
    back = pick(rng, "solid", "slatted", "no", "ladder", "round")
    legs, thickness = pick(rng, "square", "round", "pedestal"), pick(rng, "thin", "thick")
    seat_shape = pick(rng, "square", "round")
    arms = back != "no" and rng.random() < 0.3
    half, depth, seat = _chair_size(rng, size)
    leg = between(rng, 0.022, 0.026) if thickness == "thin" else between(rng, 0.042, 0.052)
    slab = between(rng, 0.026, 0.036)
    trim = pick(rng, WOOD, SLATE, shade(color, 0.72), CREAM)
    build = Builder().part("legs", trim)
    inset = 0.72 if seat_shape == "round" else 1.0
    reach = ((half - leg) * inset, (depth - leg) * inset)
    if legs == "pedestal":
        build.rod((0, 0.03, 0), (0, seat, 0), leg * 1.3, rounding=0.005)
        build.cylinder((0, 0.024, 0), depth * 0.8, 0.024, depth * 0.7, rounding=0.01)
    else:
        _legs(build, legs, _corners(*reach), seat, leg)
    build.part("seat", color)
    if seat_shape == "round":
        build.slab((0, seat, 0), (half, slab, depth), depth, 0.014)
    else:
        build.box((0, seat, 0), (half, slab, depth), 0.016)
    if back != "no":
        tall = pick(rng, 0.3, 0.36, 0.42)
        behind = depth * (0.62 if seat_shape == "round" else 0.92)
        _back(build, back, (half, seat, behind), tall, color)
    if arms:
        _arms(build, half, depth, seat, trim)
    features = (
        ("a pedestal" if legs == "pedestal" else f"{thickness} legs"),
        {"no": "no back", "round": "a round back"}.get(back, f"a {back} back"),
        *(("arms",) if arms else ()),
    )
    attributes = dict(size=size, back=back, legs=legs, leg_thickness=thickness, seat=seat_shape, arms=arms)
    return Design(build.finish(), (size,) if size else (), features, attributes)


def _chair_size(rng: Dice, size: str) -> Vector:
    """Half width, half depth, and height of the seat."""
    widths = {"tall": between(rng, 0.17, 0.2), "wide": between(rng, 0.33, 0.4)}
    half = widths.get(size, between(rng, 0.22, 0.27))
    depth = min(half, between(rng, 0.2, 0.25))
    heights = {"tall": between(rng, 0.48, 0.56), "short": between(rng, 0.2, 0.25)}
    return half, depth, heights.get(size, between(rng, 0.34, 0.4))


def _back(build: Builder, style: str, seat: Vector, tall: float, color: Vector) -> None:
    half, y, z = seat
    lean = turn("x", -6.0)
    bar, top = 0.022, y + tall
    build.part("back", color)
    if style == "solid":
        build.box((0, y + tall / 2, -z), (half * 0.92, tall / 2, bar), 0.014, lean)
    elif style == "round":
        size = (half * 0.95, 0.028, tall * 0.52)
        build.slab((0, y + tall * 0.52, -z), size, min(size[0], size[2]), 0.012, lean @ turn("x", 90.0))
    else:
        slant = 0.1 * tall
        for side in (-1, 1):
            build.rod((side * half * 0.88, y, -z), (side * half * 0.88, top, -z - slant), bar * 1.15, rounding=0.006)
        if style == "slatted":
            build.box((0, top, -z - slant), (half * 0.96, 0.035, bar * 1.1), 0.014)
            for x in (-0.42, 0.0, 0.42):
                build.rod((x * half, y, -z), (x * half, top, -z - slant), bar * 0.9)
        else:
            for share in (0.38, 0.68, 0.98):
                build.box((0, y + tall * share, -z - slant * share), (half * 0.9, 0.03, bar * 0.9), 0.01)


def _arms(build: Builder, half: float, depth: float, seat: float, trim: Vector) -> None:
    build.part("arms", trim)
    for side in (-1, 1):
        x = side * (half - 0.022)
        build.rod((x, seat, depth * 0.7), (x, seat + 0.15, depth * 0.7), 0.022)
        build.box((x, seat + 0.15, -depth * 0.06), (0.028, 0.022, depth * 0.86), 0.014)


def table(rng: Dice, color: Vector) -> Design:
    """A table: a top on legs, a pedestal or two panels, perhaps with a shelf."""
    size, top = pick(rng, "tall", "low", "long", ""), pick(rng, "round", "square", "oval")
    if size == "long":
        top = pick(rng, "oval", "square")
    legs, thickness = pick(rng, "square", "round", "pedestal", "panel"), pick(rng, "thin", "thick")
    half = 0.45 if size != "tall" else between(rng, 0.24, 0.28)
    depth = half * {"round": 1.0, "oval": 0.62, "square": between(rng, 0.75, 1.0)}[top]
    if size == "long":
        depth = between(rng, 0.17, 0.22)
    height = {"tall": 0.86, "low": between(rng, 0.2, 0.26), "long": between(rng, 0.3, 0.4)}.get(
        size, between(rng, 0.44, 0.56)
    )
    leg = between(rng, 0.022, 0.026) if thickness == "thin" else between(rng, 0.045, 0.055)
    slab = between(rng, 0.022, 0.034)
    build = Builder().part("legs", pick(rng, WOOD, SLATE, CREAM, shade(color, 0.72)))
    inset = 0.66 if top != "square" else 0.94
    reach = ((half - leg) * inset, (depth - leg) * inset)
    if legs == "pedestal":
        wide = leg * (1.5 if thickness == "thin" else 2.2)
        build.cylinder((0, height / 2, 0), wide * 1.3, height / 2, wide * 0.9)
        build.cylinder((0, 0.025, 0), depth * 0.62, 0.025, depth * 0.52, rounding=0.012)
    elif legs == "panel":
        for side in (-1, 1):
            build.box((side * reach[0], height / 2, 0), (leg * 0.9, height / 2, reach[1] * 0.9), 0.008)
    else:
        _legs(build, legs, _corners(*reach), height, leg)
    shelf = legs in ("square", "panel") and size != "low" and rng.random() < 0.4
    if shelf:
        build.part("shelf", shade(color, 0.85))
        build.box((0, height * 0.3, 0), (reach[0], 0.02, reach[1] * 0.95), 0.006)
    build.part("top", color)
    if top == "square":
        build.box((0, height, 0), (half, slab, depth), 0.012)
    else:
        build.slab((0, height, 0), (half, slab, depth), depth, 0.012)
    feet = {"pedestal": f"a {thickness} pedestal", "panel": "panel legs"}.get(legs, f"{thickness} legs")
    features = (feet, *(("a shelf",) if shelf else ()))
    attributes = dict(size=size, top=top, legs=legs, leg_thickness=thickness, shelf=shelf)
    return Design(build.finish(), tuple(w for w in (size, top) if w), features, attributes)


def lamp(rng: Dice, color: Vector) -> Design:
    """A lamp: a base, a pole and a coloured shade."""
    size, shape = pick(rng, "tall", "short", ""), pick(rng, "cone", "drum", "dome", "globe", "square")
    base, pole = pick(rng, "round", "square", "tripod", "ball"), pick(rng, "thin", "thick")
    wide = rng.random() < 0.5
    height = 0.9 if size != "short" else between(rng, 0.52, 0.6)
    half = (between(rng, 0.28, 0.33) if wide else between(rng, 0.17, 0.2)) * (0.85 if size == "tall" else 1.08)
    tall = {"tall": 0.26, "short": 0.3}.get(size, 0.34)
    stem = between(rng, 0.022, 0.026) if pole == "thin" else between(rng, 0.045, 0.055)
    metal = pick(rng, SLATE, BRASS, WOOD, CREAM)
    build = Builder().part("base", metal)
    foot = max(half * between(rng, 0.62, 0.8), 0.12)
    if base == "round":
        build.cylinder((0, 0.026, 0), foot, 0.026, foot * 0.86, rounding=0.012)
    elif base == "square":
        build.box((0, 0.028, 0), (foot * 0.9, 0.028, foot * 0.9), 0.012)
    elif base == "ball":
        build.ellipsoid((0, foot * 0.62, 0), (foot * 0.85, foot * 0.62, foot * 0.85))
        build.cylinder((0, 0.02, 0), foot * 0.6, 0.02)
    else:
        for angle in (90, 210, 330):
            x, z = np.cos(np.deg2rad(angle)) * foot, np.sin(np.deg2rad(angle)) * foot
            build.limb((x, 0.024, z), (0, height * 0.28, 0), 0.024)
    build.part("pole", metal)
    low = height * 0.22 if base == "tripod" else 0.03
    build.rod((0, low, 0), (0, height - tall * 0.5, 0), stem)
    build.part("shade", color, "fabric")
    _shade(build, shape, height, half, tall)
    adjectives = (*((size,) if size else ()), *(("wide",) if wide else ()))
    features = (
        {"cone": "a cone shade", "drum": "a drum shade"}.get(shape, f"a {shape} shade"),
        f"a {pole} pole",
    )
    if base in ("tripod", "ball"):
        features = (*features, f"a {base} base")
    attributes = dict(size=size, wide=bool(wide), shade=shape, base=base, pole=pole)
    return Design(build.finish(), adjectives, features, attributes)


def _shade(build: Builder, shape: str, height: float, half: float, tall: float) -> None:
    middle = (0.0, height - tall / 2, 0.0)
    if shape == "cone":
        build.cylinder(middle, half, tall / 2, half * 0.36, rounding=0.01)
    elif shape == "drum":
        build.cylinder(middle, half * 0.85, tall / 2, half * 0.8, rounding=0.012)
    elif shape == "dome":
        build.ellipsoid((0, height - tall, 0), (half, tall, half))
        build.box((0, height - 1.5 * tall, 0), (half * 1.2, tall / 2, half * 1.2), operation=prim.CUT)
    elif shape == "globe":
        build.ellipsoid((0, height - half * 0.85, 0), (half * 0.85, half * 0.85, half * 0.85))
    else:
        build.prism(middle, half * 0.9, half * 0.6, tall / 2, half * 0.78, rounding=0.012)
