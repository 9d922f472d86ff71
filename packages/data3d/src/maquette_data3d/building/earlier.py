"""What an earlier build of the same folder made: samples of sources that have not changed are taken over."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from maquette import progress
from maquette.errors import MaquetteError
from maquette_data3d.building.outcome import Outcome
from maquette_data3d.building.recipe import Recipe
from maquette_data3d.building.report import read_report
from maquette_data3d.building.sources import Item, content_hash
from maquette_data3d.shards.format import checksum
from maquette_data3d.shards.reader import ShardReader

# A file may fare better on another day; what its content says stays.
_BY_CHANCE = ("deadline", "memory", "crashed", "failed")


class EarlierBuild:
    """A finished build with the same settings, looked at by keys of content."""

    def __init__(self, folder: Path) -> None:
        self.reader = ShardReader(folder)
        self.files = list(read_report(folder).files())
        self._rows = {key: number for number, key in enumerate(self.reader.column("key"))}
        self._lost = {
            entry["key"]: entry
            for entry in self.files
            if entry["reason"] and entry["key"] and entry["reason"] not in _BY_CHANCE
        }

    def covers(self, items: Sequence[Item], contents: Sequence[str]) -> bool:
        """Whether the build is of exactly these sources, in this state."""
        now = [(i.name, i.caption, i.class_name, c) for i, c in zip(items, contents, strict=True)]
        then = [(e["file"], e["caption"], e["class"], e["sha256"]) for e in self.files]
        # A file whose child died before it was hashed has no content to compare.
        return len(now) == len(then) and all(
            a == b or (not b[3] and a[:3] == b[:3]) for a, b in zip(now, then, strict=True)
        )

    def outcome(self, item: Item, content: str, recipe: Recipe, picture: bool) -> Outcome | None:
        """What is known of a source with this content; None where it has to be made."""
        key = recipe.key(content or item.name)
        named = Outcome(item.number, caption=item.caption or "", class_name=item.class_name or "")
        if key in self._lost:
            entry = self._lost[key]
            return replace(named, source_sha256=content, key=key).lost(entry["reason"], entry["detail"])
        number = self._rows.get(key)
        if number is None:
            return None
        entry = self.reader.entry(number)
        if picture and entry.thumbnail is None:
            return None
        return replace(
            named,
            caption=item.caption or entry.caption,
            class_name=item.class_name or entry.class_name,
            source_sha256=content,
            key=key,
            checksum=entry.sha256,
            tokens=entry.tokens,
            attributes=entry.attributes,
            thumbnail=base64.b64encode(entry.thumbnail).decode() if picture and entry.thumbnail else "",
            **self._rest(number, entry.lineage),
        )

    def _rest(self, number: int, lineage: dict[str, Any]) -> dict[str, Any]:
        value = self.reader.index.value
        quality = lineage.get("quality", {})
        return {
            "content": value("content", number),
            "repairs": lineage["repairs"],
            "quality": quality,
            "placement": lineage.get("placement", {}),
            "names": lineage.get("names", {}),
            "signature": (value("signature", number) or b"").hex(),
            "held_out": bool(lineage.get("held_out", False)),
        }

    def sample(self, outcome: Outcome) -> dict[str, np.ndarray] | None:
        """The arrays of an outcome, where they are here and whole."""
        number = self._rows.get(outcome.key)
        if number is None:
            return None
        try:
            sample = self.reader.sample(number)
            return sample if checksum(sample) == outcome.checksum else None
        except MaquetteError:
            return None


def contents(items: Sequence[Item]) -> list[str]:
    """Content hashes of files, read in parallel; empty for procedural shapes and for what cannot be read."""
    with ThreadPoolExecutor(4) as threads:
        hashes = threads.map(_content, items)
        return list(progress.track(hashes, "Comparing files", len(items)))


def _content(item: Item) -> str:
    if item.path is None:
        return ""
    try:
        return content_hash(Path(item.path))
    except OSError:
        return ""
