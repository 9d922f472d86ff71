"""The last step of a build: groups, splits, the index, the report, and the marker that says it is complete."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from maquette_data3d import __version__
from maquette_data3d.building import report as reporting
from maquette_data3d.building.assemble import Assembler, stored_fields
from maquette_data3d.building.config import BuildConfig
from maquette_data3d.building.outcome import Outcome
from maquette_data3d.building.recipe import Recipe
from maquette_data3d.building.similarity import groups
from maquette_data3d.building.sources import Item
from maquette_data3d.building.splits import TRAIN, UNSEEN_PAIRS, VALIDATION, joined, splits, splits_of_collections
from maquette_data3d.shards.format import FORMAT, INDEX, describe
from maquette_data3d.shards.index import vocabulary, write_index


def write_all(
    config: BuildConfig,
    recipe: Recipe,
    items: Sequence[Item],
    assembler: Assembler,
    *,
    classes: Sequence[str],
    settings: str,
) -> reporting.BuildReport:
    """Writes everything but the shards, shards.json last, and removes shards that are of no use any more."""
    out = assembler.ledger.out
    outcomes = [assembler.outcomes[item.number] for item in items]
    kept = [outcome for outcome in outcomes if not outcome.reason]
    alike = groups([o.signature for o in kept], [o.content for o in kept], config.near_duplicates)
    if config.duplicates == "drop":
        outcomes = _without_copies(items, outcomes, kept)
        stays = [not outcomes[outcome.number].reason for outcome in kept]
        kept = [outcome for outcome, stay in zip(kept, stays, strict=True) if stay]
        alike = groups([o.signature for o in kept], [o.content for o in kept], config.near_duplicates)
    leaders = joined(alike, [items[outcome.number].collection for outcome in kept])
    sides = _sides(config, items, kept, leaders)
    places = _places(assembler)
    index = write_index(out / INDEX, _rows(items, kept, leaders, sides, places))
    report = reporting.report_of(out, outcomes, alike)
    reporting.write_files(out, items, outcomes)
    reporting.write_pages(report, items, outcomes)
    shards = [shard for _, shard in sorted(assembler.shards.items()) if shard]
    fields = assembler.fields or stored_fields(out / shards[0].file)
    captions = [outcome.caption for outcome, side in zip(kept, sides, strict=True) if side == TRAIN]
    about: dict[str, Any] = {
        "format": FORMAT,
        "fields": {name: field.plain() for name, field in sorted(fields.items())},
        "samples": len(kept),
        "shards": [shard.plain() for shard in shards],
        "index": index.plain(),
        "classes": list(classes),
        "vocabulary": vocabulary(captions),
        "splits": {**{TRAIN: 0, VALIDATION: 0}, **Counter(sides)},
        **recipe.facts(),
        "fingerprint": settings,
        "provenance": {"made_by": f"maquette-data3d {__version__}", "settings": config.contents()},
    }
    describe(out, about)
    named = {shard.file for shard in shards}
    for path in out.glob("shard_*.safetensors"):
        if path.name not in named:
            path.unlink()
    return report


def _without_copies(items: Sequence[Item], outcomes: Sequence[Outcome], kept: Sequence[Outcome]) -> list[Outcome]:
    first: dict[str, int] = {}
    dropped = list(outcomes)
    for outcome in kept:
        original = first.setdefault(outcome.content, outcome.number)
        if original != outcome.number:
            dropped[outcome.number] = outcome.lost("duplicate", f"the same shape as {items[original].name}")
    return dropped


def _sides(config: BuildConfig, items: Sequence[Item], kept: Sequence[Outcome], leaders: Sequence[int]) -> list[str]:
    if config.split_by != "content":
        return splits_of_collections(leaders, [items[outcome.number].collection for outcome in kept], config.held_out)
    away = {leader for leader, o in zip(leaders, kept, strict=True) if config.held_out_pairs and o.held_out}
    unseen = [leader in away for leader in leaders]
    usual = [number for number, hidden in enumerate(unseen) if not hidden]
    given = splits([kept[n] for n in usual], [leaders[n] for n in usual], config.held_out)
    sides = [UNSEEN_PAIRS] * len(kept)
    for number, side in zip(usual, given, strict=True):
        sides[number] = side
    return sides


def _places(assembler: Assembler) -> dict[int, tuple[int, int]]:
    """Shard and row of each kept source."""
    places: dict[int, tuple[int, int]] = {}
    written = [lot for lot, shard in sorted(assembler.shards.items()) if shard]
    for place, lot in enumerate(written):
        numbers = range(lot * assembler.size, min((lot + 1) * assembler.size, assembler.total))
        held = [number for number in numbers if not assembler.outcomes[number].reason]
        places.update({number: (place, row) for row, number in enumerate(held)})
    return places


def _rows(
    items: Sequence[Item],
    kept: Sequence[Outcome],
    leaders: Sequence[int],
    sides: Sequence[str],
    places: dict[int, tuple[int, int]],
) -> Iterator[dict[str, Any]]:
    first: dict[str, str] = {}
    for outcome, leader, side in zip(kept, leaders, sides, strict=True):
        item = items[outcome.number]
        original = first.setdefault(outcome.content, item.name)
        shard, row = places[outcome.number]
        quality = outcome.quality
        yield {
            "id": item.name,
            "key": outcome.key,
            "shard": shard,
            "row": row,
            "caption": outcome.caption,
            "class": outcome.class_name,
            "split": side,
            "group": items[kept[leader].number].name,
            "duplicate_of": "" if original == item.name else original,
            "tokens": outcome.tokens,
            **{name: int(quality.get(name, 0)) for name in ("faces", "vertices", "components")},
            "degenerate_area": float(quality.get("degenerate_area", 0.0)),
            "textured": bool(quality.get("textured", False)),
            "flatness": float(quality.get("flatness", 0.0)),
            "unit_m": _number(outcome.placement.get("unit_m")),
            "content": outcome.content,
            "sha256": outcome.checksum,
            "attributes": outcome.attributes,
            "lineage": _lineage(item, outcome),
            "thumbnail": base64.b64decode(outcome.thumbnail) if outcome.thumbnail else None,
            "signature": bytes.fromhex(outcome.signature),
        }


def _lineage(item: Item, outcome: Outcome) -> dict[str, Any]:
    known = {
        "source": item.name,
        "sha256": outcome.source_sha256,
        "repairs": outcome.repairs,
        "quality": outcome.quality,
        "placement": outcome.placement,
        "names": outcome.names,
        "held_out": outcome.held_out,
    }
    return {name: value for name, value in known.items() if value or name == "repairs"}


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
