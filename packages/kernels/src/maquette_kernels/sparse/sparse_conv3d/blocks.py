"""Register blocks of the CPU path: small pieces of machine code, written as LLVM vectors, for numba to inline.

A block multiplies a few gathered rows with a strip of a weight and adds to scattered rows, all sums staying in vector
registers; numba's own loops leave them in memory. Widths follow the processor: 32 registers of 16 floats with AVX-512,
16 of 8 on other x86, 32 of 4 elsewhere.

Operands hold one float in each four bytes or, where the processor multiplies bfloat16, two bfloat16 whose products are
both added (``PAIRED``); arrays of the latter are int32. Sums are float32 in either case. All other arguments are
addresses and sizes, counted in such units.
"""

# Machine code takes addresses and sizes by position.
# ruff: noqa: PLR0917
from __future__ import annotations

from typing import Any

import numba
from llvmlite import binding, ir
from numba.core import cgutils, config, types
from numba.extending import intrinsic

FEATURES = dict(binding.get_host_cpu_features())
"""What this processor can do, by LLVM's names."""

_FOR_HOST = bool(config.ENABLE_AVX) and config.CPU_NAME is None and config.CPU_FEATURES is None
PAIRED = _FOR_HOST and bool(FEATURES.get("avx512bf16"))
"""Whether there are blocks for pairs of bfloat16; not where numba is told to compile for another processor, for which
LLVM would find no instruction and abort.
"""


def _shape() -> tuple[int, int]:
    """Floats in a vector register, and registers side by side in a block."""
    if FEATURES.get("avx512f", False):
        return 16, 4
    return (8, 2) if "x86" in binding.get_process_triple() else (4, 4)


LANES, WIDE = _shape()
STRIP, HALF = LANES * WIDE, LANES * WIDE // 2
TALL = 6
FEW, CHANNELS = 4, 8
"""Channels of a block of the weight's gradient that is a strip wide, and of narrower ones."""

_FLOAT, _INT, _INDEX = ir.FloatType(), ir.IntType(64), ir.IntType(32)
_VECTOR = ir.VectorType(_FLOAT, LANES)


class _Block:
    """Writes loads, fused multiply-adds and stores of one block into a function under construction."""

    def __init__(self, builder: Any, tall: int, wide: int, *, paired: bool) -> None:
        self.builder, self.tall, self.wide, self.paired = builder, tall, wide, paired
        self.unit = _INDEX if paired else _FLOAT
        self.sums = [[cgutils.alloca_once(builder, _VECTOR) for _ in range(wide)] for _ in range(tall)]

    def at(self, base: Any, offset: Any, kind: Any, scale: int = 4) -> Any:
        """Pointer to ``base + scale * offset``, addresses being whole numbers."""
        offset = ir.Constant(_INT, offset) if isinstance(offset, int) else offset
        address = self.builder.add(base, self.builder.mul(offset, ir.Constant(_INT, scale)))
        return self.builder.inttoptr(address, kind.as_pointer())

    def row(self, base: Any, index: Any, place: Any, stride: Any) -> Any:
        """Address of row ``index[place]`` of a matrix of units."""
        number = self.builder.load(self.at(index, place, _INDEX), align=4)
        wide = self.builder.sext(number, _INT)
        return self.builder.add(base, self.builder.mul(self.builder.mul(wide, stride), ir.Constant(_INT, 4)))

    def factors(self, rows: list[Any], place: Any) -> list[Any]:
        """One unit of each row."""
        return [self.builder.load(self.at(row, place, self.unit), align=4) for row in rows]

    def vectors(self, row: Any, unit: Any) -> list[Any]:
        """The strip's vectors of a row."""
        places = [self.at(row, j * LANES, ir.VectorType(unit, LANES)) for j in range(self.wide)]
        return [self.builder.load(place, align=4) for place in places]

    def fetch(self, rows: list[Any], length: Any) -> None:
        """Ask for the first ``length`` units of rows that the next block needs, a cache line at a time."""
        byte = ir.IntType(8)
        kind = ir.FunctionType(ir.VoidType(), [byte.as_pointer(), *[_INDEX] * 3])
        ask = self.builder.module.declare_intrinsic("llvm.prefetch", [byte.as_pointer()], kind)
        how = [ir.Constant(_INDEX, number) for number in (0, 3, 1)]  # to read, to keep, data
        length = ir.Constant(_INT, length) if isinstance(length, int) else length
        with cgutils.for_range_slice(self.builder, ir.Constant(_INT, 0), length, ir.Constant(_INT, 16)) as (place, _):
            for row in rows:
                self.builder.call(ask, [self.at(row, place, byte), *how])

    def begin(self) -> None:
        """Sums start from 0."""
        for target in (target for sums in self.sums for target in sums):
            self.builder.store(ir.Constant(_VECTOR, None), target)

    def add(self, factors: list[Any], vectors: list[Any]) -> None:
        """``sums[r] += factors[r] * vectors``."""
        kind = ir.VectorType(self.unit, LANES)
        zeros = ir.Constant(ir.VectorType(_INDEX, LANES), [0] * LANES)
        undefined = ir.Constant(kind, ir.Undefined)
        for factor, sums in zip(factors, self.sums, strict=True):
            one = self.builder.insert_element(undefined, factor, ir.Constant(_INDEX, 0))
            spread = self.builder.shuffle_vector(one, undefined, zeros)
            for vector, total in zip(vectors, sums, strict=True):
                self.builder.store(self._product_and_sum(spread, vector, self.builder.load(total)), total)

    def _product_and_sum(self, left: Any, right: Any, total: Any) -> Any:
        """``total + left * right``, lane by lane."""
        name = f"llvm.x86.avx512bf16.dpbf16ps.{32 * LANES}" if self.paired else f"llvm.fma.v{LANES}f32"
        kind = ir.FunctionType(_VECTOR, [_VECTOR, left.type, right.type])
        call = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.call(call, [total, left, right] if self.paired else [left, right, total])

    def end(self, rows: list[Any]) -> None:
        """Add the sums to what is there."""
        for row, sums in zip(rows, self.sums, strict=True):
            for j, (total, vector) in enumerate(zip(sums, self.vectors(row, _FLOAT), strict=True)):
                found = self.builder.fadd(self.builder.load(total), vector)
                self.builder.store(found, self.at(row, j * LANES, _VECTOR), align=4)


def _make_multiply(wide: int) -> Any:
    """``out[rows[r]] += source[index[r]] @ weight`` for TALL pairs and one strip of columns; ``kind`` is the weight's
    dtype.
    """

    @intrinsic
    def multiply(typingctx, kind, source, index, weight, out, rows, depth, width):  # type: ignore[no-untyped-def]
        def write(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            _, source, index, weight, out, rows, depth, width = arguments
            block = _Block(builder, TALL, wide, paired=kind.dtype == types.int32)
            sources = [block.row(source, index, r, depth) for r in range(TALL)]
            targets = [block.row(out, rows, r, width) for r in range(TALL)]
            following = range(TALL, 2 * TALL)
            block.fetch([block.row(source, index, r, depth) for r in following], depth)
            block.fetch([block.row(out, rows, r, width) for r in following], wide * LANES)
            block.begin()
            with cgutils.for_range(builder, depth) as loop:
                strip = builder.add(weight, builder.mul(builder.mul(loop.index, width), ir.Constant(_INT, 4)))
                block.add(block.factors(sources, loop.index), block.vectors(strip, block.unit))
            block.end(targets)
            return context.get_dummy_value()

        return numba.void(kind, *[numba.int64] * 7), write

    return multiply


def _make_correlate(tall: int, wide: int) -> Any:
    """``total[c] += source[index[p], c] * upstream[rows[p]]`` over ``count`` pairs, for ``tall`` channels and
    one strip of columns; ``kind`` is the operands' dtype.
    """

    @intrinsic
    def correlate(typingctx, kind, source, index, upstream, rows, total, depth, width, count):  # type: ignore[no-untyped-def]
        def write(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            _, source, index, upstream, rows, total, depth, width, count = arguments
            block = _Block(builder, tall, wide, paired=kind.dtype == types.int32)
            bytes_ = builder.mul(width, ir.Constant(_INT, 4))
            targets = [builder.add(total, builder.mul(bytes_, ir.Constant(_INT, c))) for c in range(tall)]
            channels = [ir.Constant(_INT, 4 * c) for c in range(tall)]
            block.begin()
            with cgutils.for_range(builder, count) as loop:
                row = block.row(source, index, loop.index, depth)
                places = [builder.add(row, channel) for channel in channels]
                found = block.vectors(block.row(upstream, rows, loop.index, width), block.unit)
                block.add(block.factors(places, 0), found)
            block.end(targets)
            return context.get_dummy_value()

        return numba.void(kind, *[numba.int64] * 8), write

    return correlate


multiply_wide, multiply_half, multiply_narrow = _make_multiply(WIDE), _make_multiply(WIDE // 2), _make_multiply(1)
correlate_wide, correlate_half = _make_correlate(FEW, WIDE), _make_correlate(CHANNELS, WIDE // 2)
correlate_narrow = _make_correlate(CHANNELS, 1)
