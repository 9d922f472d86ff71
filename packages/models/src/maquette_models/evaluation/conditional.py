"""Whether samples are what they were asked for, by judges trained on real shapes and by their own held-out shapes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maquette import plugins
from maquette.report import Figure, Table
from maquette_models.conditioners.class_caption import words
from maquette_models.evaluation import estimates
from maquette_models.evaluation.captions import UNKNOWN
from maquette_models.evaluation.samples import Sample
from maquette_models.evaluation.training_shapes import TrainingShapes
from maquette_models.metrics.attribute_accuracy import Judgement, surfaces_of
from maquette_models.metrics.volume_iou import pairwise_iou
from maquette_models.shards import stored_fields

REAL, LOOKED_UP = "real held-out shapes", "likest training caption's shape instead"
NEEDED = {"surface", "surface_color"}  # what the judge of attributes learns from


class Judges:
    """The judges of one shard folder and its training shapes, each made when it is first asked for."""

    def __init__(self, shards: str) -> None:
        self.shards = shards
        self.training = TrainingShapes(shards)

    @cached_property
    def classes(self) -> Any:
        """Class accuracy, see `metrics.class_accuracy`."""
        return plugins.build("metrics", {"name": "class_accuracy", "shards": self.shards})

    @cached_property
    def colors(self) -> Any:
        """Colour accuracy, see `metrics.color_accuracy`."""
        return plugins.build("metrics", {"name": "color_accuracy"})

    @cached_property
    def attributes(self) -> Any | None:
        """Attribute accuracy, see `metrics.attribute_accuracy`; None where the shards lack what it learns from."""
        if not set(stored_fields(self.shards)) >= NEEDED:
            return None
        return plugins.build("metrics", {"name": "attribute_accuracy", "shards": self.shards})


@dataclass(frozen=True)
class Conditional:
    """Figures of one split, and for each attribute how often captions that name it are met."""

    figures: dict[str, Figure]
    attributes: Table | None


def conditional(
    samples: Sequence[Sample], judges: Judges, held_out: Sequence[Sample], retrieved: Sequence[Sample]
) -> Conditional:
    """Figures of samples of held-out captions, beside those of the real shapes and of shapes looked up in training.

    An empty sample counts as wrong in accuracies and as no overlap with anything.

    Args:
        samples: what was generated.
        judges: of the training shapes.
        held_out: the shapes that the captions describe, each once; none where the captions are of no shapes.
        retrieved: the shapes looked up for the same captions.
    """
    groups = {"": samples, REAL: held_out, LOOKED_UP: retrieved}
    measured = {what: _accuracies(some, judges) for what, some in groups.items() if some}
    if held_out:
        for what in ("", LOOKED_UP):
            if what in measured:
                measured[what] |= overlaps(groups[what], held_out)
    figures = {}
    for name, figure in measured[""].items():
        others = {what: own[name].value for what, own in measured.items() if what and name in own}
        figures[name] = Figure(figure.value, figure.n, {**figure.beside, **others}, figure.interval)
    return Conditional(figures, _by_attribute(samples, held_out, judges))


def _accuracies(samples: Sequence[Sample], judges: Judges) -> dict[str, Figure]:
    found: dict[str, Figure] = {"empty_share": estimates.share(sum(one.mesh is None for one in samples), len(samples))}
    known = [one for one in samples if one.asked.class_id != UNKNOWN]
    if known:
        found["class_accuracy"] = right_class(known, judges, {"chance": 1 / len({one.asked.class_id for one in known})})
    found |= right_color(samples, judges)
    if known and judges.attributes:
        found["attribute_accuracy"] = estimates.mean([_judgement(one, judges).share for one in known])
    return found


def right_class(samples: Sequence[Sample], judges: Judges, beside: dict[str, float]) -> Figure:
    """The share of samples that the classifier puts in the class that was asked for."""
    hits = sum(one.tsdf is not None and int(judges.classes.predict(one.tsdf)) == one.asked.class_id for one in samples)
    return estimates.share(hits, len(samples), beside)


def right_color(samples: Sequence[Sample], judges: Judges) -> dict[str, Figure]:
    """`color_accuracy` over the captions that name a colour; none where no caption does or no mesh has colours."""
    metric = judges.colors
    named = [one for one in samples if set(words(one.asked.caption)) & set(metric.config.palette)]
    painted = [(one.mesh, one.asked.caption) for one in named if one.mesh is not None and one.mesh.colors is not None]
    if not painted:
        return {}
    metric.reset()
    for mesh, caption in painted:
        metric.update(mesh, caption)
    return {
        "color_accuracy": estimates.share(int(metric.correct), len(named), {"chance": 1 / len(metric.config.palette)})
    }


def _judgement(sample: Sample, judges: Judges) -> Judgement:
    surfaces = None if sample.mesh is None else surfaces_of(sample.mesh)
    judgement: Judgement = judges.attributes.judgement(surfaces, sample.asked.caption, sample.asked.class_id)
    return judgement


def overlaps(samples: Sequence[Sample], held_out: Sequence[Sample]) -> dict[str, Figure]:
    """Samples beside the held-out shapes of their class: the one that the caption describes, and the others.

    `matched_iou`; `matched_above_mismatched`, the gap to the mean over the others; `retrieval` and `retrieval_of_5`:
    how often the own shape is the first, or among the first five, of its class by overlap.
    """
    place = {one.asked.id: number for number, one in enumerate(held_out)}
    label = torch.tensor([one.asked.class_id for one in held_out])
    inside = _inside(held_out)
    made = _inside(samples, cells=inside.shape[1])
    matched, gap, peers = [], [], []
    found_first: dict[int, list[float]] = {1: [], 5: []}
    for sample, own in zip(samples, made, strict=True):
        same = torch.nonzero(label == sample.asked.class_id).flatten()
        values = pairwise_iou(own[None], inside[same])[0]
        mine = same == place[sample.asked.id]
        matched.append(float(values[mine]))
        if len(same) > 1:
            others = values[~mine]
            gap.append(matched[-1] - float(others.mean()))
            peers.append(len(same))
            nearer, level = int((others > matched[-1]).sum()), int((others == matched[-1]).sum())
            for first, hits in found_first.items():  # places that shapes share are shared out; nothing finds nothing
                hits.append(float(np.clip((first - nearer) / (level + 1), 0, 1)) if own.any() else 0.0)
    found = {"matched_iou": estimates.mean(matched)}
    if gap:
        mismatched = float(np.mean(matched)) - float(np.mean(gap))
        found["matched_iou"].beside["others of its class"] = mismatched
        found["matched_above_mismatched"] = estimates.mean(gap)
        for name, first in (("retrieval", 1), ("retrieval_of_5", 5)):
            chance = float(np.mean([min(first / count, 1) for count in peers]))
            found[name] = estimates.share(sum(found_first[first]), len(peers), {"chance": chance})
    return found


def _inside(samples: Sequence[Sample], cells: int = 0) -> Tensor:
    """bool [N,R*R*R]; nothing is inside of an empty sample, whose `cells` are as many."""
    empty = torch.zeros(cells, dtype=torch.bool)
    return torch.stack([empty if one.tsdf is None else (one.tsdf < 0).flatten() for one in samples])


def _by_attribute(samples: Sequence[Sample], held_out: Sequence[Sample], judges: Judges) -> Table | None:
    if judges.attributes is None or all(one.asked.class_id == UNKNOWN for one in samples):
        return None
    met: dict[str, dict[str, list[bool]]] = defaultdict(lambda: {"": [], REAL: []})
    for what, some in (("", samples), (REAL, held_out)):
        for sample in some:
            if sample.asked.class_id != UNKNOWN:
                for name, right in _judgement(sample, judges).met.items():
                    met[name][what].append(right)
    rows = []
    for name, found in sorted(met.items()):
        if not found[""]:
            continue
        figure = estimates.share(sum(found[""]), len(found[""]))
        real = f"{np.mean(found[REAL]):.3f}" if found[REAL] else ""
        low, high = figure.interval or (0.0, 1.0)
        rows.append([name, f"{figure.value:.3f}", f"{low:.3f} to {high:.3f}", real, str(figure.n)])
    return Table("Attributes that captions name", ["attribute", "met", "95 % interval", REAL, "captions"], rows)
