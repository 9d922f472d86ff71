"""One run measured against a shard folder: an autoencoder by its reconstructions, a generator by its samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from maquette.assets import find_generator, open_pipeline
from maquette.errors import unknown_name
from maquette.report import Figure, Table
from maquette.runs import RunFolder, load_run
from maquette.types import Mesh
from maquette_models.evaluation.captions import Asked, asked_of_file, asked_of_split, repeated
from maquette_models.evaluation.conditional import Judges
from maquette_models.evaluation.generation import generation
from maquette_models.evaluation.image_to_shape import evaluate_image_to_shape
from maquette_models.evaluation.reconstruction import reconstruction
from maquette_models.evaluation.shape_to_shape import evaluate_shape_to_shape
from maquette_models.shards import shard_facts, splits_of

SHOWN = 24


@dataclass(frozen=True)
class Settings:
    """What is measured: `limit` shapes or captions a split, the first sample from `seed`, `captions` of a file in the
    place of the shards' own; in the place of captions `images` pictures of a shape at once, or with `shapes` the shapes
    themselves; and in which `splits`, by default all that training did not see."""

    limit: int = 200
    seed: int = 0
    captions: Path | None = None
    images: int = 0
    shapes: bool = False
    splits: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """Figures by group, tables, and meshes with their captions to be shown."""

    figures: dict[str, dict[str, Figure]]
    tables: list[Table] = field(default_factory=list)
    tiles: list[tuple[Mesh | None, str]] = field(default_factory=list)


def evaluate_run(run: str | Path, judges: Judges, settings: Settings) -> Evaluation:
    """All figures that a run has.

    Args:
        run: the folder of a run; one that declares a pipeline generates, another one must reconstruct.
        judges: of a shard folder, with the split `val` and perhaps `unseen_pairs`; runs can share them.
        settings: see `Settings`.

    Raises:
        MaquetteError: no such run, it does neither, or the shards lack what is needed.
    """
    folder, shards = Path(run), judges.shards
    splits = held_out_splits(shards, settings.splits)
    if RunFolder(folder).config_file.is_file() and not RunFolder(folder).read_config().get("pipeline"):
        return _autoencoder(folder, judges, splits, settings)
    if settings.images or settings.shapes:
        return Evaluation(_by_example(folder, shards, splits, settings))
    return _generator(folder, judges, splits, settings)


def held_out_splits(shards: str, wanted: Sequence[str]) -> list[str]:
    """The splits of shards that training did not see, or those of them that are wanted.

    Raises:
        MaquetteError: one that the shards do not hold out.
    """
    known = [split for split in splits_of(shards) if split != "train"]
    for split in wanted:
        if split not in known:
            raise unknown_name("split", split, known)
    return [split for split in known if not wanted or split in wanted]


def _autoencoder(folder: Path, judges: Judges, splits: Sequence[str], settings: Settings) -> Evaluation:
    model, found = load_run(folder).model, Evaluation({})
    for split in splits:
        measured = reconstruction(model, judges.shards, judges.training, split=split, limit=settings.limit)
        found.figures[f"reconstruction: {split}"] = measured.figures
        found.tiles.extend((mesh, f"{split}: {name}") for name, mesh in measured.shown[: SHOWN // len(splits)])
    return found


def _by_example(folder: Path, shards: str, splits: Sequence[str], settings: Settings) -> dict[str, dict[str, Figure]]:
    pipeline, figures = open_pipeline(find_generator(folder)), {}
    for split in splits:
        named = {"split": split, "count": settings.limit, "seed": settings.seed}
        if settings.images:
            made = evaluate_image_to_shape(pipeline, shards, together=settings.images, **named)
            figures[f"from pictures: {split}"] = made
        if settings.shapes:
            figures[f"from shapes: {split}"] = evaluate_shape_to_shape(pipeline, shards, **named)
    return figures


def _generator(folder: Path, judges: Judges, splits: Sequence[str], settings: Settings) -> Evaluation:
    shards, asked = judges.shards, dict[str, Sequence[Asked]]()
    if settings.captions:
        asked[settings.captions.name] = asked_of_file(settings.captions, shard_facts(shards)["classes"])[
            : settings.limit
        ]
    else:
        asked = {split: repeated(asked_of_split(shards, split), settings.limit) for split in splits}
    measured = generation(open_pipeline(folder), judges, asked, settings.seed)
    tiles = [(one.mesh, one.asked.caption) for one in measured.samples[:SHOWN]]
    return Evaluation(measured.figures, measured.tables, tiles)
