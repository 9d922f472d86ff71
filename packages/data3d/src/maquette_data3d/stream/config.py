"""The settings of the dataset `shards`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from omegaconf import MISSING

from maquette.blocks import instantiate
from maquette.errors import MaquetteError, unknown_name
from maquette_data3d.stream.bucketing import fitted_edges
from maquette_data3d.stream.fields import POINT_GROUPS
from maquette_data3d.stream.order import SHUFFLES
from maquette_data3d.stream.plan import Buckets

NAME = "dataset 'shards'"


@dataclass
class SourceConfig:
    """One of the folders that a mixture takes from."""

    folder: str = MISSING
    weight: float = 1.0
    """Share of the samples, beside the other weights."""
    split: str = "train"


@dataclass
class ShardsConfig:
    """`folder` is one that `maquette data build` wrote, or the URL of one."""

    folder: str = ""
    batch_size: int = 16
    """Samples a batch over all processes together."""
    fields: list[str] = field(default_factory=lambda: ["tsdf", "color"])
    """Which arrays to read, of those that the shards store."""
    points: int = 2048
    """Points a sample of each group (surface, sharp, near, volume): a random window of an order that is random; 0 is
    all that are stored."""
    shuffle: bool | str = "full"
    """full; window for remote shards, with few of them at hand; none."""
    mirror: bool = False
    """Flips half of the training samples along x."""
    paraphrases: bool = False
    """Draws among a sample's captions anew each time, where the build stored more than one."""
    attributes: bool = False
    """Batches hold `attributes` too: what is known of each object, a mapping a sample."""
    part_names: bool = False
    """Batches hold `part_names` too: what `surface_part` counts in, a list a sample; facts hold all of them."""
    verify: bool = False
    """Compares each sample with its checksum when it is first read."""
    seed: int = 0
    """Of the order of the epochs and of the augmentation."""
    sources: list[SourceConfig] = field(default_factory=list)
    """A mixture in the stead of `folder`."""
    windows: dict[str, int] = field(default_factory=dict)
    """Points of single groups, e.g. {near: 8192}, where they differ from `points`."""
    window: int = 0
    """Of shuffle=window: samples that one is moved by at most; 0 is 20 shards' worth."""
    buckets: list[int] = field(default_factory=list)
    """Rising numbers of tokens: a batch then holds samples of one bucket, and batch_size is not used."""
    bucket_waste: float = 0.0
    """In the stead of `buckets`: edges are chosen from the index, as few as keep padding under this share, e.g. .05."""
    tokens_per_batch: int = 32768
    divisible_by: int = 8
    """Batch sizes of buckets are multiples of it, so that processes share evenly."""
    curriculum: dict[str, Any] = field(default_factory=dict)
    """A block such as {name: steps, stages: [{after: 0, points: 1024}]}."""
    ragged: str = "padded"
    """padded, with a mask; or packed: values and offsets."""
    dtype: str = "float32"
    """float32; or stored."""
    prefetch: int = 2
    """Batches that threads load ahead."""
    damage_budget: float = 0.01
    """Share of the training samples that may be unreadable; others stand in for them."""
    cache: str | None = None
    """Folder for the files of remote shards."""

    @staticmethod
    def finetuned(own: dict[str, Any], given: dict[str, Any], out: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """See `maquette.finetuning`: other shards, built in `out` where `given` names their `source`."""
        from maquette_data3d.building.build import build_shards
        from maquette_data3d.building.config import BuildConfig
        from maquette_data3d.shards.reader import ShardReader

        source, settings = given.pop("source", None), given.pop("build", {})
        block = {**own, **given}
        if source is not None:
            build_shards(instantiate(BuildConfig, {**settings, "source": source, "out": out}, where="data.build"))
            block["folder"] = out
        return block, dict(ShardReader(block["folder"]).about) if block.get("folder") else {}

    def listed_sources(self) -> list[SourceConfig]:
        """The mixture; of one source where `folder` is given."""
        return list(self.sources) or [SourceConfig(self.folder)]

    def order(self) -> str:
        """`shuffle` by its name."""
        named = "full" if self.shuffle else "none"
        return named if isinstance(self.shuffle, bool) else self.shuffle

    def sizes(self) -> int | Buckets:
        """Samples a batch, or the buckets."""
        if not self.buckets:
            return self.batch_size
        return Buckets.even(self.buckets, self.tokens_per_batch, self.divisible_by)

    def fitted(self, tokens: np.ndarray) -> ShardsConfig:
        """These settings, with `buckets` chosen for samples of these sizes where `bucket_waste` asks for it."""
        if not self.bucket_waste:
            return self
        return replace(self, buckets=fitted_edges(tokens, self.bucket_waste))

    def check(self) -> None:
        """Refuses what can be seen to be wrong without opening a folder.

        Raises:
            MaquetteError: the first such setting.
        """
        if bool(self.folder) == bool(self.sources):
            raise MaquetteError(f"{NAME}: give either 'folder' or 'sources'")
        if self.batch_size < 1 or self.points < 0 or min(self.windows.values(), default=1) < 1:
            raise MaquetteError(f"{NAME}: batch_size and windows must be at least 1, points not negative")
        if self.prefetch < 0 or self.window < 0 or not 0 <= self.damage_budget <= 1:
            raise MaquetteError(f"{NAME}: prefetch and window must not be negative, damage_budget be 0 to 1")
        if not 0 <= self.bucket_waste < 1 or (self.buckets and self.bucket_waste):
            raise MaquetteError(f"{NAME}: bucket_waste must be a share below 1, and takes the place of 'buckets'")
        choices = (
            ("shuffle", self.order(), SHUFFLES),
            ("ragged", self.ragged, ("padded", "packed")),
            ("dtype", self.dtype, ("float32", "stored")),
            *(("point group", group, POINT_GROUPS) for group in self.windows),
        )
        for what, given, known in choices:
            if given not in known:
                raise unknown_name(what, given, known, where=f"in {NAME}")
