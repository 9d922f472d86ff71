"""What a trained autoencoder and generator are worth, each figure beside what it must be read against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maquette import plugins
from maquette.errors import MaquetteError
from maquette.progress import track
from maquette.report import Figure
from maquette.runs import load_run
from maquette.types import Asset, Mesh, Request
from maquette_models.conditioners.class_caption import words
from maquette_models.metrics.surface_points import surface_points
from maquette_models.shards import read_shards

POINTS = 4096


def evaluate_reconstruction(autoencoder: str | Path, shards: str | Path, limit: int = 200) -> dict[str, Figure]:
    """Held-out shapes through the autoencoder and back: volume IoU on the grid, the rest between surfaces.

    Args:
        autoencoder: the run of an architecture with ``encode`` and ``decode``.
        shards: a shard folder with a held-out split.
        limit: at most so many shapes.
    """
    model = load_run(autoencoder).model
    blocks: dict[str, dict[str, Any]] = {
        "iou": {"name": "volume_iou"},
        "f_score@.01": {"name": "f_score", "tau": 0.01},
        "f_score@.02": {"name": "f_score", "tau": 0.02},
        "chamfer": {"name": "chamfer"},
        "normal_consistency": {"name": "normal_consistency"},
    }
    metrics = {key: plugins.build("metrics", block) for key, block in blocks.items()}
    decoder = plugins.build("decoders", {"name": "marching_cubes", "min_component": 0.0})
    nearest = plugins.build("metrics", {"name": "nearest_training", "shards": str(shards)})
    count = empty = 0
    for batch in track(_held_out(shards, limit), "Measuring reconstructions"):
        with torch.inference_mode():
            predicted = model.decode(model.encode(batch["tsdf"], batch["color"]))[0].float()
        metrics["iou"].update(predicted, batch["tsdf"])
        nearest.update(batch["tsdf"])
        for tsdf, points, normals in zip(predicted, batch["surface"], batch["normals"], strict=True):
            count += 1
            try:
                found = surface_points(decoder(tsdf[0]), POINTS)
            except MaquetteError:  # nothing left of the shape: it counts as such, not as absent
                empty += 1
                continue
            own, own_normals = (value[None] for value in found)
            target, target_normals = points[None, :POINTS], normals[None, :POINTS]
            for key in ("f_score@.01", "f_score@.02", "chamfer"):
                metrics[key].update(own, target)
            metrics["normal_consistency"].update(own, own_normals, target, target_normals)
    figures = {key: Figure(float(metric.compute()), count - empty) for key, metric in metrics.items()}
    beside = {"nearest training shape instead": float(nearest.compute())}
    figures["iou"] = Figure(figures["iou"].value, count, beside)
    figures["lost_shapes"] = Figure(float(empty), count)
    return figures


@dataclass(frozen=True)
class Generated:
    """A mesh, the field it was extracted from, float32 [1, 1, R, R, R], and what was asked for."""

    mesh: Mesh
    tsdf: Tensor
    caption: str
    class_id: int


def evaluate_generation(pipeline: Any, shards: str | Path, count: int = 80, seed: int = 0) -> dict[str, Figure]:
    """One sample for each of ``count`` held-out captions, judged by class, colour, diversity and closeness to training.

    A sample that comes out empty counts as wrong in the accuracies, and is left out of the rest.

    Args:
        pipeline: a ``text_to_3d`` pipeline.
        shards: the shard folder the generator was trained on, with its held-out split.
        count: held-out captions, taken again from the start when there are fewer.
        seed: of the first sample; the next have the next.
    """
    rows = held_out_captions(shards)
    rows = [rows[i % len(rows)] for i in range(count)]
    generated = list(_generate(pipeline, rows, seed))
    figures = {"empty_share": Figure(1 - len(generated) / count, count)}
    if not generated:
        return figures
    labels = torch.tensor([one.class_id for one in generated])
    fields = torch.cat([one.tsdf for one in generated])
    accuracy = plugins.build("metrics", {"name": "class_accuracy", "shards": str(shards)})
    accuracy.update(fields, labels)
    nearest = plugins.build("metrics", {"name": "nearest_training", "shards": str(shards)})
    nearest.update(fields)
    diversity, real = (plugins.build("metrics", {"name": "diversity"}) for _ in range(2))
    diversity.update(fields, labels)
    for batch in read_shards(str(shards), "val"):
        real.update(batch["tsdf"], batch["class_id"])
    classes = len({class_id for _, class_id in rows})
    return {
        "class_accuracy": Figure(
            int(accuracy.correct) / count,
            count,
            {"real held-out shapes": accuracy.ceiling, "chance": 1 / classes},
        ),
        **_color_figure(generated, rows),
        "diversity": Figure(
            float(diversity.compute()), len(generated), {"real held-out shapes": float(real.compute())}
        ),
        "nearest_training_iou": Figure(
            float(nearest.compute()), len(generated), {"real held-out shapes": nearest.held_out}
        ),
        **_mesh_figures([one.mesh for one in generated]),
        **figures,
    }


def held_out_captions(shards: str | Path) -> list[tuple[str, int]]:
    """Caption and class id of every held-out shape, the classes in turn, so that any beginning is balanced."""
    by_class: dict[int, list[str]] = {}
    for batch in read_shards(str(shards), "val"):
        for caption, class_id in zip(batch["caption"], batch["class_id"].tolist(), strict=True):
            by_class.setdefault(class_id, []).append(caption)
    longest = max((len(captions) for captions in by_class.values()), default=0)
    if not longest:
        raise MaquetteError(f"'{shards}' has no held-out shapes to take captions from; raise held_out or build more")
    turns = range(longest)
    return [(by_class[c][turn], c) for turn in turns for c in sorted(by_class) if turn < len(by_class[c])]


def _generate(pipeline: Any, rows: Sequence[tuple[str, int]], seed: int) -> Iterator[Generated]:
    """What does not come out empty."""
    size = pipeline.config.max_batch
    for start in track(range(0, len(rows), size), "Generating for the figures"):
        part = rows[start : start + size]
        requests = [Request(caption, seed + start + i) for i, (caption, _) in enumerate(part)]
        for (asset, tsdf), (caption, class_id) in zip(pipeline.batch_with_fields(requests), part, strict=True):
            if isinstance(asset, Asset):
                yield Generated(asset.mesh, tsdf, caption, class_id)


def _color_figure(generated: Sequence[Generated], rows: Sequence[tuple[str, int]]) -> dict[str, Figure]:
    metric = plugins.build("metrics", {"name": "color_accuracy"})
    for one in generated:
        metric.update(one.mesh, one.caption)
    colors = metric.config.palette
    asked = sum(any(word in colors for word in words(caption)) for caption, _ in rows)
    return {"color_accuracy": Figure(int(metric.correct) / asked, asked, {"chance": 1 / len(colors)})} if asked else {}


def _mesh_figures(meshes: Sequence[Mesh]) -> dict[str, Figure]:
    closed = [is_closed(mesh) for mesh in meshes]
    inside = [bool(np.abs(mesh.vertices).max() <= 0.5) for mesh in meshes]
    return {
        "watertight_share": Figure(float(np.mean(closed)), len(meshes)),
        "within_unit_box_share": Figure(float(np.mean(inside)), len(meshes)),
    }


def is_closed(mesh: Mesh) -> bool:
    """Whether every edge belongs to exactly two faces that run along it in opposite directions."""
    edges = mesh.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2).astype(np.int64)
    key = edges[:, 0] * len(mesh.vertices) + edges[:, 1]
    back = edges[:, 1] * len(mesh.vertices) + edges[:, 0]
    return len(np.unique(key)) == len(key) and np.array_equal(np.sort(key), np.sort(back))


def _held_out(shards: str | Path, limit: int) -> Iterator[dict[str, Any]]:
    fields = ["tsdf", "color", "surface", "normals"]
    left = limit
    for batch in read_shards(str(shards), "val", fields=fields):
        size = min(left, len(batch["tsdf"]))
        if size <= 0:
            return
        yield {key: value[:size] for key, value in batch.items()}
        left -= size
