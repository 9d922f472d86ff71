"""What names of joints say, by the conventions of Mixamo, Blender, Unreal, Quaternius, KayKit and of our own shapes."""

from __future__ import annotations

import re
from dataclasses import dataclass

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z][a-z]*|[a-z]+|\d+")
_NOISE = {"mixamorig", "bip", "def", "jnt", "joint", "bone", "armature", "rig", "b", "j"}
_SIDES = {"left": "left", "l": "left", "lft": "left", "right": "right", "r": "right", "rgt": "right"}
_ENDS = {"front": "front", "fore": "front", "back": "hind", "hind": "hind", "rear": "hind"}
_HELPERS = re.compile(r"ik|fk|pole|target|control|ctrl|slot|roll|twist|end|nub|helper|effector")
# The first that fits the end of a name; "leg" and "arm" alone are the upper or the lower bone, as the others say.
_PARTS = (
    ("toes", re.compile(r"toes?(base|tip)?|ball")),
    ("foot", re.compile(r"foot|feet|ankle|paw|hoof")),
    ("lower leg", re.compile(r"(lower|low|lo|down)leg|(fore)?shin|calf|shank|knee")),
    ("upper leg", re.compile(r"(upper|up)leg|thigh|femur")),
    ("leg", re.compile(r"leg")),
    ("hand", re.compile(r"hand|wrist|palm")),
    ("lower arm", re.compile(r"(lower|low|lo)arm|forearm|elbow")),
    ("upper arm", re.compile(r"(upper|up)arm|humerus")),
    ("arm", re.compile(r"arm")),
    ("clavicle", re.compile(r"shoulder|clavicle|collar(bone)?")),
    ("wing", re.compile(r"wing(tip)?")),
    ("neck", re.compile(r"neck")),
    ("head", re.compile(r"head")),
    ("tail", re.compile(r"tail(tip|fin)?")),
    ("spine", re.compile(r"spine|chest|torso|abdomen|upperbody|thorax|shoulders")),
    ("hips", re.compile(r"hips?|pelvis|body")),
)


@dataclass(frozen=True)
class Meaning:
    """What a joint's name says.

    Attributes:
        part: one of the names of `_PARTS`, "helper" for what no surface hangs on, "" where nothing is said.
        side: "left", "right" or "".
        limb: tells limbs of one side apart: "front", "hind", or what other words there are ("mid front").
    """

    part: str
    side: str
    limb: str


def meaning(name: str) -> Meaning:
    """The meaning of one joint's name."""
    words = [word.lower() for word in _WORD.findall(name.rpartition(":")[2])]
    words = [word for word in words if not word.isdigit() and word not in _NOISE]
    side = next((_SIDES[word] for word in words if word in _SIDES), "")
    words = [word for word in words if word not in _SIDES]
    if any(_HELPERS.fullmatch(word) for word in words):
        return Meaning("helper", side, "")
    for start in range(len(words)):
        part = _part("".join(words[start:]))
        if part:
            limb = " ".join(_ENDS.get(word, word) for word in words[:start])
            return Meaning(part, side, limb)
    return Meaning("", side, "")


def _part(text: str) -> str:
    return next((part for part, pattern in _PARTS if pattern.fullmatch(text)), "")
