"""Two-legged figures, birds and fish, with the joints that move them."""

from __future__ import annotations

from maquette_data3d.procedural.builder import Builder, turn
from maquette_data3d.procedural.grammar import Design, Dice, between, pick
from maquette_data3d.procedural.palette import INK, SLATE, Vector, accent, pale, shade

BEAK = (0.93, 0.64, 0.2)


def biped(rng: Dice, color: Vector) -> Design:
    """A two-legged figure facing +z: legs, trunk, arms in one of three poses, a head with eyes."""
    girth, legs = pick(rng, "slim", "fat", ""), pick(rng, "long", "short")
    arms, head = pick(rng, "lowered", "raised", "outstretched"), pick(rng, "big", "small")
    ears, tail = pick(rng, "no", "pointed", "round", "horns"), rng.random() < 0.35
    half = {"fat": between(rng, 0.15, 0.17), "slim": between(rng, 0.085, 0.095)}.get(girth, between(rng, 0.115, 0.125))
    reach = between(rng, 0.32, 0.36) if legs == "long" else between(rng, 0.15, 0.18)
    limb = between(rng, 0.036, 0.042)
    skull = between(rng, 0.14, 0.155) if head == "big" else between(rng, 0.085, 0.095)
    hip, chest = reach + limb, reach + limb + 0.24
    build = Builder(0.025, "fur").part("trunk", color)
    build.limb((0, hip + half * 0.5, 0), (0, chest - 0.02, 0), half, half * 0.86)
    build.part("legs", shade(color, 0.86))
    rig = build.rig
    rig.joint("pelvis", None, (0, hip, 0), (0, (hip + chest) / 2, 0), half * 0.8)
    rig.joint("chest", "pelvis", (0, (hip + chest) / 2, 0), (0, chest, 0), half * 0.8)
    _legs(build, hip, half, limb)
    build.part("arms", shade(color, 0.86))
    for side, name in ((1, "left"), (-1, "right")):
        points = _arm(arms, side, half, chest)
        build.limb(points[0], points[1], limb * 0.95, limb * 0.85).limb(points[1], points[2], limb * 0.85, limb * 0.95)
        rig.chain((f"{name} upper arm", f"{name} forearm"), "chest", points, limb * 0.9)
    at = (0.0, chest + half * 0.5 + skull * 0.85, 0.0)
    build.part("head", color).ellipsoid(at, (skull, skull * 0.98, skull * 0.95))
    build.limb((0, chest, 0), (0, at[1] - skull * 0.6, 0), half * 0.55, skull * 0.5)
    rig.joint("head", "chest", (0, chest + half * 0.5, 0), (0, at[1] + skull * 0.4, 0), skull * 0.8)
    _face(build, at, skull, color)
    _ears(build, ears, at, skull, color)
    if tail:
        _tail(build, hip, half, color)
    features = (
        f"{legs} legs",
        f"{arms} arms",
        f"a {head} head",
        *{"no": (), "horns": ("two horns",)}.get(ears, (f"{ears} ears",)),
        *(("a tail",) if tail else ()),
    )
    attributes = dict(girth=girth, legs=legs, arms=arms, head=head, ears=ears, tail=bool(tail))
    return Design(build.finish(), (girth,) if girth else (), features, attributes)


def _legs(build: Builder, hip: float, half: float, limb: float) -> None:
    """Thighs, shins and feet, and their joints."""
    for side, name in ((1, "left"), (-1, "right")):
        x = side * half * 0.58
        points = ((x, hip + 0.02, 0.0), (x * 1.05, hip * 0.52, 0.012), (x * 1.1, limb, 0.0))
        build.limb(points[0], points[1], limb * 1.25, limb * 1.05).limb(points[1], points[2], limb * 1.05, limb)
        build.limb(points[2], (x * 1.15, limb * 0.95, limb * 2.0), limb, limb * 0.9)
        build.rig.chain((f"{name} thigh", f"{name} shin"), "pelvis", points, limb * 1.1)
        build.rig.joint(f"{name} foot", f"{name} shin", points[2], (x * 1.15, limb * 0.95, limb * 2.0), limb)


def _tail(build: Builder, hip: float, half: float, color: Vector) -> None:
    points = ((0.0, hip + 0.01, -half * 0.7), (0.0, hip + 0.02, -half - 0.1), (0.0, hip + 0.12, -half - 0.17))
    build.part("tail", shade(color, 0.86))
    build.limb(points[0], points[1], 0.034, 0.028).limb(points[1], points[2], 0.028, 0.022)
    build.rig.chain(("tail", "tail tip"), "pelvis", points, 0.028)


def _arm(pose: str, side: int, half: float, chest: float) -> tuple[Vector, Vector, Vector]:
    """Shoulder, elbow and hand."""
    shoulder = (side * half * 0.75, chest - 0.01, 0.0)
    if pose == "lowered":
        return shoulder, (side * (half + 0.07), chest - 0.12, 0.0), (side * (half + 0.085), chest - 0.235, 0.04)
    if pose == "raised":
        return shoulder, (side * (half + 0.1), chest + 0.06, 0.0), (side * (half + 0.13), chest + 0.2, 0.02)
    return shoulder, (side * (half + 0.1), chest - 0.01, 0.0), (side * (half + 0.22), chest, 0.02)


def _face(build: Builder, at: Vector, skull: float, color: Vector) -> None:
    build.part("snout", pale(color)).ellipsoid(
        (0, at[1] - skull * 0.25, skull * 0.82), (skull * 0.42, skull * 0.3, skull * 0.3)
    )
    build.part("eyes", INK, "glass")
    for x in (-0.42, 0.42):
        build.ellipsoid((x * skull, at[1] + skull * 0.2, skull * 0.82), (0.021, 0.025, 0.021))


def _ears(build: Builder, style: str, at: Vector, skull: float, color: Vector) -> None:
    if style == "no":
        return
    build.part("horns" if style == "horns" else "ears", pale(SLATE, 0.55) if style == "horns" else shade(color, 0.86))
    for side in (-1, 1):
        root = (side * skull * 0.6, at[1] + skull * 0.6, 0.0)
        if style == "round":
            build.ellipsoid((side * skull * 0.85, at[1] + skull * 0.75, 0), (0.055, 0.055, 0.026))
        elif style == "pointed":
            build.limb(root, (side * skull * 0.95, root[1] + 0.1, 0), 0.04, 0.019)
        else:
            knee = (side * skull * 1.05, root[1] + 0.05, 0.0)
            build.limb(root, knee, 0.032, 0.026).limb(knee, (side * skull * 1.02, root[1] + 0.13, 0), 0.026, 0.019)


def bird(rng: Dice, color: Vector) -> Design:
    """A bird facing +z on two legs: wings folded or spread, a neck, a beak, a fan of a tail."""
    wings, neck = pick(rng, "folded", "spread"), pick(rng, "short", "long")
    legs, beak = pick(rng, "short", "long"), pick(rng, "short", "long")
    girth, crest = pick(rng, "fat", "slim"), rng.random() < 0.35
    half = between(rng, 0.15, 0.17) if girth == "fat" else between(rng, 0.1, 0.115)
    long, drop = between(rng, 0.2, 0.24), between(rng, 0.1, 0.12) if legs == "short" else between(rng, 0.27, 0.31)
    spine = drop + half * 0.95
    build = Builder(0.02, "feathers").part("body", color)
    build.ellipsoid((0, spine, 0), (half, half * 0.95, long), turn("x", -12.0))
    skull = between(rng, 0.085, 0.095)
    rise = (0.31, 0.1) if neck == "long" else (0.14, 0.04)
    throat, at = (0.0, spine + half * 0.35, long * 0.68), (0.0, spine + half * 0.5 + rise[0], long * 0.7 + rise[1])
    build.part("neck", color).limb(throat, at, half * 0.52, skull * 0.62)
    build.part("head", color).ellipsoid(at, (skull, skull * 0.96, skull * 1.05))
    rig = build.rig
    rig.joint("body", None, (0, spine, -long * 0.6), (0, spine, long * 0.5), half * 0.8)
    rig.joint("neck", "body", throat, at, half * 0.45)
    far = at[2] + skull + (0.17 if beak == "long" else 0.075)
    rig.joint("head", "neck", at, (0, at[1], far), skull * 0.8)
    _beak(build, at, skull, far)
    if crest:
        _crest(build, at, skull, color)
    _wings(build, wings, (half, spine, long), color)
    build.part("tail", shade(color, 0.72))
    end = (0.0, spine + 0.03, -long - 0.17)
    build.plate((0, spine + 0.01, -long * 0.7), end, (0.05, 0.105), 0.021, (1, 0, 0), 0.01)
    rig.joint("tail", "body", (0, spine + 0.01, -long * 0.7), end, 0.05)
    _bird_legs(build, half, spine)
    features = (
        f"{wings} wings",
        *((f"a {neck} neck",) if neck == "long" else ()),
        f"{legs} legs",
        f"a {beak} beak",
        *(("a crest",) if crest else ()),
    )
    attributes = dict(girth=girth, wings=wings, neck=neck, legs=legs, beak=beak, crest=bool(crest))
    return Design(build.finish(), (girth,), features, attributes)


def _crest(build: Builder, at: Vector, skull: float, color: Vector) -> None:
    build.part("crest", shade(color, 0.7))
    for back in (0.0, -0.05):
        end = (0.0, at[1] + skull + 0.08, at[2] - 0.06 + 1.5 * back)
        build.limb((0, at[1] + skull * 0.7, at[2] + back), end, 0.03, 0.019)


def _wings(build: Builder, style: str, trunk: Vector, color: Vector) -> None:
    half, spine, long = trunk
    build.part("wings", shade(color, 0.8))
    for side, name in ((1, "left"), (-1, "right")):
        shoulder = (side * half * 0.7, spine + half * 0.4, long * 0.25)
        if style == "folded":
            tip = (side * half * 0.75, spine + 0.02, -long * 1.0)
            build.ellipsoid((side * half * 0.93, spine + half * 0.1, -long * 0.15), (0.034, half * 0.62, long * 0.8))
        else:
            elbow = (side * (half + 0.15), spine + half * 0.75, long * 0.2)
            tip = (side * (half + 0.34), spine + half * 0.55, -0.06)
            build.plate(shoulder, elbow, (0.11, 0.1), 0.02, (0, 0, 1), 0.01)
            build.plate(elbow, tip, (0.1, 0.035), 0.02, (0, 0, 1), 0.01)
            build.limb(elbow, (elbow[0] - side * 0.02, elbow[1], elbow[2] - 0.05), 0.022)
        build.rig.joint(f"{name} wing", "body", shoulder, tip, 0.05)


def _bird_legs(build: Builder, half: float, spine: float) -> None:
    build.part("legs", BEAK, "skin")
    for side, name in ((1, "left"), (-1, "right")):
        x = side * half * 0.45
        points = ((x, spine - half * 0.5, 0.0), (x, (spine - half * 0.5) * 0.5, -0.012), (x, 0.02, 0.0))
        build.limb(points[0], points[1], 0.03, 0.021).limb(points[1], points[2], 0.021)
        for toe in (-0.05, 0.0, 0.05):
            build.limb(points[2], (x + toe, 0.02, 0.085 - abs(toe) * 0.4), 0.02)
        build.rig.chain((f"{name} thigh", f"{name} shank"), "body", points, 0.024)
        build.rig.joint(f"{name} foot", f"{name} shank", points[2], (x, 0.02, 0.07), 0.03)


def fish(rng: Dice, color: Vector) -> Design:
    """A fish swimming towards +z: body, tail fin, back fins, side fins, eyes."""
    body, tail = pick(rng, "slim", "deep", "round"), pick(rng, "forked", "fan", "pointed")
    back, fins = pick(rng, "one", "two", "no"), pick(rng, "big", "small")
    stripes = pick(rng, 0, 2, 3)
    heights = {"slim": between(rng, 0.095, 0.105), "deep": between(rng, 0.2, 0.23), "round": between(rng, 0.16, 0.18)}
    tall = heights[body]
    wide = {"slim": tall * 0.75, "deep": tall * 0.4, "round": tall * 0.95}[body]
    long = {"slim": 0.34, "deep": 0.27, "round": 0.23}[body]
    build = Builder(0.015, "scales").part("body", color)
    build.ellipsoid((0, 0, 0), (wide, tall, long))
    root, end = -long * 0.82, -long - 0.17
    build.limb((0, 0, -long * 0.55), (0, 0, root - 0.04), min(tall * 0.5, wide * 0.85), 0.034)
    rig = build.rig
    rig.joint("body", None, (0, 0, 0), (0, 0, -long * 0.5), wide * 0.8)
    rig.joint("head", "body", (0, 0, long * 0.2), (0, 0, long * 0.8), wide * 0.7)
    rig.joint("tail", "body", (0, 0, -long * 0.5), (0, 0, root), wide * 0.5)
    rig.joint("tail fin", "tail", (0, 0, root), (0, 0, end), 0.04)
    build.part("tail fin", shade(color, 0.72))
    _tail_fin(build, tail, root, end)
    _fins(build, back, fins, (wide, tall, long), color)
    build.part("eyes", INK, "glass")
    for side in (-1, 1):
        build.ellipsoid((side * wide * 0.62, tall * 0.22, long * 0.68), (0.028, 0.03, 0.03))
    for number in range(stripes):
        z = long * (0.3 - 0.32 * number)
        scale = (1 - (z / long) ** 2) ** 0.5
        build.part(f"stripe {number + 1}", accent(color))
        build.ellipsoid((0, 0, z), (wide * scale + 0.006, tall * scale + 0.006, 0.03))
    features = (
        f"a {tail} tail",
        {"one": "one back fin", "two": "two back fins", "no": "no back fin"}[back],
        f"{fins} side fins",
        *{0: (), 2: ("two stripes",), 3: ("three stripes",)}[stripes],
    )
    attributes = dict(body=body, tail=tail, back_fins=back, side_fins=fins, stripes=stripes)
    return Design(build.finish(), (body,), features, attributes)


def _tail_fin(build: Builder, tail: str, root: float, end: float) -> None:
    if tail == "fan":
        build.plate((0, 0, root), (0, 0, end), (0.03, 0.15), 0.021, (0, 1, 0), 0.01)
    elif tail == "pointed":
        build.plate((0, 0, root), (0, 0, end + 0.07), (0.03, 0.11), 0.021, (0, 1, 0), 0.01)
        build.plate((0, 0, end + 0.075), (0, 0, end - 0.05), (0.11, 0.014), 0.021, (0, 1, 0))
    else:
        for side in (-1, 1):
            build.plate((0, 0, root), (0, side * 0.16, end), (0.05, 0.026), 0.021, (0, 1, 0.4), 0.01)


def _fins(build: Builder, back: str, sides: str, body: Vector, color: Vector) -> None:
    wide, tall, long = body
    if back != "no":
        build.part("back fins", shade(color, 0.72))
        for z in (0.05,) if back == "one" else (0.3, -0.28):
            foot = (0.0, tall * 0.72, z * long)
            halves = (0.1 if back == "one" else 0.06, 0.03)
            build.plate(foot, (0, tall + 0.08, z * long - 0.07), halves, 0.0205, (0, 0, 1), 0.01)
    build.part("side fins", shade(color, 0.8))
    reach, width = (0.17, 0.062) if sides == "big" else (0.085, 0.04)
    for side, name in ((1, "left"), (-1, "right")):
        root = (side * wide * 0.75, -tall * 0.25, long * 0.22)
        tip = (side * (wide * 0.85 + reach), -tall * 0.25 - 0.05, long * 0.22 - reach * 0.6)
        build.plate(root, tip, (width, width * 0.7), 0.0205, (0, 0, 1), 0.01)
        build.rig.joint(f"{name} fin", "body", root, tip, 0.03)


def _beak(build: Builder, at: Vector, skull: float, far: float) -> None:
    """A beak that ends at z = `far`, and the eyes behind it."""
    build.part("beak", BEAK, "plastic")
    build.limb((0, at[1] - 0.01, at[2] + skull * 0.7), (0, at[1] - 0.025, far), skull * 0.42, 0.018)
    build.part("eyes", INK, "glass")
    for x in (-1, 1):
        build.ellipsoid((x * skull * 0.72, at[1] + skull * 0.3, at[2] + skull * 0.55), (0.021, 0.023, 0.021))
