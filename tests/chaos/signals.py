"""SIGTERM to a random rank, or to the launcher, while a run is in a known phase.

    python tests/chaos/signals.py FOLDER --times 20 --seed 0

Each time all ranks are held in the phase, the signal comes, and the launch must end by itself with status 143, a whole
checkpoint and no worker left. FOLDER/signals.json holds what happened.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import failpoints  # beside this file, which is run as a program
import harness

from maquette import checkpoint

HELD, LIMIT = 0.5, 60.0
"""Seconds that ranks stay in the phase, and that the launch may take to end."""

EXPECTED = 128 + signal.SIGTERM


def signalled(folder: Path, place: str, target: int | None, world: int = 2) -> dict[str, Any]:
    """Signal one rank, or the launcher (None), in a phase; what came of it."""
    harness.remove(folder)
    control = harness.control_of(folder)
    control.mkdir(parents=True)
    (control / "hold").write_text(f"{place} {HELD}")
    often = ["train.steps=100000", "train.checkpoint_every=5", "train.validate_every=7"]
    launch = harness.Launch(folder, world, often)
    until = time.monotonic() + LIMIT
    while len(list(control.glob("at_*"))) < (1 if place == "save" else world):
        assert launch.running and time.monotonic() < until, folder.with_suffix(".log").read_text()
        time.sleep(0.005)
    began = time.monotonic()
    pid = launch.pid if target is None else launch.rank(target)
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    code = launch.wait(LIMIT)
    seconds = time.monotonic() - began
    settled = harness.settled(control, 5)
    if code is None:
        launch.kill_all()
    found, passed = checkpoint.newest(folder / "checkpoints")
    told = {"phase": place, "target": "launcher" if target is None else f"rank {target}", "exit_code": code}
    return {
        **told,
        "seconds": round(seconds, 2),
        "checkpoint": found.step,
        "damaged": passed,
        "left_alive": not settled,
    }


def held(outcome: dict[str, Any]) -> bool:
    """Whether it ended as it must."""
    return outcome["exit_code"] == EXPECTED and not outcome["damaged"] and not outcome["left_alive"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    harness.adopt_orphans()
    given.folder.mkdir(parents=True, exist_ok=True)
    chance, outcomes = random.Random(given.seed), []
    for number in range(given.times):
        place = failpoints.HOLDS[number % len(failpoints.HOLDS)]
        outcomes.append(signalled(given.folder / "run", place, chance.choice([0, 1, None])))
        sys.stdout.write(f"{outcomes[-1]}\n")
    (given.folder / "signals.json").write_text(json.dumps(outcomes, indent=1) + "\n")
    good = sum(map(held, outcomes))
    sys.stdout.write(f"{good} of {len(outcomes)} ended with status {EXPECTED}, a checkpoint and no worker left\n")
    return 0 if good == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
