"""Whether an adapter has taught a new class, and what the old ones cost: class accuracy of samples, before and after.

The judge is a classifier of real shapes of the old classes and the new one alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from maquette import plugins
from maquette.errors import MaquetteError, unknown_name
from maquette.progress import track
from maquette.types import Request
from maquette_models.shards import read_shards, shard_facts

MOST_AT_ONCE = 16


@dataclass(frozen=True)
class Asked:
    """Captions of one class, and its id for the judge."""

    class_id: int
    captions: Sequence[str]


@dataclass(frozen=True)
class Tally:
    """How many of `count` samples the judge puts into the class that was asked for."""

    correct: int
    count: int


def learned_and_kept(
    pipeline: Any, adapters: Sequence[str], shards: str, new: str, *, count: int, seed: int = 0
) -> dict[str, Any]:
    """Tallies of samples of the new class and of the old ones, without and with adapters, and the judge's ceiling.

    Args:
        pipeline: of the base run, a `text_to_3d` that takes adapters; it has none afterwards.
        adapters: "FILE" or "FILE:scale".
        shards: real shapes of all classes, none of them shapes that were finetuned on.
        new: the name of the new class.
        count: samples of the new class, and as many of the old ones together.
        seed: of the first sample of each kind.

    Returns:
        before and after: {"new": Tally, "old": Tally}; "ceiling": the judge's accuracy on held-out real shapes.
    """
    judge = plugins.build("metrics", {"name": "class_accuracy", "shards": shards})
    asked = captions_by_class(shards)
    if new not in asked:
        raise unknown_name("class", new, asked, where=f"in '{shards}'")
    old = [one for name, one in asked.items() if name != new]
    wanted = {"new": take_turns([asked[new]], count), "old": take_turns(old, count)}
    found: dict[str, Any] = {"ceiling": judge.ceiling}
    for state, references in (("before", ()), ("after", adapters)):
        pipeline.use_adapters(references)
        found[state] = {kind: tally(pipeline, judge, rows, seed) for kind, rows in wanted.items()}
    pipeline.use_adapters(())
    return found


def captions_by_class(shards: str) -> dict[str, Asked]:
    """Held-out captions first, those of the training split behind them, by the name of the class."""
    found: dict[int, list[str]] = {}
    for split in ("val", "train"):
        for batch in read_shards(shards, split, fields=["tsdf"]):
            for caption, class_id in zip(batch["caption"], batch["class_id"].tolist(), strict=True):
                found.setdefault(class_id, []).append(caption)
    names = shard_facts(shards)["classes"]
    return {names[class_id]: Asked(class_id, captions) for class_id, captions in sorted(found.items())}


def take_turns(asked: Sequence[Asked], count: int) -> list[tuple[str, int]]:
    """`count` captions with their class ids, the classes in turn; captions come again where there are too few."""
    turns = ((number // len(asked), asked[number % len(asked)]) for number in range(count))
    return [(one.captions[turn % len(one.captions)], one.class_id) for turn, one in turns]


def tally(pipeline: Any, judge: Any, rows: Sequence[tuple[str, int]], seed: int) -> Tally:
    """Sample every caption once; what comes out empty is wrong."""
    correct = 0
    for start in track(range(0, len(rows), MOST_AT_ONCE), "Sampling"):
        part = rows[start : start + MOST_AT_ONCE]
        requests = [Request(caption, seed + start + place) for place, (caption, _) in enumerate(part)]
        for (asset, tsdf), (_, class_id) in zip(pipeline.batch_with_fields(requests), part, strict=True):
            if not isinstance(asset, MaquetteError):
                correct += int(judge.predict(tsdf)[0] == class_id)
    return Tally(correct, len(rows))


def lost(found: Mapping[str, Any]) -> float:
    """By how much the accuracy of the old classes has fallen."""
    before, after = found["before"]["old"], found["after"]["old"]
    return before.correct / before.count - after.correct / after.count
