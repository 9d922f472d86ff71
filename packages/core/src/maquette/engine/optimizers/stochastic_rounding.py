"""Stochastic rounding to bf16 with bits that depend on (name, step, element) alone: resume and sharding change nothing.

Rounding to nearest loses every update below half a unit in the last place (0.2 % of a weight in bf16); rounding up with
the probability of the remainder keeps it in the mean (Gupta et al. 2015; Zamirai et al. 2020).
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from maquette.parallel.shards import element_numbers, local

# Constants of the SplitMix64 generator (Steele, Lea & Flood 2014), as signed numbers: torch has no uint64 arithmetic.
_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_MIXERS = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64))
_STEP = 0xD1342543DE82EF95 - 2**64


def add_rounded(parameter: Tensor, change: Tensor, keep: float, counter: tuple[str, Tensor]) -> None:
    """``parameter = round(keep * parameter + change)`` in place.

    Args:
        parameter: bf16, plain or DTensor.
        change: fp32, of the local part's shape.
        keep: what is left after weight decay.
        counter: the parameter's name and the step (a scalar tensor), which the rounding is drawn from.
    """
    part = local(parameter)
    exact = part.float().mul_(keep).add_(change)
    part.copy_(round_stochastically(exact, random_bits(element_numbers(parameter), *counter)))


def random_bits(numbers: Tensor, name: str, step: Tensor) -> Tensor:
    """16 uniform bits for each element number.

    Args:
        numbers: int64, as :func:`element_numbers` counts them.
        name: of the parameter.
        step: scalar tensor; no copy to the host is made.

    Returns:
        int32 in [0, 65536), of the shape of ``numbers``.
    """
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    key = int.from_bytes(digest, "little", signed=True)
    bits = (numbers * _GOLDEN).add_(step.to(torch.int64) * _STEP + key)
    for shift, mixer in _MIXERS:
        # >> keeps the sign; the mask makes it a logical shift.
        bits.bitwise_xor_((bits >> shift).bitwise_and_((1 << (64 - shift)) - 1)).mul_(mixer)
    return bits.bitwise_right_shift_(40).bitwise_and_(0xFFFF).to(torch.int32)


def round_stochastically(exact: Tensor, bits: Tensor) -> Tensor:
    """fp32 to bf16: up with the probability of what rounding down would lose.

    Args:
        exact: fp32.
        bits: int32 in [0, 65536), of the same shape, uniform.

    Returns:
        bf16; what bf16 can hold stays as it is, and so do infinities and NaN.
    """
    # bf16 is fp32's upper half: adding to the lower half carries over with just that probability.
    moved = (exact.view(torch.int32) + bits).bitwise_and_(-0x10000)
    return torch.where(torch.isfinite(exact), moved.view(torch.float32), exact).to(torch.bfloat16)
