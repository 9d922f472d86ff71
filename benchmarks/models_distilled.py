"""A few-step student beside its guided teacher: how often captions are met, and how long a request takes.

    python benchmarks/models_distilled.py TEACHER STUDENT SHARDS count=240 rounds=30

TEACHER and STUDENT are runs (see examples/configs/distill_consistency.yaml), SHARDS the folder whose held-out captions
that name a colour are asked for, each with as many seeds as `count` needs. The teacher is sampled with 50 steps and its
guidance, and with as few as the student, to tell what distillation gives. Where the shards store colours of surfaces,
`attribute_accuracy` is told as well, with its 95 % interval. Times are of one request at a time, in turn
and in random order; the sampling is timed inside the request.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from interleaved import measure, ratio_line

from maquette import plugins
from maquette.assets import open_pipeline
from maquette.config import checked, load, read_words
from maquette.errors import MaquetteError
from maquette.types import Asset, Request
from maquette_models.conditioners.class_caption import words as caption_words
from maquette_models.evaluation import estimates
from maquette_models.evaluation.captions import held_out_captions
from maquette_models.metrics.color_accuracy import PALETTE
from maquette_models.shards import stored_fields

TEACHER_STEPS, BATCH = 50, 16


@dataclass
class Settings:
    """Captions to judge, rounds to time, seed of the first sample."""

    count: int = 240
    rounds: int = 30
    seed: int = 0


@dataclass
class Contestant:
    """A pipeline with a number of steps, and the seconds its sampling took in each timed request."""

    pipeline: Any
    steps: int
    seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        inner, self.spent = self.pipeline.stage.advance, 0.0

        def timed(flows: Sequence[Any]) -> None:
            began = time.perf_counter()
            inner(flows)
            self.spent += time.perf_counter() - began

        self.pipeline.stage.advance = timed

    def assets(self, requests: Sequence[tuple[str, int]]) -> list[tuple[Any, Any]]:
        """What `batch_with_fields` gives of prompts with seeds."""
        self.spent = 0.0
        made = self.pipeline.batch_with_fields([Request(prompt, seed, steps=self.steps) for prompt, seed in requests])
        self.seconds.append(self.spent)
        return made


def judge_of(shards: str) -> Any:
    """The metric `attribute_accuracy`, or None where the shards lack what it learns from."""
    known = {"surface", "surface_color"} <= set(stored_fields(shards))
    return plugins.build("metrics", {"name": "attribute_accuracy", "shards": shards}) if known else None


def accuracies(contestant: Contestant, rows: Sequence[tuple[str, int]], judges: tuple[Any, Any], seed: int) -> str:
    """Shares of samples of the class, of the colour, and of both that were asked for, and of the attributes named that
    are met; empty ones have none.
    """
    classes, attributes = judges
    colors = plugins.build("metrics", {"name": "color_accuracy"})
    right, painted = [], []
    if attributes is not None:
        attributes.reset()
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        requests = [(caption, seed + start + place) for place, (caption, _) in enumerate(part)]
        for (asset, tsdf), (caption, label) in zip(contestant.assets(requests), part, strict=True):
            found = isinstance(asset, Asset)
            colors.reset()
            if found:
                colors.update(asset.mesh, caption)
            if attributes is not None:
                attributes.update(asset.mesh if found else None, caption, label)
            right.append(found and int(classes.predict(tsdf)) == label)
            painted.append(bool(colors.correct))
    both = [shape and paint for shape, paint in zip(right, painted, strict=True)]
    told = "  ".join(f"{sum(values) / len(rows):.4f}" for values in (right, painted, both))
    if attributes is None:
        return told
    met = estimates.mean([judgement.share for judgement in attributes.judgements])
    return f"{told}  {met.value:.4f} [{met.interval[0]:.3f}, {met.interval[1]:.3f}]"


def main(words: list[str]) -> None:
    teacher_run, student_run, shards = words[:3]
    settings: Settings = checked(load(Settings, read_words(words[3:])))
    student = open_pipeline(student_run)
    few = student.stage.sampler.config.steps
    contestants = {
        f"teacher, {TEACHER_STEPS} steps": Contestant(open_pipeline(teacher_run), TEACHER_STEPS),
        f"teacher, {few} steps": Contestant(open_pipeline(teacher_run), few),
        f"student, {few} steps": Contestant(student, few),
    }
    captions = held_out_captions(shards)
    named = [row for row in captions if any(word in PALETTE for word in caption_words(row[0]))]
    rows = [named[i % len(named)] for i in range(settings.count)]
    judges = plugins.build("metrics", {"name": "class_accuracy", "shards": shards}), judge_of(shards)
    lines = [f"{'':20} class   colour  both    attributes (n {len(rows)})"]
    for name, contestant in contestants.items():
        lines.append(f"{name:20} {accuracies(contestant, rows, judges, settings.seed)}")
    lines += times(contestants, rows, settings.rounds)
    sys.stdout.write("\n".join(lines) + "\n")


def times(contestants: dict[str, Contestant], rows: Sequence[tuple[str, int]], rounds: int) -> list[str]:
    """Lines of milliseconds a request, whole and sampling alone, and the ratios of the first to the last."""
    for contestant in contestants.values():
        contestant.seconds.clear()
    turns = {name: iter(range(10**6)) for name in contestants}

    def request(name: str) -> Any:
        turn = next(turns[name])
        return contestants[name].assets([(rows[turn % len(rows)][0], turn)])

    whole = measure({name: lambda name=name: request(name) for name in contestants}, rounds)
    sampling = {name: contestant.seconds[-rounds:] for name, contestant in contestants.items()}
    peer, *_, ours = contestants
    return [f"whole request: {ratio_line(whole, peer, ours)}", f"sampling alone: {ratio_line(sampling, peer, ours)}"]


if __name__ == "__main__":
    if len(sys.argv) < 4:
        raise MaquetteError("usage: models_distilled.py TEACHER STUDENT SHARDS [count=240] [rounds=30]")
    main(sys.argv[1:])
