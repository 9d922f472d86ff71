"""Whether the processes' collectives carry the right values, and how fast; a slow link or process is named."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, distributed

from maquette.doctor.finding import Action, Finding, Status, judge, not_applicable
from maquette.doctor.machine import Machine, outliers

GB = 1e9
KIB = 2**10
NVLINK = {"H100": 460.0, "H200": 460.0}
"""GB/s of bus bandwidth that all-reduce reaches over NVLink within a healthy machine; by a piece of the GPU's name."""
INFINIBAND_SHARE = 0.95
"""Of a link's nominal speed that must be reached (380 of 400 Gb/s)."""


@dataclass
class CollectivesConfig:
    """What to send."""

    sizes_kib: tuple[int, ...] = (64, 1024, 16384)
    """Of a process's tensor; a GPU sends the largest ``gpu_factor`` times over."""
    gpu_factor: int = 64
    repeats: int = 5
    """The best one counts."""
    least_gb_s: float = 0.0
    """Of bus bandwidth at the largest size; 0 takes what is known of the link, or judges nothing."""
    share: float = 0.75
    """Of the median of all links below which one is an outlier."""


class Collectives:
    """All-reduce and all-gather over the real process group: values, bandwidth, and each link between neighbours."""

    together = True

    def __init__(self, config: CollectivesConfig) -> None:
        self.config = config

    def __call__(self, machine: Machine) -> Iterator[Finding]:
        """All findings of all processes."""
        names = ("collective.content", "collective.all_reduce", "collective.all_gather", "collective.links")
        if machine.mesh.world == 1:
            for name in names:
                yield not_applicable(name, "one process")
            return
        yield from content(machine)
        if machine.quick:
            return
        yield self._bandwidth(machine, "all_reduce")
        yield self._bandwidth(machine, "all_gather")
        yield from self._links(machine)

    def _sizes(self, machine: Machine) -> list[int]:
        """Values of four bytes a process."""
        factor = self.config.gpu_factor if machine.mesh.device.type == "cuda" else 1
        *small, large = self.config.sizes_kib
        return [kib * KIB // 4 for kib in (*small, large * factor)]

    def _bandwidth(self, machine: Machine, name: str) -> Finding:
        world, device = machine.mesh.world, machine.mesh.device
        said, speed = [], 0.0
        for count in self._sizes(machine):
            own = torch.ones(count, device=device)
            everybodys = torch.empty(world * count if name == "all_gather" else 0, device=device)
            work = _all_gather(everybodys, own) if name == "all_gather" else _all_reduce(own)
            # What passes each process's link, whatever the algorithm: the figure that compares with the link's own.
            moved = 4 * count * (world - 1) * (1 if name == "all_gather" else 2 / world)
            speed = moved / self._best(machine, work) / GB
            said.append(f"{4 * count / KIB:g} KiB: {speed:.2f}")
        least = self.config.least_gb_s or expected(machine)
        return judge(f"collective.{name}", speed, unit="GB/s", warn=least or None, at_least=True,
                     evidence=f"bus bandwidth of {world} processes by {machine.mesh.backend}: {', '.join(said)}",
                     action=Action.SERVICE)  # fmt: skip

    def _best(self, machine: Machine, work: Callable[[], object]) -> float:
        """Seconds of the best repeat, of the slowest process."""
        times = []
        for repeat in range(self.config.repeats + 1):
            machine.mesh.barrier()
            begin = time.perf_counter()
            work()
            _finish(machine)
            if repeat:  # the first one opens connections
                times.append(time.perf_counter() - begin)
        return max(machine.mesh.gather(min(times)))

    def _links(self, machine: Machine) -> Iterator[Finding]:
        speeds = link_speeds(machine, self._sizes(machine)[-1] // 4, self.config.repeats)
        wanted = f">= {self.config.share} of the others"
        slow = slow_links(speeds, self.config.share)
        for (a, b), guilty in slow.items():
            said = f"rank {guilty} is slow to all its neighbours" if guilty is not None else "the link is slow"
            evidence = f"{said}; the fastest reaches {max(speeds.values()):.3g}"
            yield Finding("collective.links", Status.WARN, f"ranks {a} and {b}", round(speeds[a, b], 3), wanted,
                          evidence, Action.DRAIN, "GB/s")  # fmt: skip
        if not slow:
            yield Finding("collective.links", Status.PASS, "", round(min(speeds.values()), 3), wanted,
                          "the slowest pair of neighbours", unit="GB/s")  # fmt: skip


def slow_links(speeds: Mapping[tuple[int, int], float], share: float) -> dict[tuple[int, int], int | None]:
    """Slow pair -> the rank whose links are all slow, where there is just one; None where it is the link itself."""
    if len(speeds) == 1:
        return {}
    slow = [list(speeds)[place] for place in outliers(list(speeds.values()), share)]
    ranks = {rank for pair in speeds for rank in pair}
    guilty = {rank for rank in ranks if all(pair in slow for pair in speeds if rank in pair)}
    return {pair: min(found) if len(found := guilty.intersection(pair)) == 1 else None for pair in slow}


def content(machine: Machine) -> Iterator[Finding]:
    """Sums and copies of small integers, which are exact: what came back wrong, and from whom."""
    world, rank, device = machine.mesh.world, machine.mesh.rank, machine.mesh.device
    own = torch.full((1024,), float(rank + 1), device=device)
    everybodys = torch.empty(world * 1024, device=device)
    _all_gather(everybodys, own)()
    wanted = torch.arange(1.0, world + 1, device=device)
    bad = (everybodys.view(world, 1024) != wanted[:, None]).any(1).nonzero().flatten().tolist()
    _all_reduce(own)()
    summed = bool((own == world * (world + 1) / 2).all())
    reports = machine.mesh.gather((bad, summed))
    senders = sorted({sender for found, _ in reports for sender in found})
    receivers = [rank for rank, (found, good) in enumerate(reports) if found or not good]
    if not receivers:
        yield Finding("collective.content", Status.PASS, "", "right", "exact sums and copies")
        return
    # A process that sends wrong values is heard by all; one that receives wrongly hears all wrong.
    for name in senders if 0 < len(senders) < len(receivers) else receivers:
        evidence = f"values of ranks {senders} came wrong; ranks {receivers} received wrong ones"
        yield Finding("collective.content", Status.CRITICAL, f"rank {name}", "wrong", "exact sums and copies",
                      evidence, Action.DRAIN)  # fmt: skip


def link_speeds(machine: Machine, count: int, repeats: int) -> dict[tuple[int, int], float]:
    """GB/s between neighbouring ranks, the last and the first among them; even pairs at once, then odd ones."""
    world, rank = machine.mesh.world, machine.mesh.rank
    pairs = [(a, a + 1) for a in range(world - 1)] + ([(world - 1, 0)] if world > 2 else [])
    payload = torch.ones(count, device=machine.mesh.device)
    mine: dict[tuple[int, int], float] = {}
    # The pair that closes an odd ring shares a rank with an even one: it waits for a turn of its own.
    turns = [[p for i, p in enumerate(pairs) if i % 2 == t and i < world - 1] for t in (0, 1)] + [pairs[world - 1 :]]
    for turn in turns:
        machine.mesh.barrier()
        for pair in turn:
            if rank in pair:
                mine[pair] = 4 * count / _exchange(machine, pair, payload, repeats) / GB
    everybodys = machine.mesh.gather(mine)
    return {pair: min(found[pair] for found in everybodys if pair in found) for pair in pairs}


def _exchange(machine: Machine, pair: tuple[int, int], payload: Tensor, repeats: int) -> float:
    """Seconds for a payload one way, at best; back and forth, so that both know."""
    first, times = machine.mesh.rank == pair[0], []
    for repeat in range(repeats + 1):
        begin = time.perf_counter()
        for sends in (first, not first):
            if sends:
                distributed.send(payload, pair[1] if first else pair[0])
            else:
                distributed.recv(payload, pair[1] if first else pair[0])
        _finish(machine)
        if repeat:
            times.append((time.perf_counter() - begin) / 2)
    return min(times)


def expected(machine: Machine) -> float | None:
    """GB/s of bus bandwidth that a healthy group reaches: over NVLink within a machine, over InfiniBand between two."""
    if machine.mesh.device.type != "cuda":
        return None
    # Whether there are NVLinks is asked of the driver, which may fail on one process: before any leaves for good.
    links = machine.everybodys(partial(_linked, machine))
    if len(set(machine.mesh.gather(machine.name))) == 1:
        linked = links[machine.mesh.rank]
        name = torch.cuda.get_device_name(machine.mesh.device)
        return next((speed for piece, speed in NVLINK.items() if piece in name), None) if linked else None
    rates = [rate for state, rate in machine.host.infiniband().values() if state == "ACTIVE"]
    return INFINIBAND_SHARE * min(rates) / 8 if rates else None


def _linked(machine: Machine) -> bool:
    return not machine.no_gpu() and any(any(gpu.nvlinks or ()) for gpu in machine.gpus or ())


def _all_reduce(own: Tensor) -> Callable[[], object]:
    return lambda: distributed.all_reduce(own)


def _all_gather(everybodys: Tensor, own: Tensor) -> Callable[[], object]:
    # In pieces: the call with one tensor has changed its name between the versions of torch that we support.
    return lambda: distributed.all_gather(list(everybodys.view(-1, len(own)).unbind()), own)


def _finish(machine: Machine) -> None:
    if machine.mesh.device.type == "cuda":
        torch.cuda.synchronize(machine.mesh.device)
