"""Whether generated shapes have the attributes that their captions name: class, colour, size, legs, handle, ..."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from omegaconf import MISSING
from torch import Tensor
from torchmetrics import Metric

from maquette.errors import MaquetteError
from maquette.types import Mesh
from maquette_models.metrics.attribute_judge import POINTS, Surfaces, train_judge
from maquette_models.metrics.attribute_words import CLASS, AttributeWords, Described, Slot, as_words
from maquette_models.shards import READER, read_shards, shard_facts
from maquette_models.surface_points import colored_points

FIELDS = ("surface", "surface_color")


@dataclass
class AttributeAccuracyConfig:
    """The judge learns from the training split of the `shards` folder and from half of its unseen pairs, in `steps`
    batches. Of an attribute the values that `least` shapes have are judged."""

    shards: str = MISSING
    reader: str = READER
    steps: int = 600
    seed: int = 0
    least: int = 12


@dataclass(frozen=True)
class Judgement:
    """Of the attributes that a caption names, whether each is met."""

    met: dict[str, bool]

    @property
    def share(self) -> float:
        """The share that is met."""
        return sum(self.met.values()) / len(self.met)


@dataclass(frozen=True)
class RealShapes:
    """Shapes of shards: what is known of them, and points on them, [N,P,3]."""

    described: list[Described]
    surfaces: Surfaces

    def __len__(self) -> int:
        return len(self.described)

    def every_second(self, first: int) -> RealShapes:
        """The shapes 0, 2, 4, ... or 1, 3, 5, ..."""
        own = Surfaces(self.surfaces.points[first::2], self.surfaces.colors[first::2])
        return RealShapes(self.described[first::2], own)

    def followed_by(self, other: RealShapes) -> RealShapes:
        """The shapes of both."""
        if not len(other):
            return self
        pairs = ((getattr(one.surfaces, key) for one in (self, other)) for key in ("points", "colors"))
        return RealShapes(self.described + other.described, Surfaces(*(torch.cat(list(pair)) for pair in pairs)))


class AttributeAccuracy(Metric):
    """Mean over captions of the share of the attributes named that a judge of surfaces finds in the shape.

    `judgements` hold each caption's, `ceilings[split]` those of real shapes by their own captions, which samples are to
    be read against: of "val", and of every second of "unseen_pairs". The other half of those is among what the judge
    learns from, since a judge that never saw a red lamp may take redness for a sign of what is no lamp. A shape that
    came out empty meets nothing.
    """

    higher_is_better = True
    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, config: AttributeAccuracyConfig) -> None:
        super().__init__()
        self.config = config
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.judgements: list[Judgement] = []
        self.classes: list[str] = list(shard_facts(config.shards, config.reader)["classes"])
        train, unseen = self.read("train"), self.read("unseen_pairs")
        if not len(train):
            raise MaquetteError(f"metric 'attribute_accuracy': '{config.shards}' has no training shapes; build more")
        shapes = train.followed_by(unseen.every_second(0))
        self.words = AttributeWords(shapes.described)
        self.slots = slots_of(shapes.described, self.classes, config.least)
        sizes = [len(values) for values in self.slots.values()]
        self.judge = train_judge(shapes.surfaces, self.labels(shapes.described), sizes, config.steps, config.seed)
        self.ceilings = {"val": self.real(self.read("val")), "unseen_pairs": self.real(unseen.every_second(1))}

    def read(self, split: str) -> RealShapes:
        """The shapes of one split; none where the folder has no such split."""
        described: list[Described] = []
        points, colors = [], []
        for batch in read_shards(self.config.shards, split, self.config.reader, FIELDS, points=0, attributes=True):
            points.append(batch["surface"].half())
            colors.append(batch["surface_color"].half())
            each = zip(batch["class_id"].tolist(), batch["caption"], batch["attributes"], strict=True)
            described += [
                Described(label, (caption, *further.get("paraphrases", ())), as_words(further))
                for label, caption, further in each
            ]
        if not described:
            return RealShapes([], Surfaces(torch.empty(0, POINTS, 3), torch.empty(0, POINTS, 3)))
        return RealShapes(described, Surfaces(torch.cat(points), torch.cat(colors)))

    def labels(self, shapes: Sequence[Described]) -> Tensor:
        """What the judge is to find, int64 [N,A]: a place among the values of each slot, or -1."""
        rows = [[self.label(shape, slot) for slot in self.slots] for shape in shapes]
        return torch.tensor(rows, dtype=torch.int64)

    def label(self, shape: Described, slot: Slot) -> int:
        """The place of a shape's value among a slot's."""
        label, name = slot
        if name == CLASS:
            return shape.class_id
        value = shape.attributes.get(name)
        return self.slots[slot].index(value) if label in (-1, shape.class_id) and value in self.slots[slot] else -1

    def real(self, shapes: RealShapes) -> list[Judgement]:
        """Judgements of real shapes by their first captions."""
        points, colors = (x[:, :POINTS].float() for x in (shapes.surfaces.points, shapes.surfaces.colors))
        return [
            self.judgement(Surfaces(points[row : row + 1], colors[row : row + 1]), shape.captions[0], shape.class_id)
            for row, shape in enumerate(shapes.described)
        ]

    def asked(self, caption: str, class_id: int) -> dict[str, str]:
        """The attributes that a caption names and the judge knows; the class among them."""
        named = self.words(caption, class_id).items()
        known = {name: value for name, value in named if value in self.slots.get(self.slot(name, class_id), ())}
        return {CLASS: self.classes[class_id], **known}

    def judgement(self, surfaces: Surfaces | None, caption: str, class_id: int) -> Judgement:
        """Whether one surface, [1,P,3], is what a caption of a class says; nothing at all is not."""
        asked = self.asked(caption, class_id)
        if surfaces is None:
            return Judgement(dict.fromkeys(asked, False))
        parts = self.judge(surfaces)[0].split([len(values) for values in self.slots.values()])
        seen = {
            slot: values[int(part.argmax())] for (slot, values), part in zip(self.slots.items(), parts, strict=True)
        }
        return Judgement({name: value == seen[self.slot(name, class_id)] for name, value in asked.items()})

    def slot(self, name: str, class_id: int) -> Slot:
        """Where an attribute of a class is judged: among all classes, or in its own."""
        return (-1, name) if (-1, name) in self.slots else (class_id, name)

    def reset(self) -> None:
        """Forget what was counted; the judge stays."""
        super().reset()
        self.judgements.clear()

    def update(self, mesh: Mesh | None, caption: str, class_id: int) -> None:
        """Count a mesh, or None for one that came out empty, asked for by a caption of a class."""
        judgement = self.judgement(None if mesh is None else surfaces_of(mesh), caption, class_id)
        self.judgements.append(judgement)
        self.total += judgement.share
        self.count += 1

    def compute(self) -> Tensor:
        """The mean in [0,1]; NaN before any update."""
        return (self.total / self.count).float()


def slots_of(shapes: Sequence[Described], classes: Sequence[str], least: int) -> dict[Slot, list[str]]:
    """The attributes that can be judged and their values, those that at least so many shapes have.

    An attribute that all classes have with the same values is judged over all of them; others class by class.
    """
    counts: dict[Slot, Counter[str]] = {}
    for shape in shapes:
        for name, value in shape.attributes.items():
            counts.setdefault((shape.class_id, name), Counter())[value] += 1
    kept = {slot: sorted(v for v, count in values.items() if count >= least) for slot, values in counts.items()}
    kept = {slot: values for slot, values in kept.items() if len(values) > 1}
    slots: dict[Slot, list[str]] = {(-1, CLASS): list(classes)}
    for name in sorted({name for _, name in kept}):
        own = {label: values for (label, other), values in kept.items() if other == name}
        shared = len(own) == len({label for label, _ in counts}) and len({tuple(v) for v in own.values()}) == 1
        slots |= (
            {(-1, name): next(iter(own.values()))} if shared else {(label, name): own[label] for label in sorted(own)}
        )
    return slots


def surfaces_of(mesh: Mesh) -> Surfaces:
    """Points on a mesh and their colours, [1,P,3]."""
    points, colors = colored_points(mesh, POINTS)
    return Surfaces(points[None], colors[None])
