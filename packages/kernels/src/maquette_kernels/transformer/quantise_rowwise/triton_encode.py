"""Device functions that turn float32 into e4m3 by its bits.

Triton's own conversion needs a Hopper card, cuts off instead of rounding in the interpreter and loses subnormals
there; integers are the same everywhere.
"""

from __future__ import annotations

import triton
import triton.language as tl

LARGEST = tl.constexpr(448.0)
SMALLEST_SCALE = tl.constexpr(2.0**-100)
INFINITE = tl.constexpr(0x7F800000)
SUBNORMAL = tl.constexpr(16384.0)
"""Added to a number below 2^-6 its lowest bit is worth 2^-9, the step of e4m3's subnormals, so the sum is rounded."""


@triton.jit
def row_scale(x, POWER_OF_TWO: tl.constexpr):
    """The scale of each row of a tile [ROWS, DIM] padded with zeros; NaN where a row has NaN or infinity.

    The largest magnitude is found among bits: as integers they stand in the same order, with NaN on top.
    """
    magnitude = tl.max(x.to(tl.int32, bitcast=True) & 0x7FFFFFFF, 1)
    needed = tl.maximum(tl.div_rn(magnitude.to(tl.float32, bitcast=True), LARGEST), SMALLEST_SCALE)
    bits = needed.to(tl.int32, bitcast=True)
    if POWER_OF_TWO:
        # Adding all but one of the mantissa's bits carries into the exponent unless the number is a power of two.
        bits = (bits + 0x7FFFFF) & -0x800000
    return tl.where(magnitude < INFINITE, bits, 0x7FC00000).to(tl.float32, bitcast=True)


@triton.jit
def encode(x, scale, POWER_OF_TWO: tl.constexpr):
    """``x / scale`` of a tile [ROWS, DIM] in e4m3, as the bytes that it is made of; ties to even."""
    if POWER_OF_TWO:
        ratio = x * tl.div_rn(1.0, scale)[:, None]
    else:
        ratio = tl.div_rn(x, scale[:, None] + x * 0.0)
    bits = ratio.to(tl.int32, bitcast=True)
    sign = (bits >> 24) & 0x80
    magnitude = bits & 0x7FFFFFFF
    size = magnitude.to(tl.float32, bitcast=True)
    # Half of the last bit that stays, less one where that bit is 0: then the exponents' bias of 127 becomes one of 7.
    normal = ((magnitude + 0x7FFFF + ((magnitude >> 20) & 1)) >> 20) - (120 << 3)
    subnormal = (size + SUBNORMAL).to(tl.int32, bitcast=True) & 0x7FFFFF
    code = tl.where(size < 0.015625, subnormal, tl.minimum(normal, 0x7E))
    code = tl.where(magnitude <= INFINITE, code, 0x7F)
    return (sign | code).to(tl.uint8)
