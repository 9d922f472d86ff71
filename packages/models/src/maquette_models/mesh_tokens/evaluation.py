"""What a trained mesh transformer is worth, each figure beside what it must be read against."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree

from maquette.assets import open_pipeline
from maquette.errors import MaquetteError
from maquette.progress import track
from maquette.report import Figure
from maquette.runs import Run, load_run
from maquette.types import Asset, Mesh, Request
from maquette_models.mesh_tokens.mesh_dataset import LowPoly, MeshTokens, MeshTokensConfig
from maquette_models.mesh_tokens.next_mesh_token import NextMeshToken, NextMeshTokenConfig
from maquette_models.mesh_tokens.quantise import quantise, restore
from maquette_models.surface_points import surface_points

POINTS = 1024  # of a surface, for distances between surfaces
COARSE = 256  # of a surface, for finding the nearest training mesh
LEAST_FACES = 4


def open_meshes(run: Run, shards: str | Path | None = None) -> MeshTokens:
    """The dataset that a run was trained on, as it is without variation; or the same of another shard folder."""
    block = {key: value for key, value in run.config.data.items() if key != "name"}
    changes = {"stretch": 0.0, "turn": False, "mirror": False}
    data = MeshTokens(MeshTokensConfig(**{**block, **changes, **({"shards": str(shards)} if shards else {})}))
    data.setup("fit")
    return data


@torch.inference_mode()
def token_figures(run: Run, data: MeshTokens) -> dict[str, Figure]:
    """Perplexity and accuracy over all tokens of the held-out meshes, and tokens a face beside the nine coordinates."""
    objective, model = NextMeshToken(NextMeshTokenConfig()), run.model
    loss = right = tokens = 0.0
    count = faces = 0
    for batch in data.val_dataloader():
        target = objective.target(batch)
        logits = model(*objective.inputs(model, batch))[target["mask"]].float()
        wanted = target["tokens"][target["mask"]]
        loss += float(torch.nn.functional.cross_entropy(logits, wanted, reduction="sum"))
        right += float((logits.argmax(-1) == wanted).sum())
        tokens, count = tokens + len(wanted), count + len(batch["id"])
    if not count:
        raise MaquetteError("there are no held-out meshes to measure on; raise held_out or build more")
    levels = data.tokeniser.vocabulary.levels
    faces = sum(len(quantise(sample.mesh, levels)) for sample in data.splits["val"])
    return {
        "perplexity": Figure(math.exp(loss / tokens), count, {"any token alike": data.tokeniser.vocabulary.size}),
        "token_accuracy": Figure(right / tokens, count),
        "tokens_to_coordinates": Figure(tokens / (9 * faces), count),
    }


@dataclass(frozen=True)
class Sample:
    """What was written for a held-out mesh."""

    source: LowPoly
    asset: Asset


def write_samples(run: str | Path, sources: Sequence[LowPoly], count: int, seed: int = 0) -> list[Sample]:
    """`count` samples after the meshes in turn, by successive seeds."""
    pipeline = open_pipeline(run)
    found, rows = [], pipeline.config.rows  # type: ignore[attr-defined]
    for start in track(range(0, count, rows), "Writing meshes"):
        numbers = range(start, min(start + rows, count))
        chosen = [sources[number % len(sources)] for number in numbers]
        asked = [asked_for(pipeline, source, seed + n) for n, source in zip(numbers, chosen, strict=True)]
        found += [Sample(*pair) for pair in zip(chosen, pipeline.batch(asked), strict=True)]
    return found


def asked_for(pipeline: Any, sample: LowPoly, seed: int = 0) -> Request:
    """The request to write a mesh again, with as many faces where the run was trained on their number."""
    levels = pipeline.model.vocabulary.levels
    options = {"faces": len(quantise(sample.mesh, levels))} if pipeline.takes_face_count else {}
    return Request(seed=seed, mesh=sample.mesh, options=options)


def mesh_figures(samples: Sequence[Sample], levels: int) -> dict[str, Figure]:
    """Shares of valid and of watertight meshes.

    A mesh is valid when it came to its own end, has four faces or more, no two alike and none without area.
    """
    count = len(samples)
    valid = [is_valid(sample.asset) for sample in samples]
    closed = [is_watertight(sample.asset.mesh) for sample in samples]
    sources = [is_watertight(restore(quantise(sample.source.mesh, levels), levels)) for sample in samples]
    faces = [len(sample.asset.mesh.faces) for sample in samples]
    return {
        "valid_share": Figure(float(np.mean(valid)), count),
        "watertight_share": Figure(float(np.mean(closed)), count, {"their sources": float(np.mean(sources))}),
        "faces": Figure(
            float(np.mean(faces)), count, {"their sources": float(np.mean([len(s.source.mesh.faces) for s in samples]))}
        ),
    }


def distance_figures(samples: Sequence[Sample], training: Sequence[LowPoly]) -> dict[str, Figure]:
    """Chamfer distance of samples to their sources, beside that of other meshes to the same sources.

    The others are the sample of another source of the same class (of any, where there is none) and the training mesh
    that is nearest to the source.
    """
    own = [points(sample.asset.mesh, POINTS) for sample in samples]
    wanted = [points(sample.source.mesh, POINTS) for sample in samples]
    matched = [chamfer(a, b) for a, b in zip(own, wanted, strict=True)]
    swapped = [chamfer(own[other(samples, row)], wanted[row]) for row in range(len(samples))]
    nearest = nearest_training([sample.source for sample in samples], training)
    again = [chamfer(points(sample.source.mesh, POINTS, seed=1), b) for sample, b in zip(samples, wanted, strict=True)]
    beside = {
        "sample of another source": float(np.mean(swapped)),
        "nearest training mesh": float(np.mean(nearest)),
        "source, other points": float(np.mean(again)),
    }
    better = float(np.mean(np.array(matched) < np.array(nearest)))
    return {
        "chamfer": Figure(float(np.mean(matched)), len(samples), beside),
        "median_chamfer": Figure(
            float(np.median(matched)),
            len(samples),
            {"sample of another source": float(np.median(swapped)), "nearest training mesh": float(np.median(nearest))},
        ),
        "nearer_than_nearest_training": Figure(better, len(samples)),
    }


def other(samples: Sequence[Sample], row: int) -> int:
    """The next sample of another source of the same class; of any class where there is none."""
    after = [(row + step) % len(samples) for step in range(1, len(samples))]
    strangers = [i for i in after if samples[i].source.id != samples[row].source.id] or [row]
    alike = [i for i in strangers if samples[i].source.class_id == samples[row].source.class_id]
    return (alike or strangers)[0]


def nearest_training(sources: Sequence[LowPoly], training: Sequence[LowPoly]) -> list[float]:
    """Chamfer distance of each source to the training mesh that is nearest by fewer points."""
    coarse = [points(sample.mesh, COARSE) for sample in training]
    found: dict[str, float] = {}
    for source in track(sources, "Finding nearest training meshes"):
        if source.id not in found:
            own = points(source.mesh, COARSE)
            best = min(range(len(training)), key=lambda i: chamfer(own, coarse[i]))
            found[source.id] = chamfer(points(training[best].mesh, POINTS), points(source.mesh, POINTS))
    return [found[source.id] for source in sources]


def points(mesh: Mesh, count: int, seed: int = 0) -> np.ndarray:
    """Points [count, 3] of a surface."""
    return surface_points(mesh, count, seed)[0].numpy()


def chamfer(a: np.ndarray, b: np.ndarray) -> float:
    """Mean distance to the other surface, averaged over both directions."""
    return float(cKDTree(b).query(a)[0].mean() + cKDTree(a).query(b)[0].mean()) / 2


def is_valid(asset: Asset) -> bool:
    """Whether a mesh came to its own end and all its faces are different and have an area."""
    faces, corners = asset.mesh.faces, asset.mesh.vertices.astype(np.float64)[asset.mesh.faces]
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    first = (faces.argmin(axis=1)[:, None] + np.arange(3)) % 3
    different = len(np.unique(np.take_along_axis(faces, first, axis=1), axis=0)) == len(faces)
    whole = len(faces) >= LEAST_FACES and bool(np.isfinite(asset.mesh.vertices).all())
    return whole and different and bool((areas > 0).all()) and not asset.metadata["cut"]


def is_watertight(mesh: Mesh) -> bool:
    """Whether each edge is passed as often in one direction as in the other."""
    edges = mesh.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2).astype(np.int64)
    there, back = (edges[:, i] * len(mesh.vertices) + edges[:, 1 - i] for i in (0, 1))
    return np.array_equal(np.sort(there), np.sort(back))


def evaluate_mesh_tokens(run: str | Path, count: int = 200, seed: int = 0) -> Iterator[dict[str, Figure]]:
    """Figures of a run on the held-out meshes of its shards: of tokens, of meshes, of distances, as they are ready.

    Args:
        run: of a mesh transformer.
        count: samples, after the held-out meshes in turn.
        seed: of the first sample; the next have the next.
    """
    trained = load_run(run)
    data = open_meshes(trained)
    yield token_figures(trained, data)
    samples = write_samples(run, data.splits["val"], count, seed)
    yield mesh_figures(samples, data.tokeniser.vocabulary.levels)
    yield distance_figures(samples, data.splits["train"])


def exactly_rebuilt(run: str | Path) -> Figure:
    """The share of training meshes that the likeliest tokens give back face by face."""
    trained = load_run(run)
    data = open_meshes(trained)
    pipeline = open_pipeline(run, {"temperature": 0.0})
    levels, samples = data.tokeniser.vocabulary.levels, data.splits["train"]
    assets = pipeline.batch([asked_for(pipeline, sample) for sample in samples])
    same = [
        isinstance(asset, Asset) and np.array_equal(quantise(asset.mesh, levels), quantise(sample.mesh, levels))
        for sample, asset in zip(samples, assets, strict=True)
    ]
    return Figure(float(np.mean(same)), len(samples))
