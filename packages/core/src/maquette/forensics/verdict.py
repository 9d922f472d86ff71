"""Which rank a hang is about, and which collective: from all ranks' flight recorders, process states and stacks."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maquette.forensics.processes import IN_KERNEL, STOPPED

SAME_SHAPES = ("all_reduce", "broadcast", "reduce", "all_gather", "_allgather_base", "reduce_scatter", "allgather")
"""Collectives that all ranks of a group must call with the same shapes."""


@dataclass(frozen=True)
class Collective:
    """One call of a collective on one rank.

    Attributes:
        group: the process group's name.
        sequence: the how-manieth of the group's collectives it was on this rank.
        operation: e.g. ``all_reduce``.
        operands: shapes and dtypes of what was sent, as text.
        done: whether it came back.
    """

    group: str
    sequence: int
    operation: str
    operands: str
    done: bool

    def __str__(self) -> str:
        return f"{self.operation} of {self.operands}"


@dataclass(frozen=True)
class Flight:
    """What one rank remembers of its collectives, oldest first."""

    rank: int
    groups: Mapping[str, Sequence[int]]
    collectives: Sequence[Collective]

    def last(self, group: str) -> int:
        """The sequence number of the rank's latest call in a group; 0 where it has made none."""
        return max((call.sequence for call in self.collectives if call.group == group), default=0)

    def call(self, group: str, sequence: int) -> Collective | None:
        """One call."""
        return next((c for c in self.collectives if c.group == group and c.sequence == sequence), None)


@dataclass(frozen=True)
class Witness:
    """What is known of one rank when a hang is looked into.

    Attributes:
        state: of its process, as :mod:`maquette.forensics.processes` has it.
        described: the state in words.
        place: where its main thread is; empty where it could not tell.
        beats: whether its threads run.
        silent: seconds since its training last got on.
        flight: its collectives; None where it could not write them.
    """

    rank: int
    pid: int
    state: str
    described: str
    place: str
    beats: bool
    silent: float
    phase: str
    step: int
    flight: Flight | None = None

    @property
    def name(self) -> str:
        """For a message."""
        return f"rank {self.rank} (pid {self.pid})"


@dataclass(frozen=True)
class Verdict:
    """The ranks that a hang comes from, and one line that says why they are thought so."""

    culprits: tuple[int, ...]
    line: str


@dataclass
class _Meeting:
    """A collective that some ranks of a group are in and others are not."""

    call: Collective
    ranks: Sequence[int]
    waiting: list[int] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.call}, number {self.call.sequence} of group {self.call.group} (ranks {spans(self.ranks)})"


def read_flight(path: Path) -> Flight | None:
    """A flight recorder's JSON; None where it is missing or torn."""
    try:
        found = json.loads(path.read_text())
        calls = [_collective(entry) for entry in found["entries"] if not entry.get("is_p2p")]
        return Flight(int(found["rank"]), found["groups"], calls)
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def judge(witnesses: Sequence[Witness]) -> Verdict:
    """Name who keeps the others waiting.

    What the kernel knows of the processes comes before what collectives tell, this before how long each was silent.
    """
    flights = [witness.flight for witness in witnesses if witness.flight]
    meeting = _unfinished(flights)
    for group in (
        {w.rank: f"{w.name} {w.described}" for w in witnesses if w.state == STOPPED},
        {w.rank: f"{w.name} {w.described}" for w in witnesses if w.state == IN_KERNEL},
        {w.rank: f"{w.name} holds the interpreter{_at(w)}" for w in witnesses if not w.beats},
    ):
        if group:
            waits = f"; {_ranks(meeting.waiting)} in {meeting}" if meeting and meeting.waiting else ""
            return Verdict(tuple(group), ", ".join(group.values()) + waits)
    if differing := _mismatch(flights):
        return differing
    if meeting:
        return _absent(meeting, witnesses)
    longest = max(witnesses, key=lambda w: w.silent)
    return Verdict((longest.rank,), f"{longest.name} does not get on{_at(longest)}; no collective is under way")


def spans(ranks: Iterable[int]) -> str:
    """``0-3, 5``."""
    told: list[list[int]] = []
    for rank in sorted(ranks):
        if told and rank == told[-1][-1] + 1:
            told[-1].append(rank)
        else:
            told.append([rank])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in told)


def _collective(entry: Mapping[str, Any]) -> Collective:
    shapes = [f"[{', '.join(map(str, shape))}]" for shape in entry["input_sizes"]]
    kinds = [*map(str, entry["input_dtypes"]), *[""] * len(shapes)]
    operands = ", ".join(f"{kind} {shape}".strip() for kind, shape in zip(kinds, shapes, strict=False))
    operation = str(entry["profiling_name"]).rpartition(":")[2]
    group = str(entry["process_group"][0])
    return Collective(group, int(entry["collective_seq_id"]), operation, operands or "nothing", bool(entry["retired"]))


def _members(flights: Sequence[Flight], group: str) -> Sequence[int]:
    return next((flight.groups[group] for flight in flights if group in flight.groups), [f.rank for f in flights])


def _unfinished(flights: Sequence[Flight]) -> _Meeting | None:
    """The collective that ranks wait in: the earliest by its group's count; one with missing ranks before others."""
    found = []
    waited = {(c.group, c.sequence): c for f in flights for c in f.collectives if not c.done}
    for (group, sequence), call in sorted(waited.items(), key=lambda item: item[0][1]):
        members = [f for f in flights if f.rank in _members(flights, group)]
        waiting = [f.rank for f in members if (own := f.call(group, sequence)) and not own.done]
        missing = [f.rank for f in members if f.last(group) < sequence]
        found.append(_Meeting(call, _members(flights, group), waiting, missing))
    return min(found, key=lambda meeting: not meeting.missing, default=None)


def _mismatch(flights: Sequence[Flight]) -> Verdict | None:
    """The earliest call of a group that its ranks made differently."""
    calls: dict[tuple[str, int], dict[int, Collective]] = {}
    for flight in flights:
        for call in flight.collectives:
            calls.setdefault((call.group, call.sequence), {})[flight.rank] = call
    for (group, sequence), by_rank in sorted(calls.items(), key=lambda item: item[0][1]):
        forms = Counter(_form(call) for call in by_rank.values())
        if len(forms) < 2:
            continue
        usual = forms.most_common(1)[0][0]
        odd = tuple(rank for rank, call in by_rank.items() if _form(call) != usual)
        told = "; ".join(f"rank {rank}: {call}" for rank, call in sorted(by_rank.items()))
        among = "" if 2 * forms[usual] > len(by_rank) else " (which of them is right cannot be told)"
        return Verdict(odd, f"ranks differ in collective {sequence} of group {group}: {told}{among}")
    return None


def _form(call: Collective) -> tuple[str, str]:
    return call.operation, call.operands if call.operation in SAME_SHAPES else ""


def _absent(meeting: _Meeting, witnesses: Sequence[Witness]) -> Verdict:
    """Who is not in the collective that the others wait in; ranks of other nodes have no witness here."""
    if not meeting.missing:
        here = f"ranks {spans(meeting.waiting)} are"
        return Verdict((), f"{here} in {meeting}, which does not end: a rank of another node, or the network")
    seen = {w.rank: w for w in witnesses}
    told = " and ".join(
        f"{seen[rank].name}, now at {seen[rank].place}," if seen[rank].place else seen[rank].name
        for rank in meeting.missing
    )
    line = f"{told} {'has' if len(meeting.missing) == 1 else 'have'} not come to {meeting}"
    return Verdict(tuple(meeting.missing), f"{line}; {_ranks(meeting.waiting)} in it")


def _at(witness: Witness) -> str:
    return f" at {witness.place}" if witness.place else ""


def _ranks(ranks: Sequence[int], one: str = "waits", several: str = "wait") -> str:
    return f"rank {spans(ranks)} {one}" if len(ranks) == 1 else f"ranks {spans(ranks)} {several}"
