"""Many true captions of one shape: an attribute grammar with synonyms, omissions and word orders."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maquette_data3d.procedural.grammar import Design, listed, pick, with_article

# What may stand for a noun without claiming anything more. Nouns that are not here stand for themselves.
NOUNS: dict[str, tuple[str, ...]] = {
    "lamp": ("light",),
    "mug": ("cup",),
    "car": ("automobile",),
    "creature": ("four-legged creature", "four-legged animal"),
    "pebble": ("stone",),
    "gear": ("cogwheel", "gear wheel"),
    "sofa": ("couch", "settee"),
    "shelf": ("shelving unit",),
    "airplane": ("plane", "aircraft"),
    "bowl": ("dish",),
    "wrench": ("spanner",),
    "biped": ("two-legged figure", "upright figure"),
    "bird": ("winged creature",),
}
# Exchangeable wherever the grammar puts them.
WORDS: dict[str, tuple[str, ...]] = {
    "wide": ("broad",),
    "thin": ("slender",),
    "thick": ("stout",),
    "big": ("large",),
    "small": ("little",),
    "short": ("stubby",),
    "long": ("elongated",),
    "fat": ("plump", "chubby"),
    "slim": ("lean",),
    "round": ("rounded",),
    "pointed": ("pointy",),
    "flared": ("widening",),
    "tapered": ("narrowing",),
    "narrow": ("slender",),
}
_SYNONYM, _KEEP, _ROUNDS = 0.35, 0.7, 40


@dataclass(frozen=True)
class Facts:
    """What is true of a shape, in words.

    Attributes:
        adjectives, features: as in `grammar.Design`.
        color: the body's.
        noun: the most fitting one.
        others: further nouns that are true as well.
    """

    adjectives: tuple[str, ...]
    features: tuple[str, ...]
    color: str
    noun: str
    others: tuple[str, ...] = ()


def facts_of(design: Design, color: str, class_name: str) -> Facts:
    """The facts of a design."""
    plain = (class_name,) if design.noun and design.noun != class_name else ()
    others = (*plain, *NOUNS.get(class_name, ()))
    return Facts(design.adjectives, design.features, color, design.noun or class_name, others)


def paraphrases(rng: np.random.Generator, facts: Facts, first: str, count: int) -> tuple[str, ...]:
    """Up to `count` different captions, `first` leading; fewer where the grammar finds no more of them."""
    found = dict.fromkeys((first,))
    for _ in range(_ROUNDS * count):
        if len(found) >= count:
            break
        found.setdefault(_sentence(rng, facts))
    return tuple(found)[:count]


def _reworded(rng: np.random.Generator, phrase: str) -> str:
    """Words exchanged by synonyms now and then, and articles that fit what follows them."""
    words = phrase.split()
    for place, word in enumerate(words):
        if word in WORDS and rng.random() < _SYNONYM:
            words[place] = pick(rng, *WORDS[word])
    for place, word in enumerate(words[:-1]):
        if word in ("a", "an"):
            words[place] = with_article(words[place + 1]).split()[0]
    return " ".join(words)


def _chosen(rng: np.random.Generator, phrases: tuple[str, ...]) -> tuple[str, ...]:
    kept = [phrase for phrase in phrases if rng.random() < _KEEP]
    return tuple(_reworded(rng, kept[place]) for place in rng.permutation(len(kept)))


def _sentence(rng: np.random.Generator, facts: Facts) -> str:
    adjectives, features = _chosen(rng, facts.adjectives), _chosen(rng, facts.features)
    noun = pick(rng, facts.noun, facts.noun, *facts.others)
    name = " ".join((*adjectives, facts.color, noun))
    wording = int(rng.integers(8))
    if wording == 0:
        start = f"a 3D model of {with_article(name)}"
    elif wording == 1:
        start = f"{with_article(' '.join((*adjectives, noun)))} in {facts.color}"
    elif wording == 2:
        start = name
    elif wording == 3 and adjectives:
        start = f"{with_article(f'{facts.color} {noun}')}, {listed(adjectives)}"
    elif wording == 4:
        start = f"{with_article(' '.join((*adjectives, noun)))} colored {facts.color}"
    elif wording == 5:
        start = f"this {noun} is {listed((facts.color, *adjectives))}"
        return start + (f" and has {listed(features)}" if features else "")
    else:
        start = with_article(name)
    return start + _ending(rng, features)


def _ending(rng: np.random.Generator, features: tuple[str, ...]) -> str:
    if not features:
        return ""
    joined = int(rng.integers(4))
    if joined == 0:
        return f", {', '.join(features)}"
    if joined == 1:
        return f" that has {listed(features)}"
    if joined == 2:
        return f" featuring {listed(features)}"
    return f" with {listed(features)}"
