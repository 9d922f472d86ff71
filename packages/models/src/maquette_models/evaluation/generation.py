"""What a generator is worth: the short measurement that examples make, and the whole one of `maquette eval`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maquette import plugins
from maquette.report import Figure, Table
from maquette_models.evaluation import estimates
from maquette_models.evaluation.captions import Asked, asked_of_split, repeated
from maquette_models.evaluation.conditional import REAL, Judges, conditional, right_class, right_color
from maquette_models.evaluation.distribution import distribution
from maquette_models.evaluation.mesh_quality import closed_share, mesh_quality
from maquette_models.evaluation.samples import Field, Sample, generate, kept, looked_up, real
from maquette_models.shards import read_shards

EXTRACTED = "real held-out shapes' grids, extracted"


def evaluate_generation(pipeline: Any, shards: str | Path, count: int = 80, seed: int = 0) -> dict[str, Figure]:
    """One sample for each of ``count`` held-out captions, judged by class, colour, diversity and closeness to training.

    A sample that comes out empty counts as wrong in the accuracies, and is left out of the rest.

    Args:
        pipeline: see `maquette.assets.Pipeline`.
        shards: the shard folder the generator was trained on, with its held-out split.
        count: held-out captions, taken again from the start when there are fewer.
        seed: of the first sample; the next have the next.
    """
    folder = str(shards)
    asked = repeated(asked_of_split(folder), count)
    samples = generate(pipeline, asked, seed, Field.of(folder))
    fields, labels, meshes = kept(samples)
    empty = {"empty_share": estimates.share(count - len(meshes), count)}
    if not meshes:
        return empty
    judges = Judges(folder)
    nearest = judges.training.metric
    diversity, others = (plugins.build("metrics", {"name": "diversity"}) for _ in range(2))
    diversity.update(fields, labels)
    for batch in read_shards(folder, "val"):
        others.update(batch["tsdf"], batch["class_id"])
    chance = {REAL: judges.classes.ceiling, "chance": 1 / len({one.class_id for one in asked})}
    return {
        "class_accuracy": right_class(samples, judges, chance),
        **right_color(samples, judges),
        "diversity": Figure(float(diversity.compute()), len(meshes), {REAL: float(others.compute())}),
        "nearest_training_iou": estimates.mean(nearest.nearest(fields).tolist(), {REAL: nearest.held_out}),
        **closed_share(meshes),
        **empty,
    }


@dataclass(frozen=True)
class Generated:
    """All figures of a generator by group, tables beside them, and the samples of held-out captions."""

    figures: dict[str, dict[str, Figure]] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)


def generation(pipeline: Any, judges: Judges, asked: Mapping[str, Sequence[Asked]], seed: int) -> Generated:
    """Samples of captions by split, judged one by one, all together, and as meshes.

    Args:
        pipeline: see `maquette.assets.Pipeline`.
        judges: of the folder that the generator was trained on.
        asked: captions by what they are called in the report: the name of a split, or of a file. The samples of the
            first are those whose distribution and meshes are measured.
        seed: of the first sample of each.
    """
    shards, grid = judges.shards, Field.of(judges.shards)
    found = Generated()
    held_out: list[Sample] = []
    for split, captions in asked.items():
        samples = generate(pipeline, captions, seed, grid)
        described = all(one.id for one in captions)
        shapes = real(shards, split, captions) if described else []
        measured = conditional(samples, judges, shapes, looked_up(shards, captions))
        found.figures[f"conditional: {split}"] = measured.figures
        if measured.attributes:
            title = f"{measured.attributes.title}: {split}"
            found.tables.append(Table(title, measured.attributes.columns, measured.attributes.rows))
        if not found.samples:
            found.samples.extend(samples)
            held_out = shapes or real(shards, "val", asked_of_split(shards)[: len(captions)])
    meshes = kept(found.samples)[2]
    found.figures["distribution"] = distribution(found.samples, held_out, judges.training)
    found.figures["mesh quality"] = mesh_quality(meshes, kept(held_out)[2], EXTRACTED)
    return found
