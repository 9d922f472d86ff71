"""Bottles, vases, bowls and teapots: bodies of revolution, hollow where they are open."""

from __future__ import annotations

import numpy as np

from maquette_data3d.procedural import primitives as prim
from maquette_data3d.procedural.builder import Builder, turn
from maquette_data3d.procedural.grammar import Design, Dice, between, pick
from maquette_data3d.procedural.palette import BRASS, BRICK, CREAM, INK, LEAF, SLATE, WOOD, Vector, accent, shade

Radii = tuple[float, float, float, float, float, float]


def _scaled(radii: Radii, by: float, less: float = 0.0) -> Radii:
    a, b, c, d, e, f = (r * by - less for r in radii)
    return (a, b, c, d, e, f)


def _hollow(build: Builder, at: Vector, radii: Radii, half: float, wall: float) -> tuple[Vector, Radii, float]:
    """Cuts the inside of a lathe out of the part that holds it, open above; walls and bottom are `wall` thick.

    Returns:
        The lathe that was cut: its centre, radii and half height.
    """
    levels, outline = np.linspace(-half, half, prim.PIECES + 1), prim.profile(np.array(radii))
    thickness = wall * np.hypot(1.0, np.gradient(outline, levels))  # measured along the radius
    inside = np.linspace(-half + 1.3 * wall, half, prim.KNOTS)
    a, b, c, d, e, f = (max(float(r), 0.02) for r in np.interp(inside, levels, outline - thickness))
    place, inner, tall = (at[0], at[1] + 0.65 * wall, at[2]), (a, b, c, d, e, f), half - 0.65 * wall
    build.lathe(place, inner, tall, operation=prim.CUT)
    build.cylinder((at[0], at[1] + half + wall, at[2]), f, wall * 1.2, operation=prim.CUT)
    return place, inner, tall


def bottle(rng: Dice, color: Vector) -> Design:
    """A bottle: body, shoulder and neck in one, with a cap, a cork or open, perhaps with a label."""
    form, size = pick(rng, "round", "square", "flask"), pick(rng, "tall", "short")
    neck, top = pick(rng, "long", "short"), pick(rng, "cork", "cap", "no")
    label, material = rng.random() < 0.5, pick(rng, "glass", "plastic", "glazed ceramic")
    body = between(rng, 0.105, 0.125) if size == "tall" else between(rng, 0.17, 0.2)
    tall = between(rng, 0.48, 0.54) if size == "tall" else between(rng, 0.38, 0.44)
    rise, throat = (0.24 if neck == "long" else 0.1), between(rng, 0.046, 0.054)
    build = Builder(material=material).part("bottle", color)
    wide = (body, body * 0.96)
    if form == "square":
        wide = (body * 0.9, body * 0.9)
        build.slab((0, tall / 2, 0), (wide[0], tall / 2, wide[1]), 0.05, 0.02)
        build.cylinder((0, tall + 0.04, 0), wide[0] * 0.96, 0.055, throat)
    elif form == "flask":
        build.lathe((0, tall / 2, 0), _scaled((0.62, 0.96, 1.16, 1.1, 0.75, 0.36), body * 1.1), tall / 2, 0.01)
    else:
        half = tall / 2 + 0.05
        build.lathe((0, half, 0), (body, body, body, body, body * 0.92, throat), half, 0.012)
    high = tall + rise + 0.05
    build.rod((0, tall - 0.06, 0), (0, high, 0), throat, throat * 0.92)
    build.ring((0, high - 0.02, 0), throat * 0.86, 0.02, rotation=turn("x", 90.0))
    if top == "no":
        build.cylinder((0, high, 0), throat - 0.024, 0.09, operation=prim.CUT)
    else:
        corked = top == "cork"
        build.part(top, shade(WOOD, 1.25) if corked else INK, "oak" if corked else "plastic")
        build.rod((0, high - 0.02, 0), (0, high + 0.055, 0), throat * (0.72 if corked else 1.3), rounding=0.008)
    if label and form != "flask":
        _label(build, form, (body, wide[0], tall))
    label = bool(label and form != "flask")
    features = (
        f"a {neck} neck",
        {"cork": "a cork", "cap": "a cap", "no": "an open top"}[top],
        *(("a pale label",) if label else ()),
    )
    attributes = dict(form=form, size=size, neck=neck, top=top, label=label, material=material)
    adjectives = {"square": ("square",), "flask": ("bulbous",)}.get(form, ())
    return Design(build.finish(), (size, *adjectives), features, attributes)


_VASES: dict[str, Radii] = {
    "bulbous": (0.5, 0.95, 1.0, 0.72, 0.42, 0.58),
    "trumpet": (0.56, 0.42, 0.44, 0.56, 0.76, 1.0),
    "straight": (0.8, 0.86, 0.88, 0.88, 0.86, 0.84),
    "waisted": (0.9, 0.92, 0.7, 0.56, 0.74, 0.95),
}


def vase(rng: Dice, color: Vector) -> Design:
    """A vase: one of four profiles, hollow, perhaps with two handles, a band, or flowers."""
    form, size = pick(rng, "bulbous", "trumpet", "straight", "waisted"), pick(rng, "tall", "squat")
    handles, band, flowers = rng.random() < 0.4, rng.random() < 0.4, rng.random() < 0.4
    material = pick(rng, "glazed ceramic", "stoneware", "glass")
    half = between(rng, 0.38, 0.42) if size == "tall" else between(rng, 0.24, 0.28)
    radii = _scaled(_VASES[form], between(rng, 0.2, 0.24) if size == "tall" else between(rng, 0.28, 0.33))
    wall = between(rng, 0.034, 0.042)
    build = Builder(material=material).part("vase", color)
    build.lathe((0, half, 0), radii, half, 0.012)
    if handles:
        for side in (-1, 1):
            outer = max(radii[3], radii[4])
            build.ring((side * (outer + 0.015), half * 1.35, 0), 0.075, 0.022, half * 0.16)
    _hollow(build, (0, half, 0), radii, half, wall)
    if band:
        build.part("band", accent(color))
        build.lathe((0, half, 0), _scaled(radii, 1.0, -0.008), half)
        for side in (-1, 1):
            build.box((0, half * 0.86 + side * half * 1.14, 0), (1, half, 1), operation=prim.CUT)
        build.lathe((0, half, 0), _scaled(radii, 1.0, 0.02), half + 0.2, operation=prim.CUT)
    if flowers:
        _flowers(build, rng, radii[5] - wall, half * 2, wall)
    features = (
        *(("two handles",) if handles else ()),
        *(("a painted band",) if band else ()),
        *(("three flowers",) if flowers else ()),
    )
    extras = dict(handles=bool(handles), band=bool(band), flowers=bool(flowers))
    attributes = dict(form=form, size=size, **extras, material=material)
    return Design(build.finish(), (size, form), features, attributes)


def _flowers(build: Builder, rng: Dice, mouth: float, top: float, wall: float) -> None:
    build.part("stems", LEAF)
    heads = []
    for number, lift in enumerate((0.3, 0.2, 0.24)):
        angle = 2 * np.pi * number / 3 + 0.5
        x, z = float(np.cos(angle)), float(np.sin(angle))
        head = (x * (mouth + 0.06), top + lift, z * (mouth + 0.06))
        build.rod((x * mouth * 0.15, wall, z * mouth * 0.15), head, 0.019)
        heads.append(head)
    build.part("blossoms", pick(rng, (0.97, 0.85, 0.35), (0.95, 0.95, 0.93), (0.85, 0.4, 0.5)), "foliage")
    for head in heads:
        build.ellipsoid(head, (0.07, 0.05, 0.07))


def bowl(rng: Dice, color: Vector) -> Design:
    """A bowl: deep or shallow, hollow, on a foot or flat, perhaps filled, with handles or a spoon."""
    depth, rim = pick(rng, "deep", "shallow"), pick(rng, "straight", "flared")
    foot, content = pick(rng, "ring", "no", "pedestal"), pick(rng, "no", "soup", "fruit")
    handles, material = rng.random() < 0.3, pick(rng, "glazed ceramic", "oak", "stoneware")
    half = between(rng, 0.19, 0.22) if depth == "deep" else between(rng, 0.105, 0.125)
    wide = between(rng, 0.38, 0.42)
    shape = (0.42, 0.7, 0.84, 0.92, 0.96, 0.98) if rim == "straight" else (0.4, 0.6, 0.7, 0.78, 0.87, 1.05)
    radii, wall = _scaled(shape, wide), between(rng, 0.036, 0.044)
    build = Builder(material=material).part("bowl", color)
    build.lathe((0, half, 0), radii, half, 0.012)
    if handles:
        for side in (-1, 1):
            build.ring((side * (radii[4] + 0.035), half * 1.4, 0), 0.07, 0.024, rotation=turn("x", 90.0))
    hollow = _hollow(build, (0, half, 0), radii, half, wall)
    if foot != "no":
        build.part("foot", shade(color, 0.8))
        drop = 0.04 if foot == "ring" else 0.15
        build.cylinder((0, -drop / 2 + 0.012, 0), radii[0] * (0.82 if foot == "ring" else 0.95), drop / 2 + 0.012,
                       radii[0] * (0.82 if foot == "ring" else 0.45), rounding=0.006)  # fmt: skip
    _content(build, content, hollow, (wide, half, wall))
    features = (
        f"a {rim} rim",
        {"ring": "a foot ring", "no": "a flat bottom", "pedestal": "a pedestal"}[foot],
        *(("two handles",) if handles else ()),
        *{"soup": ("soup inside",), "fruit": ("three fruits inside",)}.get(content, ()),
    )
    attributes = dict(depth=depth, rim=rim, foot=foot, content=content, handles=bool(handles), material=material)
    return Design(build.finish(), (depth,), features, attributes)


_TEAPOTS: dict[str, Radii] = {
    "round": (0.55, 0.9, 1.02, 0.98, 0.78, 0.42),
    "tall": (0.9, 0.92, 0.88, 0.8, 0.68, 0.48),
    "squat": (0.7, 1.05, 1.12, 1.0, 0.72, 0.4),
}


def teapot(rng: Dice, color: Vector) -> Design:
    """A teapot with its spout towards +x: body, spout, handle, lid and knob."""
    form, handle = pick(rng, "round", "squat", "tall"), pick(rng, "side", "top")
    spout, knob = pick(rng, "straight", "curved"), pick(rng, "round", "pointed")
    feet, band = rng.random() < 0.35, rng.random() < 0.35
    half = {"round": 0.19, "squat": 0.14, "tall": 0.27}[form] * between(rng, 0.94, 1.06)
    wide = {"round": 0.23, "squat": 0.25, "tall": 0.18}[form]
    radii, tube = _scaled(_TEAPOTS[form], wide), between(rng, 0.026, 0.032)
    trim = pick(rng, color, shade(color, 0.72), WOOD, SLATE)
    build = Builder(material="glazed ceramic").part("body", color)
    build.lathe((0, half, 0), radii, half, 0.015)
    build.part("spout", color)
    _spout(build, spout, wide, half)
    build.part("handle", trim)
    if handle == "side":
        build.ring((-wide * 1.02, half * 1.08, 0), half * 0.5, tube, half * 0.14)
        build.lathe((0, half, 0), _scaled(radii, 1.0, 0.02), half, operation=prim.CUT)
    else:
        base, reach = half * 1.2, radii[3] * 0.93  # the level of the fourth radius
        build.ring((0, base + 0.12, 0), reach, tube, 0.12).within((-1, base, -1), (1, 1, 1))
        build.box((0, base - 1.0, 0), (1, 1, 1), operation=prim.CUT)
    _lid(build, knob, (half, radii), (shade(color, 0.86), trim if trim != color else BRASS))
    if feet:
        build.part("feet", BRASS)
        for angle in (90, 210, 330):
            x, z = (float(f(np.deg2rad(angle))) * radii[0] * 0.85 for f in (np.cos, np.sin))
            build.ellipsoid((x, -0.012, z), (0.034, 0.04, 0.034))
    if band:
        _band(build, radii, half)
    features = (
        f"a {spout} spout",
        "a handle at the side" if handle == "side" else "a handle over the top",
        f"a {knob} knob",
        *(("three feet",) if feet else ()),
        *(("a painted band",) if band else ()),
    )
    attributes = dict(form=form, handle=handle, spout=spout, knob=knob, feet=bool(feet), band=bool(band))
    return Design(build.finish(), (form,), features, attributes)


def _spout(build: Builder, spout: str, wide: float, half: float) -> None:
    mouth = (wide * 1.75, half * 1.72, 0.0)
    if spout == "straight":
        build.rod((wide * 0.6, half * 0.6, 0), mouth, 0.066, 0.034, 0.006)
    else:
        bend = (wide * 1.32, half * 0.72, 0.0)
        build.limb((wide * 0.6, half * 0.62, 0), bend, 0.068, 0.05)
        build.limb(bend, (wide * 1.5, half * 1.6, 0), 0.05, 0.038)
        build.limb((wide * 1.5, half * 1.6, 0), mouth, 0.038, 0.034)


def _lid(build: Builder, knob: str, body: tuple[float, Radii], colors: tuple[Vector, Vector]) -> None:
    half, radii = body
    build.part("lid", colors[0])
    build.cylinder((0, 2 * half + 0.008, 0), radii[5] * 1.12, 0.024, radii[5] * 0.8, rounding=0.01)
    build.part("knob", colors[1])
    top = 2 * half + 0.05
    if knob == "round":
        build.ellipsoid((0, top, 0), (0.038, 0.036, 0.038))
    else:
        build.cylinder((0, top + 0.02, 0), 0.04, 0.05, 0.012)


def _band(build: Builder, radii: Radii, half: float) -> None:
    build.part("band", BRICK, "glazed ceramic")
    build.lathe((0, half, 0), _scaled(radii, 1.0, -0.008), half)
    for side in (-1, 1):
        build.box((0, half + side * half * 1.12, 0), (1, half, 1), operation=prim.CUT)


def _label(build: Builder, form: str, size: Vector) -> None:
    body, wide, tall = size
    build.part("label", CREAM, "fabric")
    if form == "square":
        build.slab((0, tall * 0.45, 0), (wide + 0.008, tall * 0.2, wide + 0.008), 0.055, 0.004)
    else:
        build.cylinder((0, tall * 0.45, 0), body + 0.008, tall * 0.2, rounding=0.004)


def _content(build: Builder, content: str, hollow: tuple[Vector, Radii, float], size: Vector) -> None:
    """Soup, or three fruits on leaves."""
    wide, half, wall = size
    place, inner, tall = hollow
    if content == "soup":
        level = half * 1.35
        build.part("soup", (0.79, 0.47, 0.2), "liquid")
        build.lathe(place, _scaled(inner, 1.0, -0.35 * wall), tall + wall * 0.3).within((-1, -1, -1), (1, level, 1))
        build.box((0, level + 1, 0), (1, 1, 1), operation=prim.CUT)
    elif content == "fruit":
        size = min(wide * 0.42, 0.17)
        for number, tone in enumerate(((0.82, 0.3, 0.22), (0.93, 0.72, 0.25), (0.5, 0.66, 0.3))):
            angle = 2 * np.pi * number / 3 + 0.3
            at = (float(np.cos(angle)) * wide * 0.38, 2 * half - 0.02, float(np.sin(angle)) * wide * 0.38)
            build.part(f"fruit {number + 1}", tone, "skin").ellipsoid(at, (size, size * 0.94, size))
        build.part("filling", LEAF)
        build.lathe(place, _scaled(inner, 1.0, -0.35 * wall), tall + wall * 0.3)
        build.within((-1, -1, -1), (1, half * 1.75, 1))
        build.box((0, half * 1.75 + 1, 0), (1, 1, 1), operation=prim.CUT)
