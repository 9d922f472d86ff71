"""Which attributes of a shape a caption names, learned from captions and the attributes of their shapes."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from maquette_models.conditioners.class_caption import words

CLASS = "class"
CHANCE = 1e-7
"""A phrase counts as naming a value when captions would agree as well by chance less often than this."""
MOST_WORDS = 2

Slot = tuple[int, str]
"""A class and one of its attributes; `CLASS` and what all classes share has the class -1."""


@dataclass(frozen=True)
class Described:
    """A shape's class, captions, and attributes: name -> value, as a word."""

    class_id: int
    captions: Sequence[str]
    attributes: Mapping[str, str]


class AttributeWords:
    """Phrases of one or two words, by class, that no caption of a shape with another value has.

    Of what holds for all shapes of a phrase, the phrase names what is most often said by it: where "red" and "tall"
    were never seen together, all that is red is short, yet "red" names the colour. What a caption leaves out, such as
    "no arms", is not asked of the shape.
    """

    def __init__(self, shapes: Iterable[Described]) -> None:
        # of a class's phrase: in how many captions it is, by the value that the shapes have of each attribute
        held: dict[int, dict[str, dict[str, Counter[str]]]] = defaultdict(
            lambda: defaultdict(lambda: defaultdict(Counter))
        )
        totals: dict[Slot, Counter[str]] = defaultdict(Counter)
        for shape in shapes:
            for caption in shape.captions:
                found = phrases(caption)
                for name, value in shape.attributes.items():
                    totals[shape.class_id, name][value] += 1
                    for phrase in found:
                        held[shape.class_id][phrase][name][value] += 1
        self.named = {
            label: {phrase: best for phrase, seen in by_phrase.items() if (best := named_by(seen, totals, label))}
            for label, by_phrase in held.items()
        }

    def __call__(self, caption: str, class_id: int) -> dict[str, str]:
        """The attributes that a caption of a shape of a class names, and their values.

        Where phrases disagree, which no training caption's do, the attribute counts as not named.
        """
        found: dict[str, set[str]] = defaultdict(set)
        known = self.named.get(class_id, {})
        for phrase in phrases(caption) & known.keys():
            name, value = known[phrase]
            found[name].add(value)
        return {name: values.pop() for name, values in found.items() if len(values) == 1}


def named_by(
    seen: Mapping[str, Counter[str]], totals: Mapping[Slot, Counter[str]], class_id: int
) -> tuple[str, str] | None:
    """The attribute and value that a phrase names, or None.

    Args:
        seen: in how many captions the phrase is, by attribute and value.
        totals: in how many captions it could have been, by class, attribute and value.
    """
    best, most = None, 0.0
    for name, values in seen.items():
        value, count = values.most_common(1)[0]
        total = totals[class_id, name]
        certain = len(values) == 1 and count * math.log(total[value] / total.total()) < math.log(CHANCE)
        if certain and count / total[value] > most:
            best, most = (name, value), count / total[value]
    return best


def phrases(caption: str) -> set[str]:
    """The words of a caption and its runs of up to `MOST_WORDS` words."""
    found = words(caption)
    return {
        " ".join(found[start : start + length])
        for length in range(1, MOST_WORDS + 1)
        for start in range(len(found) - length + 1)
    }


def as_words(attributes: Mapping[str, Any]) -> dict[str, str]:
    """The attributes that are choices: texts, whole numbers and truth values, as texts."""
    return {name: str(value) for name, value in attributes.items() if isinstance(value, str | int)}
