"""Hammers, wrenches, screwdrivers and knives; they lie along y, handle below, and face +z."""

from __future__ import annotations

from maquette_data3d.procedural import primitives as prim
from maquette_data3d.procedural.builder import Builder, turn
from maquette_data3d.procedural.grammar import Design, Dice, between, pick
from maquette_data3d.procedural.palette import BRASS, INK, SLATE, STEEL, WOOD, Vector, pale, shade

_FLAT = turn("x", 90.0)
_ACROSS = turn("z", 90.0)


def hammer(rng: Dice, color: Vector) -> Design:
    """A hammer standing on its coloured handle: claw, sledge, ball or mallet head, its face towards +x."""
    head, handle = pick(rng, "claw", "sledge", "ball", "mallet"), pick(rng, "long", "short")
    girth, grip = pick(rng, "thin", "thick"), rng.random() < 0.5
    length = 0.78 if handle == "long" else between(rng, 0.46, 0.52)
    half = between(rng, 0.026, 0.03) if girth == "thin" else between(rng, 0.042, 0.048)
    build = Builder(material="lacquer").part("handle", color)
    build.slab((0, length / 2, 0), (half, length / 2, half * 0.8), half * 0.75, 0.008)
    if grip:
        build.part("grip", INK)
        build.slab((0, length * 0.2, 0), (half * 1.25, length * 0.2, half * 1.1), half, 0.012)
    build.part("head", WOOD if head == "mallet" else STEEL)
    size = between(rng, 0.062, 0.07)
    if head == "mallet":
        build.cylinder((0, length, 0), size * 1.5, 0.17, rounding=0.016, rotation=_ACROSS)
    elif head == "sledge":
        build.box((0, length, 0), (0.17, size * 1.15, size * 1.05), 0.026)
    else:
        build.box((0.02, length, 0), (0.085, size * 0.85, size * 0.72), 0.014)
        build.rod((0.08, length, 0), (0.185, length, 0), size * 0.6, size * 0.92, 0.008)
        if head == "ball":
            build.rod((-0.04, length, 0), (-0.13, length, 0), size * 0.6)
            build.ellipsoid((-0.15, length, 0), (size, size, size))
        else:
            for side in (-1, 1):
                knee, tip = (-0.13, length + 0.01, side * 0.034), (-0.215, length - 0.06, side * 0.046)
                build.limb((-0.04, length + 0.015, side * 0.03), knee, size * 0.6, 0.032)
                build.limb(knee, tip, 0.032, 0.019)
    words = {"claw": "a claw", "ball": "a ball peen", "sledge": "a block head", "mallet": "a wooden barrel head"}[head]
    features = (words, f"a {girth} handle", *(("a dark grip",) if grip else ()))
    attributes = dict(head=head, handle=handle, girth=girth, grip=bool(grip))
    noun = {"sledge": "sledgehammer", "claw": "claw hammer"}.get(head, "hammer")
    return Design(build.finish(), (handle,), features, attributes, noun)


def wrench(rng: Dice, color: Vector) -> Design:
    """A wrench standing upright, flat in x-y: jaws, rings or one of each at the ends of a coloured shaft."""
    style, size = pick(rng, "open", "ring", "combination", "adjustable"), pick(rng, "long", "short")
    girth = pick(rng, "thin", "thick")
    half = 0.4 if size == "long" else between(rng, 0.25, 0.28)
    shaft = between(rng, 0.032, 0.036) if girth == "thin" else between(rng, 0.052, 0.058)
    flat = between(rng, 0.026, 0.032)
    big = between(rng, 0.11, 0.12)
    build = Builder(material="painted steel").part("shaft", color)
    lower = half + 0.03 if style == "adjustable" else half - big * 0.55
    middle, tall = (half - big * 0.7 - lower) / 2, (half - big * 0.7 + lower) / 2
    build.slab((0, middle, 0), (shaft, flat * 0.85, tall), shaft * 0.5, 0.008, _FLAT)
    build.part("head", STEEL)
    _end(build, "jaw" if style in ("open", "adjustable") else "ring", 1, (big, flat, half))
    if style == "adjustable":
        build.part("screw", SLATE).rod((-0.03, half - big * 0.85, 0), (0.05, half - big * 0.85, 0), flat * 1.35)
    else:
        build.part("foot", STEEL)
        _end(build, "ring" if style == "ring" else "jaw", -1, (big * 0.8, flat, half))
    features = (
        {
            "open": "an open jaw at both ends",
            "ring": "a ring at both ends",
            "combination": "a ring and an open jaw",
            "adjustable": "an adjustable jaw",
        }[style],
        f"a {girth} shaft",
    )
    attributes = dict(style=style, size=size, girth=girth)
    return Design(build.finish(), (size,), features, attributes)


def _end(build: Builder, kind: str, side: int, size: Vector) -> None:
    big, flat, half = size
    at = (0.0, side * half, 0.0)
    build.cylinder(at, big, flat, rounding=0.01, rotation=_FLAT)
    if kind == "ring":
        build.cylinder(at, big * 0.56, 1.0, rotation=_FLAT, operation=prim.CUT)
    else:
        # Jaws end flat: their tips would be thinner than a voxel.
        build.within((-1, -half - 0.82 * big, -1), (1, half + 0.82 * big, 1))
        build.box((0, side * (half + 0.82 * big + 1.0), 0), (1, 1, 1), operation=prim.CUT)
        tilt = turn("z", side * 15.0)
        x, y, z = tilt @ [0.0, side * big * 0.75, 0.0]
        build.box((x, side * half + y, z), (big * 0.44, big * 0.8, 1.0), rotation=tilt, operation=prim.CUT)


def screwdriver(rng: Dice, color: Vector) -> Design:
    """A screwdriver, tip upwards: a coloured handle, a steel shaft, a flat or a cross tip."""
    handle, tip = pick(rng, "round", "square", "ball"), pick(rng, "flat", "cross")
    shaft, girth = pick(rng, "long", "short"), pick(rng, "thin", "thick")
    collar, cap = rng.random() < 0.5, rng.random() < 0.4
    length = between(rng, 0.46, 0.52) if shaft == "long" else between(rng, 0.2, 0.24)
    steel = between(rng, 0.02, 0.023) if girth == "thin" else between(rng, 0.033, 0.038)
    grip, wide = between(rng, 0.32, 0.36), between(rng, 0.065, 0.075)
    build = Builder(material="plastic").part("handle", color)
    if handle == "round":
        radii = (wide * 0.85, wide * 1.08, wide, wide * 0.92, wide, wide * 0.62)
        build.lathe((0, grip / 2, 0), radii, grip / 2, 0.018)
    elif handle == "square":
        build.slab((0, grip / 2, 0), (wide * 0.9, grip / 2, wide * 0.9), 0.02, 0.012)
    else:
        grip *= 0.62
        build.ellipsoid((0, grip * 0.42, 0), (wide * 1.5, grip * 0.46, wide * 1.5))
        build.rod((0, grip * 0.6, 0), (0, grip, 0), wide * 0.7, wide * 0.55)
    build.part("shaft", STEEL).rod((0, grip - 0.05, 0), (0, grip + length, 0), steel)
    end = grip + length
    if tip == "flat":
        build.plate((0, end - 0.02, 0), (0, end + 0.08, 0), (steel * 1.1, steel * 1.9), 0.0185, (1, 0, 0))
    else:
        build.rod((0, end - 0.01, 0), (0, end + 0.05, 0), steel * 1.35, steel * 0.8)
        build.box((0, end + 0.035, 0), (steel * 1.2, 0.045, 0.0185), 0.004)
        build.box((0, end + 0.035, 0), (0.0185, 0.045, steel * 1.2), 0.004)
    if collar:
        build.part("collar", BRASS).cylinder((0, grip, 0), wide * 0.72, 0.028, rounding=0.006)
    if cap:
        build.part("cap", pick(rng, SLATE, shade(color, 0.6))).cylinder((0, 0.012, 0), wide * 0.9, 0.03, rounding=0.012)
    features = (
        f"a {shaft} {girth} shaft",
        f"a {tip} tip",
        f"a {handle} handle",
        *(("a collar",) if collar else ()),
    )
    attributes = dict(handle=handle, tip=tip, shaft=shaft, girth=girth, collar=bool(collar), cap=bool(cap))
    return Design(build.finish(), (), features, attributes)


def knife(rng: Dice, color: Vector) -> Design:
    """A knife, point upwards, its edge towards +x: a coloured handle and a blade of one of four forms."""
    blade, size = pick(rng, "pointed", "cleaver", "rounded", "dagger"), pick(rng, "long", "short")
    handle, guard = pick(rng, "straight", "curved"), rng.random() < 0.45
    rivets, width = rng.random() < 0.4, pick(rng, "wide", "narrow")
    length = between(rng, 0.56, 0.6) if size == "long" else between(rng, 0.3, 0.34)
    half = between(rng, 0.066, 0.074) if width == "wide" else between(rng, 0.04, 0.046)
    if blade == "cleaver":
        half *= 1.7
    grip, thick = between(rng, 0.27, 0.3), 0.0185
    build = Builder(material="plastic").part("blade", STEEL)
    _blade(build, blade, (half, length, thick))
    build.part("handle", color)
    if handle == "straight":
        build.box((0, -grip / 2 + 0.02, 0), (0.04, grip / 2 + 0.02, 0.028), 0.018)
    else:
        build.limb((0, 0.02, 0), (-0.012, -grip * 0.5, 0), 0.032, 0.038)
        build.limb((-0.012, -grip * 0.5, 0), (0.025, -grip, 0), 0.038, 0.044)
    if guard:
        build.part("guard", BRASS).box((0, 0.025, 0), (max(half, 0.06) + 0.025, 0.022, 0.036), 0.01)
    if rivets:
        build.part("rivets", pale(STEEL, 0.3), "brushed steel")
        for share in (0.3, 0.65):
            build.cylinder((0, -grip * share, 0), 0.02, 0.046, rotation=_FLAT)
    words = {
        "pointed": "a pointed blade",
        "cleaver": "a cleaver blade",
        "rounded": "a rounded tip",
        "dagger": "a double-edged blade",
    }[blade]
    features = (words, f"a {handle} handle", *(("a guard",) if guard else ()), *(("two rivets",) if rivets else ()))
    attributes = dict(blade=blade, size=size, width=width, handle=handle, guard=bool(guard), rivets=bool(rivets))
    return Design(build.finish(), (size, width), features, attributes)


def _blade(build: Builder, style: str, size: Vector) -> None:
    half, length, thick = size
    if style == "dagger":
        build.plate((0, -0.02, 0), (0, length * 0.7, 0), (half, half * 0.86), thick, (1, 0, 0))
        build.plate((0, length * 0.68, 0), (0, length, 0), (half * 0.86, 0.014), thick, (1, 0, 0))
        return
    build.box((0, length / 2, 0), (half, length / 2 + 0.02, thick), 0.004)
    if style == "pointed":
        tip = turn("z", 28.0)
        x, y, z = tip @ [half * 2.0, 0.0, 0.0]
        build.box((x - half * 0.9, length + y, z), (half * 2.0, length, 0.2), rotation=tip, operation=prim.CUT)
    elif style == "rounded":
        build.cylinder((0, length, 0), half, thick, rounding=0.004, rotation=_FLAT)
