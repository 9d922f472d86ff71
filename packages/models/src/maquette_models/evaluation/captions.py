"""What a generator is asked for: the captions of held-out shapes, or those of a file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from maquette.errors import MaquetteError
from maquette_models.conditioners.class_caption import words
from maquette_models.shards import read_shards

UNKNOWN = -1


@dataclass(frozen=True)
class Asked:
    """A caption, the class that it is of (-1 where that is not known), and the id of the held-out shape that it
    describes (empty where there is none)."""

    caption: str
    class_id: int
    id: str = ""


def asked_of_split(shards: str | Path, split: str = "val") -> list[Asked]:
    """The captions of all shapes of a split, the classes in turn, so that any beginning is balanced.

    Raises:
        MaquetteError: the split is empty.
    """
    by_class: dict[int, list[Asked]] = {}
    for batch in read_shards(str(shards), split):
        for caption, class_id, name in zip(batch["caption"], batch["class_id"].tolist(), batch["id"], strict=True):
            by_class.setdefault(class_id, []).append(Asked(caption, class_id, name))
    longest = max(map(len, by_class.values()), default=0)
    if not longest:
        raise MaquetteError(f"'{shards}' has no {SAID[split]} to take captions from; raise held_out or build more")
    turns = range(longest)
    return [by_class[c][turn] for turn in turns for c in sorted(by_class) if turn < len(by_class[c])]


SAID = {"train": "training shapes", "val": "held-out shapes", "unseen_pairs": "shapes of unseen pairs"}


def held_out_captions(shards: str | Path) -> list[tuple[str, int]]:
    """Caption and class id of every held-out shape, the classes in turn, so that any beginning is balanced."""
    return [(asked.caption, asked.class_id) for asked in asked_of_split(shards)]


def asked_of_file(path: Path, classes: Sequence[str]) -> list[Asked]:
    """The captions of a file, one a line; their class is the first one that they name.

    Raises:
        MaquetteError: the file cannot be read or holds no captions.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise MaquetteError(
            f"captions '{path}' cannot be read ({error}); give a text file, one caption a line"
        ) from None
    found = [Asked(line, _class_named(line, classes)) for line in lines if line]
    if not found:
        raise MaquetteError(f"captions '{path}' is empty; write one caption a line")
    return found


def _class_named(caption: str, classes: Sequence[str]) -> int:
    named = words(caption)
    places = {number: named.index(name) for number, name in enumerate(classes) if name in named}
    return min(places, key=places.__getitem__) if places else UNKNOWN


def repeated(asked: Sequence[Asked], count: int) -> list[Asked]:
    """The first `count`, taken again from the start where there are fewer."""
    return [asked[number % len(asked)] for number in range(count)]


def likest(asked: Iterable[Asked], captions: Sequence[str]) -> list[int]:
    """For each caption asked for the place of the one that shares most words with it (Jaccard), the first of equals."""
    bags = [set(words(caption)) for caption in captions]
    found = []
    for one in asked:
        own = set(words(one.caption))
        found.append(max(range(len(bags)), key=lambda n: (len(own & bags[n]) / max(len(own | bags[n]), 1), -n)))
    return found
