"""CPU path of the operations against the obvious eager code, forward and backward, at the sizes of a small
DiT.

Runs both in turn, in random order within a round, and prints medians over rounds with the spread of their
ratio: ``python benchmarks/kernels_elementwise.py [--rounds 60] [--threads 1] [--clock cpu]``. The default
clock counts the process's own CPU time, which neighbours on the machine disturb least; ``--clock wall`` suits
a quiet machine.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from maquette_kernels import ops


@dataclass(frozen=True)
class Contest:
    """Two functions that do the same, one step each: forward and, unless ``forward_only``, backward."""

    name: str
    eager: Callable[[], None]
    ours: Callable[[], None]


def obvious_qk_norm_rope(
    q: Tensor, k: Tensor, q_weight: Tensor, k_weight: Tensor, positions: Tensor
) -> tuple[Tensor, Tensor]:
    """What a careful author writes in plain torch: torch's RMSNorm, rotation of halves, one table for q and
    k.
    """
    half = q.shape[-1] // 2
    per_axis = half // 3
    frequencies = 10000.0 ** -(torch.arange(per_axis, dtype=torch.float32) / per_axis)
    phases = (positions[..., None] * frequencies).flatten(-2)
    phases = functional.pad(phases, (0, half - 3 * per_axis)).unsqueeze(-2)
    cos, sin = phases.cos(), phases.sin()

    def rotate(x: Tensor, weight: Tensor) -> Tensor:
        normed = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * weight
        first, second = normed.chunk(2, -1)
        return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)

    return rotate(q, q_weight), rotate(k, k_weight)


def obvious_gated_norm_modulate(
    x: Tensor, h: Tensor, gate: Tensor, scale: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor]:
    """Plain torch with its own LayerNorm."""
    y = x + gate.unsqueeze(1) * h
    normed = functional.layer_norm(y, y.shape[-1:], eps=1e-6)
    return y, normed * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1)


def qk_contest(batch: int, heads: int, *, by_sample: bool, backward: bool) -> Contest:
    """Views of a fused projection, as an attention block passes them."""
    tokens, dim = 64, 32
    fused = torch.randn(batch, tokens, 3, heads, dim, requires_grad=backward)
    weights = [torch.rand(dim, requires_grad=backward) for _ in range(2)]
    positions = 8 * torch.rand(*([batch] if by_sample else []), tokens, 3)
    above = [torch.randn(batch, tokens, heads, dim) for _ in range(2)]

    def step(function: Callable[..., tuple[Tensor, Tensor]]) -> None:
        q, k, _ = fused.unbind(2)
        outputs = function(q, k, *weights, positions)
        if backward:
            torch.autograd.grad(outputs, [fused, *weights], above)

    kind = f"qk_norm_rope B{batch} H{heads}{' positions by sample' if by_sample else ''}"
    return Contest(_label(kind, backward), lambda: step(obvious_qk_norm_rope), lambda: step(ops.qk_norm_rope))


def norm_contest(batch: int, width: int, *, backward: bool) -> Contest:
    """Gate, scale and shift as views of one projection of the condition."""
    tokens = 64
    x, h = (torch.randn(batch, tokens, width, requires_grad=backward) for _ in range(2))
    condition = torch.randn(batch, 3 * width, requires_grad=backward)
    above = [torch.randn(batch, tokens, width) for _ in range(2)]

    def step(function: Callable[..., tuple[Tensor, Tensor]]) -> None:
        outputs = function(x, h, *condition.chunk(3, -1))
        if backward:
            torch.autograd.grad(outputs, [x, h, condition], above)

    kind = f"gated_norm_modulate B{batch} D{width}"
    return Contest(
        _label(kind, backward),
        lambda: step(obvious_gated_norm_modulate),
        lambda: step(ops.gated_norm_modulate),
    )


def _label(kind: str, backward: bool) -> str:
    return f"{kind} {'fwd+bwd' if backward else 'fwd'}"


def measure(contest: Contest, rounds: int, clock: Callable[[], float]) -> tuple[float, float, list[float]]:
    """Median seconds of both, and each round's ratio eager / ours, sorted."""
    spent: dict[str, list[float]] = {"eager": [], "ours": []}
    for turn in range(rounds + 5):
        for name in random.sample(list(spent), 2):
            began = clock()
            getattr(contest, name)()
            if turn >= 5:
                spent[name].append(clock() - began)
    ratios = sorted(a / b for a, b in zip(spent["eager"], spent["ours"], strict=True))
    return statistics.median(spent["eager"]), statistics.median(spent["ours"]), ratios


def main() -> None:
    """Print one line a contest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=["cpu", "wall"], default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    random.seed(0)
    torch.manual_seed(0)
    # In a fresh process malloc maps and unmaps every tensor; one large block freed raises its threshold, as a
    # few steps of training do, so that page faults, which fall on both sides alike, do not drown what is
    # compared.
    torch.ones(6 * 2**20)
    contests = [
        *(qk_contest(b, h, by_sample=False, backward=True) for b, h in ((24, 4), (32, 6), (48, 8))),
        qk_contest(32, 6, by_sample=True, backward=True),
        qk_contest(32, 6, by_sample=False, backward=False),
        *(norm_contest(b, d, backward=True) for b, d in ((24, 128), (32, 192), (48, 256))),
        norm_contest(32, 192, backward=False),
    ]
    print(
        f"{options.threads} thread(s), {options.rounds} rounds, {options.clock} time; "
        "ratio = eager / ours, median [quartiles]"
    )
    for contest in contests:
        eager, ours, ratios = measure(contest, options.rounds, clock)
        low, middle, high = (ratios[int(len(ratios) * q)] for q in (0.25, 0.5, 0.75))
        times = f"{eager * 1e3:8.3f} ms eager {ours * 1e3:8.3f} ms ours"
        print(f"{contest.name:52s} {times}   {middle:.2f} [{low:.2f}, {high:.2f}]")


if __name__ == "__main__":
    main()
