"""Attention of ragged batches and of windows, and quantisation in rows, against what people write without them.

``python benchmarks/kernels_attention.py [--rounds 15] [--threads 1] [--clock cpu]``: medians, and the ratio peer / ours
with its quartiles, all peers in random order within each round. The default clock counts the process's own time, which
neighbours on the machine disturb least; ``--clock wall`` suits a quiet machine and several threads.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import torch
from interleaved import measure, ratio_line
from torch import Tensor
from torch.nn import functional as F

from maquette.precision.fp8_product import quantize
from maquette_kernels.transformer.functions import (
    fp8_modulated_linear,
    gated_norm_modulate,
    gated_norm_modulate_quantise,
    quantise_rowwise,
    ragged_attention,
)

Step = Callable[[], object]


def one_by_one(q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int]) -> Tensor:
    """A loop over sequences around torch's attention."""
    parts = zip(*(x.split(lengths) for x in (q, k, v)), strict=True)
    return torch.cat(
        [F.scaled_dot_product_attention(*(x.transpose(0, 1)[None] for x in part))[0].transpose(0, 1) for part in parts]
    )


def masked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """All against all under a mask."""
    whole = (x.transpose(0, 1)[None] for x in (q, k, v))
    return F.scaled_dot_product_attention(*whole, attn_mask=mask)[0].transpose(0, 1)


def nested(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor) -> Tensor:
    """torch's ragged tensors."""
    whole = (torch.nested.nested_tensor_from_jagged(x.contiguous(), offsets).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(*whole).transpose(1, 2).values()


def attention(lengths: Sequence[int], heads: int, dim: int, dtype: torch.dtype, *, backward: bool) -> dict[str, Step]:
    """One step of each contestant: views of a fused projection, forward and, if asked, backward."""
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    fused = torch.randn(sum(lengths), 3, heads, dim).to(dtype).requires_grad_(backward)
    above = torch.randn(sum(lengths), heads, dim).to(dtype)
    ids = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    mask = ids[:, None] == ids[None, :]

    def step(function: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Step:
        def run() -> None:
            out = function(*fused.unbind(1))
            if backward:
                torch.autograd.grad(out, fused, above)

        return run

    contestants = {
        "ours": step(lambda q, k, v: ragged_attention(q, k, v, offsets)),
        "one by one": step(lambda q, k, v: one_by_one(q, k, v, lengths)),
        "nested": step(lambda q, k, v: nested(q, k, v, offsets)),
    }
    if sum(lengths) <= 8192:
        contestants["masked"] = step(lambda q, k, v: masked(q, k, v, mask))
    return contestants


def quantisation(dtype: torch.dtype) -> dict[str, dict[str, Step]]:
    """Rows alone; fused with the norm; and the layer that takes them, which a CPU can only emulate."""
    x, h = torch.randn(2, 2, 1024, 1024).to(dtype)
    gate, scale, shift = torch.randn(2, 3072).to(dtype).chunk(3, -1)
    weight = torch.randn(1024, 1024).div(32).to(dtype)

    def apart() -> None:
        quantize(gated_norm_modulate(x, h, gate, scale, shift)[1])

    def exact() -> None:
        F.linear(gated_norm_modulate(x, h, gate, scale, shift)[1], weight)

    return {
        "quantise_rowwise": {"ours": lambda: quantise_rowwise(x), "eager": lambda: quantize(x)},
        "gated_norm_modulate_quantise": {
            "ours": lambda: gated_norm_modulate_quantise(x, h, gate, scale, shift),
            "apart": apart,
        },
        "fp8_modulated_linear": {
            "ours": lambda: fp8_modulated_linear(x, h, gate, scale, shift, weight),
            "exact": exact,
        },
    }


def main() -> None:
    """Print one line for each peer of each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=["cpu", "wall"], default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    cases = {
        "ragged, 8 sequences of 100 to 900": [100, 900, 350, 512, 77, 640, 220, 401],
        "64 windows of 64": [64] * 64,
        "16 windows of 256, ends of 4 sequences shorter": [256, 256, 256, 100] * 4,
    }
    print(
        f"{options.threads} thread(s), {options.rounds} rounds, {options.clock} time; ratio = peer / ours (quartiles)"
    )
    for dtype in (torch.float32, torch.bfloat16):
        for name, lengths in cases.items():
            for backward in (False, True):
                contestants = attention(lengths, 4, 64, dtype, backward=backward)
                times = measure(contestants, options.rounds, clock=clock)
                label = f"{name}, {str(dtype).removeprefix('torch.')}, {'fwd+bwd' if backward else 'fwd'}"
                for peer in list(contestants)[1:]:
                    print(f"{label:75s} {ratio_line(times, peer, 'ours')}")
        for name, contestants in quantisation(dtype).items():
            times = measure(contestants, options.rounds, clock=clock)
            peer = next(other for other in contestants if other != "ours")
            print(f"{name + ', ' + str(dtype).removeprefix('torch.'):75s} {ratio_line(times, peer, 'ours')}")


if __name__ == "__main__":
    main()
