"""Whether what is made from pictures of an object is that object: overlap with it, beside others of its class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maquette.errors import MaquetteError
from maquette.progress import track
from maquette.report import Figure
from maquette.types import Request
from maquette_models.shards import READER, read_shards

RESAMPLES = 2000  # of the bootstrap


@dataclass(frozen=True)
class HeldOut:
    """Shapes that training did not see: id, inside bool [N,R,R,R], class_id int64 [N], pictures uint8 [N,V,S,S,4]."""

    id: list[str]
    inside: Tensor
    class_id: Tensor
    pictures: NDArray[np.uint8]


@dataclass(frozen=True)
class Comparison:
    """One sample beside the held-out shapes of its class.

    Attributes:
        shape: the number of the shape whose pictures were given.
        own: IoU with that shape.
        others: mean IoU with the others of its class.
        rank: how many of the others overlap more.
        count: how many others there are.
    """

    shape: int
    own: float
    others: float
    rank: int
    count: int


def evaluate_image_to_shape(
    pipeline: Any,
    shards: str | Path,
    *,
    count: int = 200,
    views: int = 2,
    together: int = 1,
    split: str = "val",
    seed: int = 0,
    reader: str = READER,
) -> dict[str, Figure]:
    """Samples from pictures of held-out shapes, each compared with its own shape and the others of its class.

    Intervals are of 95 %, by a bootstrap over shapes, so that several samples of a shape do not count as independent.

    Args:
        pipeline: one with `batch_with_fields`, of a run that reads pictures.
        shards: a folder with `view_rgb` and `tsdf`.
        count: at most so many shapes, the classes in turn.
        views: so many of a shape's pictures, each a sample of its own.
        together: pictures given at once: the next ones beside the first.
        split: "val", or another that training did not see.
        seed: of the first sample; the next have the next.
        reader: the dataset that reads the shards.

    Returns:
        `matched_iou`, `matched_above_mismatched` (the gap to the others of the class), `retrieval` (share of the
        samples that overlap their own shape most, beside chance) and `empty_share`.
    """
    held_out = read_held_out(str(shards), split, reader)
    chosen = in_turn(held_out.class_id.tolist())[:count]
    stored = held_out.pictures.shape[1]
    asked = [(shape, view) for view in range(min(views, stored)) for shape in chosen]
    requests = [
        Request(seed=seed + i, images=tuple(held_out.pictures[shape, [(view + k) % stored for k in range(together)]]))
        for i, (shape, view) in enumerate(asked)
    ]
    return figures(sampled(pipeline, held_out, [shape for shape, _ in asked], requests))


def sampled(pipeline: Any, held_out: HeldOut, shapes: Sequence[int], requests: Sequence[Request]) -> list[Comparison]:
    """A sample of each request, compared with the shape that was asked for.

    Raises:
        MaquetteError: the run cannot use what the requests hold.
    """
    found: list[Comparison] = []
    size = pipeline.config.max_batch
    for start in track(range(0, len(requests), size), "Generating held-out shapes"):
        part = slice(start, start + size)
        answers = pipeline.batch_with_fields(requests[part])
        for (asset, tsdf), shape in zip(answers, shapes[part], strict=True):
            if isinstance(asset, MaquetteError) and not len(tsdf):
                raise asset
            found.append(compare(tsdf[0, 0] < 0, shape, held_out))
    return found


def read_held_out(shards: str, split: str, reader: str = READER, pictures: bool = True) -> HeldOut:
    """The shapes of a split, without pictures where those are not asked for.

    Raises:
        MaquetteError: there are none.
    """
    ids, inside, labels, shown = [], [], [], []
    for batch in read_shards(shards, split, reader, ["tsdf", *(["view_rgb"] if pictures else [])]):
        ids += batch["id"]
        inside.append(batch["tsdf"][:, 0] < 0)
        labels.append(batch["class_id"])
        views = batch["view_rgb"] if pictures else torch.empty(len(batch["id"]), 0, 4, 0, 0)
        shown.append((views * 255).round().to(torch.uint8).movedim(2, -1).numpy())
    if not ids:
        raise MaquetteError(f"'{shards}' has no shapes in the split '{split}'")
    return HeldOut(ids, torch.cat(inside), torch.cat(labels), np.concatenate(shown))


def in_turn(labels: Sequence[int]) -> list[int]:
    """Numbers of samples, the classes in turn, so that any beginning is balanced."""
    seen: dict[int, int] = {}
    places = []
    for number, label in enumerate(labels):
        seen[label] = seen.get(label, -1) + 1
        places.append((seen[label], label, number))
    return [number for _, _, number in sorted(places)]


def compare(inside: Tensor, shape: int, held_out: HeldOut) -> Comparison:
    """A sample, bool [R,R,R], beside its own shape and the others of its class."""
    peers = torch.nonzero(held_out.class_id == held_out.class_id[shape]).flatten()
    occupied = held_out.inside[peers]
    overlap = (occupied & inside).flatten(1).sum(dim=1)
    union = (occupied | inside).flatten(1).sum(dim=1).clamp(min=1)
    iou = overlap / union
    own, others = iou[peers == shape], iou[peers != shape]
    mean = float(others.mean()) if len(others) else float("nan")
    return Comparison(shape, float(own), mean, int((others > own).sum()), len(others))


def figures(found: Sequence[Comparison]) -> dict[str, Figure]:
    """Means over samples, with intervals; shapes that are alone in their class count for the overlap alone."""
    shapes = np.array([one.shape for one in found])
    own, others = np.array([one.own for one in found]), np.array([one.others for one in found])
    compared = np.isfinite(others)
    gap, first = (own - others)[compared], np.array([one.rank == 0 and one.own > 0 for one in found])[compared]
    chance = float(np.mean([1 / (one.count + 1) for one in found]))
    return {
        "matched_iou": grouped_mean(own, shapes, {"others of its class": float(others[compared].mean())}),
        "matched_above_mismatched": grouped_mean(gap, shapes[compared], {}),
        "retrieval": grouped_mean(first, shapes[compared], {"chance": chance}),
        "empty_share": Figure(float((own == 0).mean()), len(own)),
    }


def grouped_mean(values: NDArray[Any], groups: NDArray[Any], beside: dict[str, float]) -> Figure:
    """A mean with the percentile interval of a bootstrap over groups of values, the same for the same values."""
    names, number = np.unique(groups, return_inverse=True)
    sums, counts = np.bincount(number, weights=values.astype(np.float64)), np.bincount(number)
    drawn = np.random.default_rng(0).integers(len(names), size=(RESAMPLES, len(names)))
    low, high = np.quantile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), [0.025, 0.975])
    return Figure(float(values.mean()), len(values), beside, (float(low), float(high)))
