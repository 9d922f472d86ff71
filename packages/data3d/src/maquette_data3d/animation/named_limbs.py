"""Limbs of a skeleton whose joints have telling names."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from maquette.types import Skeleton
from maquette_data3d.animation.body import Limb, descendants
from maquette_data3d.animation.joint_names import Meaning, meaning

Groups = dict[tuple[str, str], dict[str, list[int]]]
"""Joints by (side, limb) and part."""


def meanings(skeleton: Skeleton, used: np.ndarray) -> list[Meaning]:
    """What the names of joints say; those that move nothing (`used` bool [J] is False) are helpers."""
    found = [meaning(name) for name in skeleton.names]
    return [said if moves else Meaning("helper", said.side, "") for said, moves in zip(found, used, strict=True)]


def named_limbs(skeleton: Skeleton, said: list[Meaning], kind: str) -> list[Limb]:
    """All limbs of a kind, "leg" or "arm", whose upper and lower bones are named and hang together.

    Two of them with one side and one name are told apart by nobody: none is returned then.
    """
    found = []
    for (side, _), parts in _groups(said).items():
        upper, lower = _bones(skeleton, parts, kind)
        if upper is None or lower is None:
            continue
        if len(parts[f"upper {kind}"]) > 1 and len(parts[f"lower {kind}"]) > 1:
            return []
        end = _end(skeleton, parts["foot" if kind == "leg" else "hand"], lower)
        found.append(Limb(upper, lower, end, 1 if side == "left" else -1))
    return found


def _groups(said: list[Meaning]) -> Groups:
    groups: Groups = defaultdict(lambda: defaultdict(list))
    for place, name in enumerate(said):
        if name.side and name.part != "helper":
            # "middle hand" and "index finger" are no limbs of their own.
            limb = name.limb if name.part not in ("hand", "toes") else ""
            groups[name.side, limb][name.part].append(place)
    return groups


def _bones(skeleton: Skeleton, parts: dict[str, list[int]], kind: str) -> tuple[int | None, int | None]:
    """The upper and the lower bone of a limb: "leg" alone is the lower one below an upper one, and the upper one above
    a lower one; of "leg 1" to "leg 3" they are the last two."""
    uppers, lowers, plain = parts[f"upper {kind}"], parts[f"lower {kind}"], parts[kind]
    pairs = [(upper, lower) for upper in uppers for lower in (*lowers, *plain) if below(skeleton, lower, upper)]
    pairs += [(upper, lower) for upper in plain for lower in lowers if below(skeleton, lower, upper)]
    pairs += [
        (upper, lower) for upper, lower in zip(plain[-2:], plain[-1:], strict=False) if below(skeleton, lower, upper)
    ]
    return pairs[0] if pairs else (None, None)


def _end(skeleton: Skeleton, ends: list[int], lower: int) -> int | None:
    """Hand or foot: below the lower bone, or on its own where none is."""
    under = [place for place in ends if below(skeleton, place, lower)]
    return next(iter(under or ends), None)


def below(skeleton: Skeleton, place: int, above: int) -> bool:
    """Whether a joint hangs under another."""
    return place != above and bool(descendants(skeleton, (above,))[place])


def named_trunk(said: list[Meaning]) -> dict[str, tuple[int, ...]]:
    """Joints of spine, neck, head and tail, from the root outwards."""
    names = ("spine", "neck", "head", "tail")
    return {part: tuple(p for p, name in enumerate(said) if name.part == part and not name.side) for part in names}
