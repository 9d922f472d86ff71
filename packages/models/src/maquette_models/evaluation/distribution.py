"""Whether generated shapes are spread like real ones, by distances between clouds of points and by overlap.

Coverage and minimum matching distance after Achlioptas et al. 2018 (arXiv:1707.02392), 1-nearest-neighbour accuracy
after Lopez-Paz and Oquab 2017 (arXiv:1610.06545) as Yang et al. 2019 (arXiv:1906.12320) use it for shapes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from maquette import plugins
from maquette.progress import track
from maquette.report import Figure
from maquette.types import Mesh
from maquette_kernels.ops import nearest_neighbours
from maquette_models.evaluation import estimates
from maquette_models.evaluation.samples import Sample, kept
from maquette_models.evaluation.training_shapes import TrainingShapes
from maquette_models.surface_points import surface_points

POINTS = 512
TRAINING, REAL = "training shapes instead", "real held-out shapes"


def distribution(samples: Sequence[Sample], held_out: Sequence[Sample], training: TrainingShapes) -> dict[str, Figure]:
    """Figures of the samples that did not come out empty; none where nothing is left.

    `coverage`, `minimum_matching_distance` and `nearest_neighbour_accuracy` are between equally many samples and
    held-out shapes, by chamfer distance over `POINTS` points; beside them, equally many training shapes in the place of
    samples. `diversity` is 1 - IoU within classes; `nearest_training_iou` the highest with any training shape.
    """
    fields, labels, meshes = kept(samples)
    if not meshes:
        return {}
    figures = clouds_figures(_clouds(meshes), _clouds(kept(held_out)[2]), training.clouds(POINTS))
    diversity, real = (plugins.build("metrics", {"name": "diversity"}) for _ in range(2))
    diversity.update(fields, labels)
    real.update(*kept(held_out)[:2])
    if not torch.isnan(diversity.compute()):
        figures["diversity"] = Figure(float(diversity.compute()), len(meshes), {REAL: float(real.compute())})
    overlap = torch.cat([training.metric.nearest(part) for part in fields.split(16)])
    beside = {REAL: training.metric.held_out}
    return {**figures, "nearest_training_iou": estimates.mean(overlap.tolist(), beside)}


def _clouds(meshes: Sequence[Mesh]) -> Tensor:
    return torch.stack([surface_points(mesh, POINTS)[0] for mesh in meshes])


def clouds_figures(made: Tensor, held_out: Tensor, training: Tensor) -> dict[str, Figure]:
    """Coverage, minimum matching distance and 1-nearest-neighbour accuracy of clouds [N,P,3], [M,P,3], [K,P,3]."""
    size = min(len(made), len(held_out))
    held_out = spread_out(held_out, size)
    within = chamfer_matrix(held_out, held_out)
    own = _compared(spread_out(made, size), held_out, within)
    other = _compared(spread_out(training, size), held_out, within) if len(training) >= size else {}
    for name, figure in own.items():
        if name in other:
            figure.beside[TRAINING] = other[name].value
    own["nearest_neighbour_accuracy"].beside["where the two cannot be told apart"] = 0.5
    return own


def _compared(made: Tensor, held_out: Tensor, within: Tensor) -> dict[str, Figure]:
    across, among = chamfer_matrix(made, held_out), chamfer_matrix(made, made)
    size = len(made)
    matched = across.argmin(dim=1).unique()
    whole = torch.cat([torch.cat([among, across], dim=1), torch.cat([across.T, within], dim=1)])
    whole.fill_diagonal_(torch.inf)
    alike = (whole.argmin(dim=1) < size) == (torch.arange(2 * size) < size)
    return {
        "coverage": estimates.share(len(matched), size),
        "minimum_matching_distance": estimates.mean(across.amin(dim=0).tolist()),
        "nearest_neighbour_accuracy": estimates.share(int(alike.sum()), 2 * size),
    }


def spread_out(clouds: Tensor, size: int) -> Tensor:
    """`size` of the clouds, evenly from all."""
    return clouds[(torch.arange(size) * len(clouds)) // size]


def chamfer_matrix(a: Tensor, b: Tensor) -> Tensor:
    """The mean of the two mean distances between clouds [N,P,3] and [M,P,3]: float32 [N,M]."""
    return (_one_way(a, b) + (_one_way(a, b) if a is b else _one_way(b, a)).T) / 2


def _one_way(a: Tensor, b: Tensor) -> Tensor:
    """Mean distance [N,M] from the points of each cloud of `a` to each of `b`."""
    queries = a.flatten(0, 1)
    columns = []
    for cloud in track(b, "Comparing clouds of points"):
        squared, _ = nearest_neighbours(queries, cloud)
        columns.append(squared.sqrt().view(len(a), -1).mean(dim=1))
    return torch.stack(columns, dim=1)
