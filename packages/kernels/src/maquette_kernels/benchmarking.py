"""Times operations: each implementation of a large call beside the reference, in turn, on any device."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from maquette.errors import MaquetteError
from maquette_kernels.implementation import Arguments
from maquette_kernels.operation import Operation
from maquette_kernels.specification import as_tuple

PATIENCE = 20.0
"""Seconds that a reference may take for one call before it is left out."""

COMPILED = "compiled reference"
_FLUSHED = 256 * 2**20


@dataclass(frozen=True)
class Timing:
    """How long one implementation takes for one call; a reason instead where it was not run.

    Attributes:
        seconds: median of the rounds, and its first and third quartiles.
        gigabytes, teraflops: of the operation's cost, in a second.
        ratio: how many times as long the reference takes, the median of the rounds' ratios; None without it.
    """

    operation: str
    implementation: str
    device: str
    dtype: str
    seconds: tuple[float, float, float] | None = None
    gigabytes: float | None = None
    teraflops: float | None = None
    ratio: float | None = None
    reason: str | None = None


class Clock:
    """Seconds of one step: of the device for CUDA, with its second-level cache flushed before; else of the wall."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        self.flushed = torch.empty(_FLUSHED, dtype=torch.int8, device=device) if self.cuda else None

    def __call__(self, step: Callable[[], Any]) -> float:
        """Run a step once."""
        if self.flushed is None:
            began = time.perf_counter()
            step()
            return time.perf_counter() - began
        self.flushed.zero_()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        step()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3


def take_turns(
    steps: dict[str, Callable[[], Any]], rounds: int, clock: Clock, *, warmup: int = 1
) -> dict[str, list[float]]:
    """Seconds of each step in each round; steps run in random order within a round, the first rounds not kept."""
    shuffled = random.Random(0)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(warmup + rounds):
        for name in shuffled.sample(list(steps), len(steps)):
            seconds = clock(steps[name])
            if turn >= warmup:
                times[name].append(seconds)
    return times


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, first and third quartile."""
    ordered = sorted(values)
    low, high = (ordered[int((len(ordered) - 1) * share + 0.5)] for share in (0.25, 0.75))
    return statistics.median(ordered), low, high


def implementation_step(operation: Operation, name: str, arguments: Arguments) -> Callable[[], Any]:
    """One forward pass by one implementation, residuals included."""
    forward = operation.implementation(name).forward

    def step() -> Any:
        with torch.no_grad():
            return forward(*arguments)

    return step


def backward_step(call: Callable[..., Any], operation: Operation, arguments: Arguments) -> Callable[[], Any]:
    """One backward pass alone through ``call``, whose forward pass runs now, with gradients of ones from above."""
    leaves = [
        value.detach().requires_grad_() if name in operation.differentiable and value is not None else value
        for name, value in zip(operation.signature.names, arguments, strict=True)
    ]
    outputs = [output for output in as_tuple(call(*leaves)) if output.requires_grad]
    wanted = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.requires_grad]
    above = [torch.ones_like(output) for output in outputs]

    def step() -> Any:
        return torch.autograd.grad(outputs, wanted, above, retain_graph=True, allow_unused=True)

    return step


def expected_seconds(operation: Operation, device: torch.device, dtype: torch.dtype) -> float:
    """What the reference may take for the large call: its time for the typical one, by their flops and bytes."""
    small, large = (make(device, dtype) for make in (operation.example, operation.large))
    step = implementation_step(operation, "reference", small)
    step()
    costs = [operation.cost(operation.call(*arguments)) for arguments in (small, large)]
    growth = max((b / max(a, 1) for a, b in zip(*costs, strict=True)), default=1.0)
    return Clock(device)(step) * growth


def bench(
    operation: Operation,
    device: torch.device,
    dtype: torch.dtype,
    rounds: int,
    *,
    compiled: bool = False,
    patience: float = PATIENCE,
) -> list[Timing]:
    """Time every implementation of an operation, forwards, on its large call.

    Args:
        operation: the operation.
        device: where.
        dtype: of the activations; the operation's first where it does not take this one.
        rounds: calls of each that are timed, at least 1.
        compiled: also time torch.compile of the reference.
        patience: seconds; a reference that may take longer for one call is left out.

    Raises:
        MaquetteError: there is no such device here.
    """
    if device.type == "cuda" and not torch.cuda.is_available():
        raise MaquetteError(f"kernels bench: no CUDA device is here for {device}; ask for --device cpu")
    dtype = dtype if dtype in operation.dtypes else operation.dtypes[0]
    arguments = operation.large(device, dtype)
    steps, reasons = _contestants(operation, arguments, expected_seconds(operation, device, dtype), patience)
    if compiled and "reference" in steps:
        graph = torch.compile(operation.reference, dynamic=False)
        steps[COMPILED] = lambda: graph(*arguments)
        broken = _first_error(steps[COMPILED])
        if broken is not None:
            reasons[COMPILED] = broken
            del steps[COMPILED]
    times = take_turns(steps, max(rounds, 1), Clock(device))
    cost = operation.cost(operation.call(*arguments))
    place = (str(device), str(dtype).removeprefix("torch."))
    found = [_timing(operation.name, name, place, times, cost) for name in steps]
    return found + [Timing(operation.name, name, *place, reason=reason) for name, reason in reasons.items()]


def _contestants(
    operation: Operation, arguments: Arguments, expected: float, patience: float
) -> tuple[dict[str, Callable[[], Any]], dict[str, str]]:
    """Steps of the implementations that take the call, and why the others are left out."""
    steps: dict[str, Callable[[], Any]] = {}
    reasons: dict[str, str] = {}
    call = operation.call(*arguments)
    for implementation in operation.implementations:
        reason = implementation.supports(call)
        if reason is None and implementation.name == "triton" and call.device.type == "cpu":
            reason = "Triton's interpreter says nothing about speed"
        if implementation.name == "reference" and expected > patience:
            reason = f"may take {expected:.0f} s; ask for --patience {expected:.0f} to see"
        if reason is None:
            steps[implementation.name] = implementation_step(operation, implementation.name, arguments)
        else:
            reasons[implementation.name] = reason
    return steps, reasons


def _first_error(step: Callable[[], Any]) -> str | None:
    """Why a step cannot run at all: whatever a compiler makes of a stranger's reference."""
    try:
        step()
    except Exception as error:
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:80]}"
    return None


def _timing(
    operation: str, name: str, place: tuple[str, str], times: dict[str, list[float]], cost: tuple[int, int]
) -> Timing:
    seconds = quartiles(times[name])
    flops, moved = cost
    against = times.get("reference")
    ratio = None if against is None else statistics.median(a / b for a, b in zip(against, times[name], strict=True))
    return Timing(operation, name, *place, seconds, moved / seconds[0] / 1e9, flops / seconds[0] / 1e12, ratio)


def table(timings: Sequence[Timing]) -> str:
    """Timings as lines of columns."""
    width = max((len(t.operation) for t in timings), default=0)
    heading = f"{'operation'.ljust(width)}  {'dtype':9}{'implementation':20}{'ms (quartiles)':>30}{'GB/s':>9}"
    lines = [f"{heading}{'TFLOP/s':>10}{'x reference':>13}"]
    for t in timings:
        row = f"{t.operation.ljust(width)}  {t.dtype:9}{t.implementation:20}"
        if t.seconds is None:
            lines.append(f"{row}  {t.reason}")
            continue
        middle, low, high = (value * 1e3 for value in t.seconds)
        spread = f"{middle:.3f} ({low:.3f}-{high:.3f})"
        ratio = "" if t.ratio is None else f"{t.ratio:.2f}"
        lines.append(f"{row}{spread:>30}{t.gigabytes:9.2f}{t.teraflops:10.4f}{ratio:>13}")
    return "\n".join(lines)
