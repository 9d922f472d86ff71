"""Everything that decides what a sample looks like, as plain data that travels to other processes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any

from maquette import plugins
from maquette.blocks import instantiate
from maquette.errors import MaquetteError
from maquette_data3d.building.config import BuildConfig
from maquette_data3d.features.feature import Feature

VERSION = 2  # of what a recipe makes; raised when the same settings give other bytes
_SHARED = ("resolution", "truncation", "points", "precision")


@dataclass(frozen=True)
class Recipe:
    """Settings and features of a build.

    Attributes:
        settings: of `BuildConfig`, those that a sample depends on.
        features: blocks with every value filled in.
        plugins: loose plugin files that the features may come from.
    """

    settings: dict[str, Any]
    features: tuple[dict[str, Any], ...]
    plugins: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: BuildConfig) -> Recipe:
        """The recipe of a config.

        Raises:
            MaquetteError: an unknown feature or key, or two features that store the same array.
        """
        names = (*_SHARED, "variety", "classes", "paraphrases", "seed", "largest_faces", "external_files", "up_axis")
        settings = {name: getattr(config, name) for name in names}
        settings["filters"] = asdict(config.filters)
        blocks = tuple(_filled(block, config) for block in config.features)
        twice = [block["name"] for number, block in enumerate(blocks) if block in blocks[:number]]
        if twice:
            raise MaquetteError(f"data build: feature '{twice[0]}' is listed twice")
        return cls(json.loads(json.dumps(settings)), blocks, plugins.loose_files())

    @cached_property
    def digest(self) -> str:
        """Hash of the recipe."""
        text = json.dumps([VERSION, self.settings, self.features], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def made(self) -> tuple[Feature, ...]:
        """The features, built."""
        return tuple(plugins.build("features", dict(block)) for block in self.features)

    def ragged(self) -> tuple[str, ...]:
        """Names of the ragged arrays."""
        return tuple(name for feature in self.made for name in feature.ragged())

    def facts(self) -> dict[str, Any]:
        """What shards.json says of the arrays."""
        return {key: value for feature in self.made for key, value in feature.facts().items()}

    def key(self, content: str) -> str:
        """What a sample of this content is known by."""
        return hashlib.sha256(f"{content} {self.digest}".encode()).hexdigest()

    def small(self) -> Recipe:
        """The same features at sizes that cost nothing: for warming up."""
        return replace(self, features=tuple({**block, **_small(block)} for block in self.features))


def _filled(block: Any, config: BuildConfig) -> dict[str, Any]:
    given = {"name": block} if isinstance(block, str) else dict(block) if isinstance(block, Mapping) else {}
    if not isinstance(given.get("name"), str):
        raise MaquetteError(f"data build: feature {block!r} has no name; write [grid, surface] or [{{name: grid}}]")
    entry = plugins.lookup("features", given["name"])
    for name in (f.name for f in fields(entry.config)):
        if name in _SHARED and given.get(name) is None:
            given[name] = getattr(config, name)
    values = {key: value for key, value in given.items() if key != "name"}
    full = instantiate(entry.config, values, where=f"feature '{given['name']}'")
    return {"name": given["name"], **asdict(full)}


def _small(block: Mapping[str, Any]) -> dict[str, Any]:
    small = {"resolution": 8, "points": 16, "near": 16, "volume": 8, "size": 16, "count": 1}
    return {key: value for key, value in small.items() if key in block}
