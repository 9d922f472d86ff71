"""Every kernel on a GPU: time, share of what the device can do, and ratios to PyTorch, forwards and backwards.

    python benchmarks/gpu_kernels.py [--only NAME,NAME] [--rounds 20] [--dtype bfloat16] [--patience 5]
        [--no-compiled] [--out FOLDER] [--tiny]

Each operation runs on its own large call and, where ``SIZES`` has them, on others. Times are of CUDA events, the
second-level cache flushed before each call, in turn with the operation's reference in PyTorch, eager and compiled;
medians. The share of the roofline is the least time that the operation's bytes and flops need at the rates of copying
and of dense products measured just before, by the time that it took. A backward pass is taken to need twice the
flops, and to read the arguments and the gradients from above and write those of the arguments once. References that
may take longer than ``--patience`` seconds are left out.

Writes gpu_kernels.json and gpu_kernels.md. ``--tiny`` covers this code on a CPU in Triton's interpreter, on small
calls; its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

if "--tiny" in sys.argv:
    os.environ["TRITON_INTERPRET"] = "1"  # before any kernel is imported

import torch
from torch import Tensor

import maquette_kernels.plugin
from maquette import plugins
from maquette_kernels.benchmarking import Clock, backward_step, expected_seconds, take_turns
from maquette_kernels.implementation import Arguments
from maquette_kernels.operation import Operation
from maquette_kernels.registry import find, operations
from maquette_kernels.resolution import fixed
from maquette_kernels.specification import as_tuple

Step = Callable[[], Any]
Maker = Callable[[torch.device, torch.dtype], Arguments]


@dataclass(frozen=True)
class Roofline:
    """What the device was measured to do: bytes copied (read and written) and flops of dense products a second."""

    bytes: float
    flops: Mapping[torch.dtype, float]

    def least(self, cost: tuple[int, int], dtype: torch.dtype) -> float:
        """Seconds that so many flops and bytes need at least."""
        return max(cost[0] / self.flops[dtype], cost[1] / self.bytes)


@dataclass(frozen=True)
class Row:
    """One call in one direction; ``share`` is of the roofline, ratios are PyTorch's time by ours."""

    operation: str
    size: str
    dtype: str
    direction: str
    implementation: str
    milliseconds: float = 0.0
    gigabytes: float = 0.0
    teraflops: float = 0.0
    share: float = 0.0
    eager: float | None = None
    compiled: float | None = None
    error: str | None = None


def modulated(batch: int) -> Maker:
    """A DiT's residual stream between two branches: 8,192 tokens of 1,536 channels (24 MB a sample in bfloat16)."""

    def make(device: torch.device, dtype: torch.dtype) -> Arguments:
        x, h = torch.randn(2, batch, 8192, 1536, device=device, dtype=dtype)
        gate, scale, shift = torch.randn(batch, 3 * 1536, device=device, dtype=dtype).chunk(3, -1)
        return x, h, gate, scale, shift, None, 1e-6

    return make


def rotated(batch: int) -> Maker:
    """Queries and keys of 12 heads of 128 channels, views of a fused projection."""

    def make(device: torch.device, dtype: torch.dtype) -> Arguments:
        q, k, _ = torch.randn(batch, 8192, 3, 12, 128, device=device, dtype=dtype).unbind(2)
        weight = torch.ones(128, device=device)
        positions = torch.randint(0, 64, (8192, 3), device=device).float()
        return q, k, weight, weight, positions, 1e-6, 10000.0

    return make


def neighbours(clouds: int, size: int, k: int) -> Maker:
    """Points of a ragged batch and others near them."""

    def make(device: torch.device, dtype: torch.dtype) -> Arguments:
        queries, points = torch.rand(2, clouds * size, 3, device=device, dtype=dtype)
        offsets = torch.arange(clouds + 1, device=device) * size
        return queries, points, k, offsets, offsets

    return make


def farthest(clouds: int, size: int, count: int) -> Maker:
    """A ragged batch of clouds."""

    def make(device: torch.device, dtype: torch.dtype) -> Arguments:
        points = torch.rand(clouds * size, 3, device=device, dtype=dtype)
        return points, count, torch.arange(clouds + 1, device=device) * size, 0

    return make


SIZES: dict[str, dict[str, Maker]] = {
    "gated_norm_modulate": {"1 x 8192 x 1536": modulated(1), "8 x 8192 x 1536": modulated(8)},
    "qk_norm_rope": {"1 x 8192 x 12 x 128": rotated(1), "8 x 8192 x 12 x 128": rotated(8)},
    "nearest_neighbours": {"100000, k 1": neighbours(1, 100_000, 1), "32 x 8192, k 8": neighbours(32, 8192, 8)},
    "farthest_points": {"132 x 8192 -> 1024": farthest(132, 8192, 1024), "100000 -> 4096": farthest(1, 100_000, 4096)},
}


def measure_roofline(device: torch.device, rounds: int, *, tiny: bool) -> Roofline:
    """Rates of a large copy, and of square products in each dtype; float32 ones without tensor cores' shortcuts."""
    clock = Clock(device)
    source = torch.empty(2**20 if tiny else 2**30, dtype=torch.int8, device=device)
    target = torch.empty_like(source)
    side = 64 if tiny else 8192
    steps: dict[str, Step] = {"copy": lambda: target.copy_(source)}
    dtypes = (torch.float32, torch.bfloat16, torch.float16)
    for dtype in dtypes:
        a, b = torch.randn(2, side, side, device=device).to(dtype)
        steps[str(dtype)] = lambda a=a, b=b: a @ b
    seconds = {name: statistics.median(times) for name, times in take_turns(steps, rounds, clock, warmup=3).items()}
    rates = {dtype: 2 * side**3 / seconds[str(dtype)] for dtype in dtypes}
    return Roofline(2 * source.numel() / seconds["copy"], rates | {torch.float64: rates[torch.float32] / 2})


def attempt(make: Callable[[], Step]) -> tuple[Step | None, str | None]:
    """A step that has run once, or why it cannot: too little memory, or whatever a compiler makes of a reference."""
    try:
        step = make()
        step()
    except Exception as error:  # one reference that does not fit must not end the others' benchmark
        torch.cuda.empty_cache()
        return None, f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:100]}"
    return step, None


def contestants(
    operation: Operation, arguments: Arguments, direction: str, options: argparse.Namespace, *, with_peers: bool
) -> tuple[dict[str, Step], str | None]:
    """Steps of ours, of the reference and of the compiled reference, as far as they run; and why ours does not."""
    calls: dict[str, Callable[..., Any]] = {"ours": operation}
    if with_peers:
        calls["eager"] = operation.reference
        if options.compiled:
            torch.compiler.reset()
            calls["compiled"] = torch.compile(operation.reference, dynamic=False)
    steps: dict[str, Step] = {}
    for name, call in calls.items():
        if direction == "forward":
            step, error = attempt(lambda call=call: lambda: call(*arguments))
        else:
            step, error = attempt(lambda call=call: backward_step(call, operation, arguments))
        if step is not None:
            steps[name] = step
        elif name == "ours":
            return {}, error
    return steps, None


def cost_of(operation: Operation, arguments: Arguments, direction: str) -> tuple[int, int]:
    """Flops and bytes at the least."""
    call = operation.call(*arguments)
    flops, moved = operation.cost(call)
    if direction == "forward":
        return flops, moved
    read = sum(operand.bytes for operand in call.given.values())
    written = sum(call[name].bytes for name in operation.differentiable if call.has(name))
    with torch.no_grad():
        above = sum(t.nbytes for t in as_tuple(operation(*arguments)) if t.is_floating_point())
    return 2 * flops, read + written + above


def measure_call(
    operation: Operation, size: str, arguments: Arguments, roofline: Roofline, options: argparse.Namespace
) -> Iterator[Row]:
    """A row for each direction of one call."""
    device = torch.device(options.device)
    floating = (v.dtype for v in arguments if isinstance(v, Tensor) and v.is_floating_point())
    dtype = next(floating, torch.float32)
    triton = operation.implementation("triton") if _has_triton(operation) else None
    takes = triton is not None and triton.supports(operation.call(*arguments)) is None
    name = "triton" if takes else operation.resolve(arguments, False).name
    patient = options.tiny or expected_seconds(operation, device, dtype) <= options.patience
    for direction in ("forward", "backward") if operation.differentiable else ("forward",):
        row = Row(operation.name, size, str(dtype).removeprefix("torch."), direction, name)
        with fixed(operation, name):
            steps, error = contestants(operation, arguments, direction, options, with_peers=patient)
            if error is not None:
                yield Row(**asdict(row) | {"error": error})
                continue
            times = take_turns(steps, options.rounds, Clock(device))
        cost = cost_of(operation, arguments, direction)
        yield finished(row, times, cost, roofline.least(cost, dtype))


def _has_triton(operation: Operation) -> bool:
    return any(implementation.name == "triton" for implementation in operation.implementations)


def finished(row: Row, times: dict[str, list[float]], cost: tuple[int, int], least: float) -> Row:
    """The row with its numbers."""
    seconds = statistics.median(times["ours"])
    ratios = {
        name: statistics.median(a / b for a, b in zip(theirs, times["ours"], strict=True))
        for name, theirs in times.items()
        if name != "ours"
    }
    numbers = {
        "milliseconds": seconds * 1e3,
        "gigabytes": cost[1] / seconds / 1e9,
        "teraflops": cost[0] / seconds / 1e12,
    }
    return Row(**asdict(row) | numbers | {"share": least / seconds} | ratios)


def markdown(rows: list[Row], roofline: Roofline, device: str) -> str:
    """The table of the documentation."""
    rate = roofline.flops[torch.bfloat16] / 1e12
    lines = [
        f"{device}: copies {roofline.bytes / 1e9:.0f} GB/s, dense bfloat16 products {rate:.0f} TFLOP/s.",
        "",
        "| operation | size | dtype | direction | by | ms | GB/s | TFLOP/s | roofline | eager | compiled |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        start = f"| {row.operation} | {row.size} | {row.dtype} | {row.direction} | {row.implementation} |"
        if row.error is not None:
            lines.append(f"{start} {row.error} | | | | | |")
            continue
        ratios = " | ".join("" if ratio is None else f"{ratio:.2f}x" for ratio in (row.eager, row.compiled))
        numbers = f"{row.milliseconds:.3f} | {row.gigabytes:.0f} | {row.teraflops:.2f} | {row.share:.0%}"
        lines.append(f"{start} {numbers} | {ratios} |")
    return "\n".join(lines) + "\n"


def measure_all(options: argparse.Namespace) -> tuple[list[Row], Roofline]:
    """Rows of every operation asked for, printed as they come."""
    device, asked = torch.device(options.device), getattr(torch, options.dtype)
    roofline = measure_roofline(device, options.rounds, tiny=options.tiny)
    rows: list[Row] = []
    for operation in [find(name) for name in options.only.split(",")] if options.only else operations().values():
        dtype = asked if asked in operation.dtypes else operation.dtypes[0]
        makers: dict[str, Maker] = {"its own": operation.large, **SIZES.get(operation.name, {})}
        for size, make in {"tiny": operation.example}.items() if options.tiny else makers.items():
            for row in measure_call(operation, size, make(device, dtype), roofline, options):
                rows.append(row)
                print(row, flush=True)
    return rows, roofline


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="names of operations, with commas; all by default")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--device", default="")
    parser.add_argument("--patience", type=float, default=5.0)
    parser.add_argument("--no-compiled", dest="compiled", action="store_false")
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    options.device = options.device or ("cpu" if options.tiny else "cuda")
    options.compiled = options.compiled and not options.tiny
    if not any(entry.name == "qk_norm_rope" for entry in plugins.registry("kernels")):
        plugins.manager().add(maquette_kernels.plugin, "kernels")
    rows, roofline = measure_all(options)
    device = torch.cuda.get_device_name() if options.device.startswith("cuda") else "a CPU, interpreted"
    text = markdown(rows, roofline, device)
    options.out.mkdir(parents=True, exist_ok=True)
    rates = {str(dtype).removeprefix("torch."): rate / 1e12 for dtype, rate in roofline.flops.items()}
    found = {"device": device, "copy_gigabytes": roofline.bytes / 1e9, "product_teraflops": rates}
    (options.out / "gpu_kernels.json").write_text(json.dumps(found | {"rows": [asdict(row) for row in rows]}, indent=1))
    (options.out / "gpu_kernels.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
