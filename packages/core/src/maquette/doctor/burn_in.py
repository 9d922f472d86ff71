"""Matrix products whose right answer is known to the last bit, on every process, as often as there is time.

About one device in a thousand computes wrongly now and then without telling. Comparing a device with itself or with its
neighbours finds that only if it does not always err; here the answer is stored. It is the same on every right machine
because nothing is ever rounded: all numbers are integers (times powers of two) that the format holds exactly, and so
are all their products and every partial sum, in whatever order and in whatever pieces a library adds them.

- float32: integers up to 127, sums of 1024 products, below 2^24. They fit into the 8 bits of bfloat16 and the 11 of
  TF32, so that no setting of reduced precision changes the answer.
- bfloat16 and float8 (e4m3): -1, 0 and 1, sums of 256 products, at most 2^8; rows and columns are scaled by powers of
  two up to 2^7, so that exponents are used too.

Many copies of the product are computed at once on a GPU, so that all of its units take part.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maquette.doctor.finding import Action, Finding, Status, not_applicable
from maquette.doctor.machine import Machine, outliers
from maquette.precision.fp8_product import native, scaled_matmul

SIZE = 1024
"""Rows and columns of the product."""
QUICK_ROWS = 256
"""Of the product, in a quick look."""
TERNARY_SUM = 256
"""Products in a sum of bfloat16 or float8."""

ANSWERS = {
    ("float32", SIZE): "b6786c7e6ce75e57cf7b3200bfa442482a3c76bfdd4438f0d801de6132ac5a40",
    ("float32", QUICK_ROWS): "1f00876f41e6858fa17866a8c045a765f7f5c63f82c73de332439da8821d784b",
    ("ternary", SIZE): "27169456a550256a1ff29c688c4d5f48f7aeb23ead12e1bca4ea1c163f3b508b",
    ("ternary", QUICK_ROWS): "3acc579fc42d328f1270fca70ce4e67f754df9f71e48e362f36ab0febf437a7b",
}
"""SHA-256 of the product's int32 values, row by row, little-endian."""


@dataclass
class BurnInConfig:
    """How long, and how much at once."""

    seconds: float = 2.0
    """For each number format; a quick look computes each product once."""
    gpu_copies: int = 64
    """Of the product at once on a GPU."""
    share: float = 0.75
    """Of the processes' median speed below which one is an outlier."""


@dataclass(frozen=True)
class Burned:
    """What one process computed: how often, how much a second at best, and what was wrong (empty: nothing)."""

    products: int
    tflops: float
    wrong: str


class BurnIn:
    """Matrix products against stored answers, bit by bit, in float32, bfloat16 and float8, and their speed."""

    together = True

    def __init__(self, config: BurnInConfig) -> None:
        self.config = config

    def __call__(self, machine: Machine) -> Iterator[Finding]:
        """All findings of all processes."""
        device = machine.mesh.device
        for precision in PRODUCTS:
            id = f"matmul.{precision}"
            if precision == "float8" and not all(machine.mesh.gather(native(device))):
                yield not_applicable(id, "this device does not multiply float8 itself")
                continue
            everybodys = machine.everybodys(partial(self._burn, precision, device, machine.quick))
            yield from self._right(id, everybodys)
            if not machine.quick:
                yield from self._fast(id, everybodys)

    def _burn(self, precision: str, device: torch.device, quick: bool) -> Burned:
        """One process's work."""
        rows = QUICK_ROWS if quick else SIZE
        copies = self.config.gpu_copies if device.type == "cuda" and not quick else 1
        kind = "float32" if precision == "float32" else "ternary"
        a, b = operands(kind)
        left, right = a[:rows].repeat(copies, 1).to(device), b.to(device)
        flops, best, count, wrong = 2.0 * copies * rows * a.shape[1] * SIZE, float("inf"), 0, ""
        end = time.perf_counter() + (0 if quick else self.config.seconds)
        while not wrong and (count == 0 or time.perf_counter() < end):
            begin = time.perf_counter()
            product = PRODUCTS[precision](left, right)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            best = min(best, time.perf_counter() - begin)
            wrong = compare(product.reshape(copies, rows, SIZE), kind)
            count += copies
        return Burned(count, flops / best / 1e12, wrong)

    def _right(self, id: str, everybodys: list[Burned]) -> Iterator[Finding]:
        wrong = {rank: burned.wrong for rank, burned in enumerate(everybodys) if burned.wrong}
        for rank, said in wrong.items():
            yield Finding(id, Status.CRITICAL, f"rank {rank}", "wrong", "the stored answer, bit by bit", said,
                          Action.DRAIN)  # fmt: skip
        if not wrong:
            count = sum(burned.products for burned in everybodys)
            evidence = f"{count} products"
            yield Finding(id, Status.PASS, "", "right", "the stored answer, bit by bit", evidence)

    def _fast(self, id: str, everybodys: list[Burned]) -> Iterator[Finding]:
        speeds = [burned.tflops for burned in everybodys]
        slow = outliers(speeds, self.config.share)
        for rank in slow:
            evidence = f"the fastest reaches {max(speeds):.3g}"
            yield Finding(f"{id}_speed", Status.WARN, f"rank {rank}", round(speeds[rank], 3),
                          f">= {self.config.share} of the others", evidence, Action.DRAIN, "TFLOP/s")  # fmt: skip
        if not slow:
            yield Finding(f"{id}_speed", Status.PASS, "", round(min(speeds), 3),
                          f">= {self.config.share} of the others", "the slowest process", unit="TFLOP/s")  # fmt: skip


def operands(kind: str) -> tuple[Tensor, Tensor]:
    """The two matrices as float32: [SIZE, K] and [K, SIZE], always the same."""
    a, b = integers(kind)
    return torch.from_numpy(a.astype(np.float32)), torch.from_numpy(b.astype(np.float32))


def integers(kind: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The two matrices as integers; their bytes come from SHAKE-256, which no library's version changes."""
    inner, largest = (SIZE, 127) if kind == "float32" else (TERNARY_SUM, 1)
    a = _bytes(f"{kind} left", SIZE * inner).reshape(SIZE, inner) % (2 * largest + 1) - largest
    b = _bytes(f"{kind} right", SIZE * inner).reshape(inner, SIZE) % (2 * largest + 1) - largest
    if kind == "ternary":
        a *= 2 ** (_bytes("rows", SIZE)[:, None] % 8)
        b *= 2 ** (_bytes("columns", SIZE)[None, :] % 8)
    return a, b


def _bytes(name: str, count: int) -> NDArray[np.int64]:
    return np.frombuffer(hashlib.shake_256(name.encode()).digest(count), np.uint8).astype(np.int64)


def digest(product: Tensor) -> str:
    """Of one product, as stored in :data:`ANSWERS`."""
    values = product.to(torch.float32).cpu().numpy()
    return hashlib.sha256(values.astype("<i4").tobytes()).hexdigest()


def compare(products: Tensor, kind: str) -> str:
    """What is wrong with products [copies, rows, SIZE]; empty where they are the stored answer, bit by bit."""
    first, rows = products[0], products.shape[1]
    odd = [copy for copy in range(1, len(products)) if not torch.equal(products[copy], first)]
    if not odd and bool(torch.isfinite(first).all()) and digest(first) == ANSWERS[kind, rows]:
        return ""
    a, b = integers(kind)
    # The slow, exact way, now that something is wrong: float64 holds all of these sums.
    right = torch.from_numpy(a[:rows].astype(np.float64) @ b.astype(np.float64))
    different = products.to(torch.float64).cpu() != right
    where = different.nonzero()
    if not len(where):
        return "the right product has another digest than the stored one; the installation is damaged"
    copy, row, column = where[0].tolist()
    found = float(products[copy, row, column])
    return (
        f"{len(where)} of {different.numel()} values are wrong, the first at copy {copy}, row {row}, column {column}: "
        f"{found:.9g} instead of {float(right[row, column]):.9g}"
    )


def _float32(a: Tensor, b: Tensor) -> Tensor:
    return a @ b


def _bfloat16(a: Tensor, b: Tensor) -> Tensor:
    return a.bfloat16() @ b.bfloat16()


def _float8(a: Tensor, b: Tensor) -> Tensor:
    one = torch.ones(1, 1, device=a.device)
    e4m3 = torch.float8_e4m3fn
    return scaled_matmul(a.to(e4m3), b.t().to(e4m3), one.expand(len(a), 1), one.expand(b.shape[1], 1), fast=False)


PRODUCTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "float32": _float32,
    "bfloat16": _bfloat16,
    "float8": _float8,
}
"""Number format -> the product of two matrices in it."""
