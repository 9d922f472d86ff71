"""Kills, damages and fails a run again and again, and compares what comes out with a run that was left alone.

    python tests/chaos/chaos.py FOLDER --world 2 --kills 40 --corruptions 10 --seed 0

The events are drawn from the seed: SIGKILL of a random rank, of the launcher alone (its workers save and leave while
the next launcher waits), of all at once; damage to the newest checkpoint; a kill in each phase of a save. They are
written to FOLDER/events.jsonl, and the same command goes on after the last one. FOLDER/summary.json is the end; the
exit status is 0 when everything that must hold has held.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import failpoints  # beside this file, which is run as a program
import harness
from damage import WAYS, damage

INTERVAL, BETWEEN = 4, 10
"""Steps from checkpoint to checkpoint, and from event to event."""

PATIENCE = 90.0


@dataclass(frozen=True)
class Event:
    """What happens when the run comes to a step.

    ``kind`` is rank, launcher, all, damage or failpoint; ``detail`` the way of damaging or the phase; ``chance`` seeds
    what is drawn when it happens.
    """

    number: int
    step: int
    kind: str
    detail: str
    chance: int


def planned(kills: int, corruptions: int, seed: int) -> list[Event]:
    """All events of a run, in order; the failpoints, one a phase, are among the kills."""
    chance = random.Random(seed)
    phases = list(failpoints.PHASES)[:kills]
    kinds = [("failpoint", phase) for phase in phases]
    kinds += [(chance.choices(("rank", "launcher", "all"), (5, 2, 1))[0], "") for _ in range(kills - len(phases))]
    kinds += [("damage", WAYS[number % len(WAYS)]) for number in range(corruptions)]
    chance.shuffle(kinds)
    return [
        Event(number, 3 * INTERVAL + number * BETWEEN + chance.randrange(BETWEEN), kind, detail, chance.getrandbits(32))
        for number, (kind, detail) in enumerate(kinds)
    ]


class Chaos:
    """One campaign against one run.

    Args:
        folder: of the campaign.
        world: workers.
        events: see `planned`.
        words: more settings of the run.
    """

    def __init__(self, folder: Path, world: int, events: list[Event], words: list[str]) -> None:
        self.folder, self.world, self.events = folder, world, events
        self.run, self.log = folder / "run", folder / "events.jsonl"
        self.control = harness.control_of(self.run)
        steps = events[-1].step + 3 * INTERVAL if events else 5 * INTERVAL
        plain = ["train.keep_checkpoints=3", f"train.checkpoint_every={INTERVAL}", "train.validate_every=0"]
        self.words = [f"train.steps={steps}", *plain, *words]
        self.launches: list[harness.Launch] = []

    def __call__(self) -> dict[str, Any]:
        """Let everything happen that has not happened yet; the summary."""
        self.folder.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        for event in self.events[len(self.done()) :]:
            told = self._happen(event)
            with self.log.open("a") as file:
                file.write(json.dumps({**asdict(event), **told}) + "\n")
        code = self._launched().wait(PATIENCE)
        settled = harness.settled(self.control, PATIENCE)
        whole = harness.Launch(self.folder / "whole", self.world, self.words)
        assert whole.wait(PATIENCE) == 0, (self.folder / "whole.log").read_text()
        return {**self._summary(), "exit_code": code, "left_alive": not settled, "seconds": time.monotonic() - began}

    def done(self) -> list[dict[str, Any]]:
        """The events that have happened."""
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def progress(self) -> int:
        """The step under way."""
        file = self.control / "progress"
        return int(file.read_text() or 0) if file.exists() else 0

    def checkpoints(self) -> list[Path]:
        """Newest first."""
        return sorted((self.run / "checkpoints").glob("step_*"), reverse=True)

    def _launched(self) -> harness.Launch:
        if not self.launches or not self.launches[-1].running:
            code = self.launches[-1].code if self.launches else 0
            assert code in (0, -signal.SIGKILL), self.run.with_suffix(".log").read_text()[-3000:]
            self.launches.append(harness.Launch(self.run, self.world, self.words))
        return self.launches[-1]

    def _happen(self, event: Event) -> dict[str, Any]:
        chance, launch = random.Random(event.chance), self._launched()
        self._until(lambda: self.progress() >= event.step and launch.rank(0) is not None, launch)
        time.sleep(chance.uniform(0, 0.03))
        before = len(self._resumes())
        told = getattr(self, f"_{event.kind}")(event, chance, launch)
        self._until(lambda: len(self._resumes()) > before, self._launched())
        return {**told, "lost": max(line["reached"] - line["resumed"] for line in self._resumes()[before:])}

    def _rank(self, event: Event, chance: random.Random, launch: harness.Launch) -> dict[str, Any]:
        rank = chance.randrange(self.world)
        pid = self._there(rank, launch)
        os.kill(pid, signal.SIGKILL)
        self._until(self._began_again, launch)
        return {"rank": rank}

    def _there(self, rank: int, launch: harness.Launch) -> int:
        """The process of a rank, waited for: a kill that hits nobody is none."""
        self._until(lambda: launch.rank(rank) is not None, launch)
        pid = launch.rank(rank)
        assert pid is not None
        return pid

    def _launcher(self, event: Event, chance: random.Random, launch: harness.Launch) -> dict[str, Any]:
        launch.kill()
        if at_once := chance.random() < 0.5:  # while the workers of the old one still save
            self._launched()
        elif not harness.settled(self.control, PATIENCE):
            raise AssertionError("workers outlive their launcher")
        return {"at_once": at_once}

    def _all(self, event: Event, chance: random.Random, launch: harness.Launch) -> dict[str, Any]:
        launch.kill_all()
        return {}

    def _damage(self, event: Event, chance: random.Random, launch: harness.Launch) -> dict[str, Any]:
        self._until(lambda: len(self.checkpoints()) > 1, launch)
        launch.kill_all()
        newest, older = self.checkpoints()[:2]
        told = damage(newest, older, event.detail, chance)
        launch = self._launched()
        self._until(lambda: newest.with_name(f"damaged_{newest.name}").exists(), launch)
        # Of this very time: the same step may be damaged again.
        newest.with_name(f"damaged_{newest.name}").rename(self.folder / f"found_{event.number}")
        return {"checkpoint": newest.name, "damaged": told, "found": True}

    def _failpoint(self, event: Event, chance: random.Random, launch: harness.Launch) -> dict[str, Any]:
        rank = chance.randrange(self.world) if event.detail in failpoints.OF_ALL_RANKS else 0
        pid, order = self._there(rank, launch), self.control / "kill"
        order.with_suffix(".new").write_text(f"{event.detail} {rank}")
        order.with_suffix(".new").rename(order)
        self._until(lambda: not order.exists() and not harness.alive(pid), launch)
        self._until(self._began_again, launch)
        return {"rank": rank}

    def _began_again(self) -> bool:
        return any((self.control / f"rank_{n}").stat().st_mtime > self._mark for n in range(self.world))

    def _until(self, condition: Any, launch: harness.Launch) -> None:
        self._mark = time.time()
        until = time.monotonic() + PATIENCE
        while not condition():
            hung = time.monotonic() > until
            if hung or not launch.running:
                text = self.run.with_suffix(".log").read_text()[-3000:]
                launch.kill_all()
                raise AssertionError(f"{'hung' if hung else 'ended'} at step {self.progress()}:\n{text}")
            time.sleep(0.005)

    def _summary(self) -> dict[str, Any]:
        done = self.done()
        kinds = ("rank", "launcher", "all", "failpoint")
        counts = {kind: sum(event["kind"] == kind for event in done) for kind in kinds}
        losses = [event["lost"] for event in done if event["kind"] != "damage"]
        found = [event for event in done if event["kind"] == "damage"]
        passed = len(list((self.run / "checkpoints").glob("damaged_*")))
        return {
            "world": self.world,
            "kills": counts,
            "kills_in_all": sum(counts.values()) + len(found),
            "phases": sorted({event["detail"] for event in done if event["kind"] == "failpoint"}),
            "corruptions": len(found),
            "corruptions_found": sum(event["found"] for event in found),
            "other_checkpoints_set_aside": passed,
            "steps_lost": {"mean": round(sum(losses) / max(len(losses), 1), 2), "most": max(losses, default=0)},
            "interval": INTERVAL,
            "starts": len(harness.pids(self.control)) // self.world,
            "bit_identical": same_end(self.run, self.folder / "whole"),
        }

    def _resumes(self) -> list[dict[str, int]]:
        """All starts, with the step that was reached before and the one that they went on from."""
        file = self.control / "resumes"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def same_end(one: Path, other: Path) -> bool:
    """Whether the last checkpoints of two runs are the same, file by file; manifests hold the owner's number too."""
    first, second = (max((run / "checkpoints").glob("step_*")) for run in (one, other))
    names = sorted(file.name for file in first.iterdir() if file.name != "manifest.json")
    others = sorted(file.name for file in second.iterdir() if file.name != "manifest.json")
    return (
        first.name == second.name
        and names == others
        and all((first / name).read_bytes() == (second / name).read_bytes() for name in names)
    )


def held(summary: dict[str, Any]) -> bool:
    """Whether everything that must hold has held."""
    return (
        summary["exit_code"] == 0
        and summary["bit_identical"]
        and not summary["left_alive"]
        and summary["corruptions_found"] == summary["corruptions"]
        and not summary["other_checkpoints_set_aside"]
        # A save that goes on while the run does may be lost with the steps since it began.
        and summary["steps_lost"]["most"] < 2 * summary["interval"]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--world", type=int, default=2)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--corruptions", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("words", nargs="*")
    given = parser.parse_intermixed_args()
    harness.adopt_orphans()
    chaos = Chaos(given.folder, given.world, planned(given.kills, given.corruptions, given.seed), given.words)
    try:
        summary = chaos()
    finally:
        for launch in chaos.launches:
            if launch.running:
                launch.kill_all()
    (given.folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    for name, value in summary.items():
        sys.stdout.write(f"{name:28} {value}\n")
    return 0 if held(summary) else 1


if __name__ == "__main__":
    sys.exit(main())
