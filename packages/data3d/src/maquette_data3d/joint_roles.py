"""What a joint is of a body, told from its name: of procedural creatures, Mixamo, Blender, Quaternius and KayKit."""

from __future__ import annotations

import re

_SIDED = ("shoulder", "upper arm", "forearm", "hand", "thigh", "shin", "foot", "wing", "fin")
_PAIRED = tuple(f"{end} {bone}" for end in ("front", "hind") for bone in ("thigh", "shin", "foot"))
ROLES = (
    "other",
    *("pelvis", "spine", "chest", "neck", "head", "tail", "tail fin"),
    *(f"{side} {bone}" for bone in (*_SIDED, *_PAIRED) for side in ("left", "right")),
)
"""All roles; "other" comes first."""

_CONTROL = re.compile(r"ik\b|ik[ ._-]|^ik|pole|control|target|\bend\b|_end$|handslot")
_SIDE = re.compile(r"(?:^|[ ._-])(l|r|left|right)(?:$|[ ._-])|^(left|right)")
_LIMB_ENDS = (("front", re.compile("front|fore(?!\W*arm)")), ("hind", re.compile("hind|back.")))
_LEG = (
    ("foot", re.compile("foot|feet|toe|heel|low")),
    ("shin", re.compile("shin|shank|up")),
    ("thigh", re.compile("thigh|leg|hip")),
)
# The first that is found decides.
_BONES = (
    ("tail fin", re.compile(r"tail\W*fin")),
    ("tail", re.compile("tail")),
    ("wing", re.compile("wing")),
    ("fin", re.compile(r"fin\b|flipper")),
    ("hand", re.compile("hand|wrist|palm|thumb|finger|index|middle|pinky|ring")),
    ("forearm", re.compile(r"fore\W*arm|low(?:er)?\W*arm|elbow")),
    ("upper arm", re.compile("arm")),
    ("foot", re.compile("foot|feet|toe|heel")),
    ("shin", re.compile(r"(?:low|lower|down)\W*leg|shin|shank|calf|knee|^(?:left|right)leg$")),
    ("thigh", re.compile("leg|thigh")),
    ("chest", re.compile("chest|torso|thorax|shoulders|spine.*[23]")),
    ("shoulder", re.compile("shoulder|clavicle")),
    ("head", re.compile("head|face|jaw|mouth|nose|eye")),
    ("neck", re.compile("neck")),
    ("spine", re.compile("spine|abdomen|back$")),
    ("pelvis", re.compile("pelvis|hip|body")),
)


def role_of(name: str) -> str:
    """The role of a joint by its name, one of `ROLES`; "other" where the name says nothing, as those of controls do."""
    plain = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    joined = name.lower()
    if _CONTROL.search(plain) or _CONTROL.search(joined):
        return "other"
    found = _SIDE.search(plain)
    side = {"l": "left", "r": "right"}.get(word := (found[1] or found[2]) if found else "", word)
    if side and not re.search("wing|fin|flipper", plain):
        for end, pattern in _LIMB_ENDS:
            if pattern.search(plain):
                bone = next((bone for bone, leg in _LEG if leg.search(plain)), None)
                return f"{side} {end} {bone}" if bone else "other"
    bone = next((bone for bone, pattern in _BONES if pattern.search(plain) or pattern.search(joined)), "other")
    role = f"{side} {bone}" if bone in _SIDED else bone
    return role if role in ROLES else "other"
