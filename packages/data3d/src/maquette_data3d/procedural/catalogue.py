"""The classes of shapes, their families, and the pairs of attributes that a build may hold out."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from maquette.errors import MaquetteError, unknown_name
from maquette_data3d.procedural import (
    buildings,
    creatures,
    furnishings,
    furniture,
    objects,
    tools,
    vehicles,
    vessels,
)
from maquette_data3d.procedural.grammar import Design, Dice
from maquette_data3d.procedural.palette import Vector

Sampler = Callable[[Dice, Vector], Design]
Pair = tuple[str, object, str, object]

SAMPLERS: dict[str, Sampler] = {
    "chair": furniture.chair,
    "table": furniture.table,
    "lamp": furniture.lamp,
    "mug": objects.mug,
    "car": objects.car,
    "creature": objects.creature,
    "pebble": objects.pebble,
    "gear": objects.gear,
    "stool": furnishings.stool,
    "bench": furnishings.bench,
    "shelf": furnishings.shelf,
    "bed": furnishings.bed,
    "sofa": furnishings.sofa,
    "truck": vehicles.truck,
    "boat": vehicles.boat,
    "airplane": vehicles.airplane,
    "bottle": vessels.bottle,
    "vase": vessels.vase,
    "bowl": vessels.bowl,
    "teapot": vessels.teapot,
    "house": buildings.house,
    "tower": buildings.tower,
    "bridge": buildings.bridge,
    "hammer": tools.hammer,
    "wrench": tools.wrench,
    "screwdriver": tools.screwdriver,
    "knife": tools.knife,
    "biped": creatures.biped,
    "bird": creatures.bird,
    "fish": creatures.fish,
}
CLASSES = tuple(SAMPLERS)
FIRST_CLASSES = CLASSES[:8]
FAMILIES: dict[str, tuple[str, ...]] = {
    "furniture": ("chair", "table", "lamp", "stool", "bench", "shelf", "bed", "sofa"),
    "vehicles": ("car", "truck", "boat", "airplane"),
    "vessels": ("mug", "bottle", "vase", "bowl", "teapot"),
    "buildings": ("house", "tower", "bridge"),
    "tools": ("gear", "hammer", "wrench", "screwdriver", "knife"),
    "creatures": ("creature", "biped", "bird", "fish"),
    "stones": ("pebble",),
}
# Attribute, value, attribute, value. The first pair of a class has no value that a low variety leaves out.
HELD_OUT: dict[str, tuple[Pair, ...]] = {
    "chair": (("color", "red", "size", "tall"), ("back", "ladder", "legs", "round")),
    "table": (("color", "blue", "legs", "square"), ("top", "oval", "legs", "pedestal")),
    "lamp": (("color", "green", "shade", "cone"), ("shade", "globe", "base", "tripod")),
    "mug": (("color", "yellow", "handle", "round"), ("size", "wide", "handle", "two")),
    "car": (("color", "purple", "style", "sedan"), ("style", "van", "size", "short")),
    "creature": (("color", "orange", "legs", "long"), ("girth", "fat", "neck", "long")),
    "pebble": (("color", "pink", "form", "round"), ("form", "boxy", "size", "tall")),
    "gear": (("color", "white", "teeth", 6), ("teeth", 12, "bore", "large")),
    "stool": (("color", "blue", "seat", "round"), ("legs", "three", "seat", "square")),
    "bench": (("color", "green", "back", "slatted"), ("legs", "trestle", "back", "solid")),
    "shelf": (("color", "yellow", "size", "tall"), ("boards", 3, "books", True)),
    "bed": (("color", "purple", "style", "plain"), ("headboard", "slatted", "width", "double")),
    "sofa": (("color", "orange", "arms", "square"), ("seats", 2, "arms", "round")),
    "truck": (("color", "pink", "style", "box"), ("style", "dump", "nose", "long")),
    "boat": (("color", "white", "style", "sail"), ("style", "tug", "hull", "deep")),
    "airplane": (("color", "red", "style", "jet"), ("style", "propeller", "tail", "high")),
    "bottle": (("color", "green", "form", "round"), ("form", "flask", "neck", "long")),
    "vase": (("color", "yellow", "form", "bulbous"), ("form", "trumpet", "size", "squat")),
    "bowl": (("color", "purple", "depth", "deep"), ("foot", "pedestal", "rim", "flared")),
    "teapot": (("color", "orange", "form", "round"), ("form", "tall", "handle", "top")),
    "house": (("color", "pink", "roof", "gable"), ("roof", "hip", "storeys", 2)),
    "tower": (("color", "white", "form", "round"), ("form", "square", "top", "dome")),
    "bridge": (("color", "red", "style", "arch"), ("style", "beam", "spans", 3)),
    "hammer": (("color", "blue", "head", "claw"), ("head", "mallet", "handle", "long")),
    "wrench": (("color", "green", "style", "open"), ("style", "ring", "size", "short")),
    "screwdriver": (("color", "yellow", "handle", "round"), ("handle", "ball", "tip", "cross")),
    "knife": (("color", "purple", "blade", "pointed"), ("blade", "cleaver", "size", "short")),
    "biped": (("color", "orange", "girth", "slim"), ("arms", "raised", "legs", "long")),
    "bird": (("color", "pink", "wings", "folded"), ("wings", "spread", "legs", "long")),
    "fish": (("color", "white", "body", "slim"), ("body", "deep", "tail", "forked")),
}


def held_out_pairs(class_name: str) -> tuple[Pair, ...]:
    """The combinations (attribute, value, attribute, value) of a class that training may do without.

    Each value alone is frequent outside its pair, so that what is asked of a model is to combine. The pairs
    are fixed; the first of each class occurs at any `variety`.

    Raises:
        MaquetteError: a class that there is not.
    """
    if class_name not in SAMPLERS:
        raise unknown_name("class of procedural shapes", class_name, CLASSES)
    return HELD_OUT[class_name]


@lru_cache
def classes_of(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of classes with families spelled out, each once, in the order given.

    Raises:
        MaquetteError: none, or a name that is neither a class nor a family.
    """
    if not names:
        raise MaquetteError("procedural shapes need at least one class: leave `classes` out for the first eight")
    for name in names:
        if name not in SAMPLERS and name not in FAMILIES:
            raise unknown_name("class of procedural shapes", name, (*CLASSES, *FAMILIES))
    return tuple(dict.fromkeys(member for name in names for member in FAMILIES.get(name, (name,))))
