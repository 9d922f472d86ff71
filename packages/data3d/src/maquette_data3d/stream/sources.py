"""The folders of a mixture seen as one: their classes, their fields, their facts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from maquette.errors import MaquetteError, unknown_name
from maquette_data3d.shards.reader import ShardReader
from maquette_data3d.stream.config import NAME, ShardsConfig, SourceConfig
from maquette_data3d.stream.feed import Feed
from maquette_data3d.stream.fields import Layout, layout

_SHARED = ("resolution", "color_resolution", "truncation", "voxel_resolution", "dual_resolution", "joint_roles")


class Sources:
    """Opened folders.

    Attributes:
        readers: one a source; sources of one folder share it.
        damaged: per folder, the shards that were missing or of a wrong size when it was opened.
        feeds: what each source gives to the training.
        classes: of all folders, in the order in which they first come.
        class_ids: per source, the place in `classes` of each sample of its index.
        part_names: whether the facts tell the parts' names.
    """

    def __init__(self, config: ShardsConfig) -> None:
        listed = config.listed_sources()
        self.part_names = config.part_names
        opened = {source.folder: ShardReader(source.folder, config.cache) for source in listed}
        self.folders = list(opened.values())
        self.damaged = {reader: reader.damaged() for reader in self.folders}
        self.readers = [opened[source.folder] for source in listed]
        self.feeds = [
            self._feed(config, place, source, reader)
            for place, (source, reader) in enumerate(zip(listed, self.readers, strict=True))
        ]
        self.classes = _union(reader.about.get("classes", ()) for reader in self.folders)
        self.vocabulary = _union(reader.about.get("vocabulary", ()) for reader in self.folders)
        places = {name: place for place, name in enumerate(self.classes)}
        self.class_ids = [
            np.array([places[name] for name in reader.about.get("classes", ())], np.int64)[reader.class_ids]
            for reader in self.readers
        ]

    def _feed(self, config: ShardsConfig, place: int, source: SourceConfig, reader: ShardReader) -> Feed:
        feed = Feed(
            reader,
            source.split,
            place,
            shuffle=config.order(),
            seed=config.seed,
            window=config.window,
            damaged=self.damaged[reader],
        )
        if not len(feed):
            what = "training" if source.split == "train" else f"'{source.split}'"
            raise MaquetteError(f"{NAME}: '{source.folder}' has no {what} samples")
        if config.buckets and int(feed.tokens.max()) > config.buckets[-1]:
            raise MaquetteError(
                f"{NAME}: '{source.folder}' has a sample of {feed.tokens.max()} tokens, the largest bucket holds "
                f"{config.buckets[-1]}; add a larger one"
            )
        return feed

    def layouts(self, config: ShardsConfig) -> list[Layout]:
        """How the wanted fields are read.

        Raises:
            MaquetteError: a field that a folder lacks or that folders store differently.
        """
        found = []
        for name in config.fields:
            for reader in self.folders:
                if name not in reader.fields:
                    raise unknown_name("field", name, reader.fields, where=f"in {NAME}: '{reader.folder}'")
                if reader.fields[name] != self.folders[0].fields[name]:
                    raise MaquetteError(
                        f"{NAME}: '{self.folders[0].folder}' and '{reader.folder}' store '{name}' in different ways"
                    )
            as_stored = config.dtype == "stored"
            found.append(layout(name, self.folders[0].fields[name], as_stored=as_stored, mirrored=config.mirror))
        return found

    def windows(self, config: ShardsConfig, layouts: Sequence[Layout]) -> dict[str, int]:
        """Points to read by group.

        Raises:
            MaquetteError: more than are stored.
        """
        wanted = {}
        for about in layouts:
            if about.group:
                wanted[about.group] = points = config.windows.get(about.group, config.points) or about.shape[0]
                if points > about.shape[0]:
                    raise MaquetteError(
                        f"{NAME}: points {points}, but '{self.folders[0].folder}' stores {about.shape[0]} of "
                        f"'{about.name}'"
                    )
        return wanted

    def facts(self) -> dict[str, Any]:
        """What the folders say of themselves, as plain data.

        Raises:
            MaquetteError: folders whose fields mean different things.
        """
        facts: dict[str, Any] = {"classes": self.classes, "vocabulary": self.vocabulary}
        for name in _SHARED:
            values = [reader.about[name] for reader in self.folders if name in reader.about]
            if any(value != values[0] for value in values):
                raise MaquetteError(f"{NAME}: its sources differ in {name}: {values}; build them alike")
            if values:
                facts[name] = values[0]
        if self.part_names:
            facts["part_names"] = self._part_names()
        held_out = sum(len(reader.split("validation")) for reader in self.folders)
        return {**facts, "train_samples": sum(len(feed) for feed in self.feeds), "validation_samples": held_out}

    def _part_names(self) -> list[str]:
        """Of all training samples, sorted."""
        lists = (feed.reader.entry(int(number)).part_names for feed in self.feeds for number in feed.numbers)
        return sorted(set().union(*lists))


def _union(lists: Any) -> list[str]:
    return list(dict.fromkeys(str(name) for names in lists for name in names))
