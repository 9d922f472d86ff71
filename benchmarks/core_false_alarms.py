"""How far the losses of clean runs are from an alarm: python benchmarks/core_false_alarms.py RUN...

Judges the loss curve of each run, or of each run in a folder, as training would, and prints how many spikes it would
have found, how near the highest loss came (1 is the limit), and what the run itself has recorded as an event. Curves
hold every `train.log_every`-th step, so the window is shorter in points, and longer in steps, than in training, unless
that is 1.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from maquette.config import TrainConfig, read_yaml
from maquette.engine.spikes import SpikeDetector
from maquette.errors import MaquetteError
from maquette.events import read_events
from maquette.runs import RunFolder

LEAST, WINDOW = 40, 32
"""Points that a curve must have, and by how many of them a loss is judged."""


def judged(losses: list[float]) -> tuple[int, float]:
    """Spikes, and the largest share of the way from the median to the limit."""
    detector = SpikeDetector(TrainConfig().spike_threshold, WINDOW)
    found, highest = 0, 0.0
    for loss in losses:
        limit, middle = detector.limit(), sorted(detector.losses)[len(detector.losses) // 2] if detector.losses else 0.0
        if limit < float("inf"):
            highest = max(highest, (loss - middle) / (limit - middle))
        if detector.is_spike(loss):
            found += 1
        else:
            detector.observe(loss)
    return found, highest


def main(folders: list[str]) -> None:
    steps = points = spikes = 0
    objectives = set()
    for config in sorted({file for folder in folders for file in Path(folder).rglob("config.yaml")}):
        run = RunFolder(config.parent)
        try:
            curve = run.metrics().get("train/loss", [])
            objective = str(read_yaml(config).objective.name)
        except (MaquetteError, ValueError, AttributeError):
            continue
        if len(curve) < LEAST:
            continue
        found, highest = judged([loss for _, loss in curve])
        events = Counter(str(event["kind"]) for event in read_events(run.path))
        told = ", ".join(f"{count} {kind}" for kind, count in events.items()) or "no events"
        print(
            f"{objective:24} {curve[-1][0]:7} steps {len(curve):6} points  {found} spikes  {highest:5.2f}  {told}  "
            f"{run.path}"
        )
        steps, points, spikes = steps + curve[-1][0], points + len(curve), spikes + found
        objectives.add(objective)
    print(f"{len(objectives)} objectives, {steps} steps, {points} points judged: {spikes} spikes")


if __name__ == "__main__":
    main(sys.argv[1:])
