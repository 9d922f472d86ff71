"""What implementations in Triton share: when they can run, how large their tiles are, and compiling them with
no GPU.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch

from maquette_kernels.call import Call, capability

# Triton 3.10 stops fusing multiplications with additions by default; results are to stay as tested.
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MINIMUM_CAPABILITY = (8, 0)

SHARED_MEMORY = {"sm_80": 163 * 1024, "sm_90": 227 * 1024, "sm_100": 227 * 1024, "gfx942": 64 * 1024}
"""Bytes of shared memory that one program may use, by the targets that kernels are compiled for in tests."""

TARGETS = tuple(SHARED_MEMORY)


@cache
def installed() -> bool:
    """Whether Triton can be imported."""
    return find_spec("triton") is not None


def interpreting() -> bool:
    """Whether kernels run in Triton's interpreter, on CPU tensors. Set ``TRITON_INTERPRET=1`` before they are
    imported.
    """
    return os.environ.get("TRITON_INTERPRET") == "1"


def refusal(call: Call, *, rows: Sequence[str]) -> str | None:
    """Why no Triton kernel can run a call, or None.

    Args:
        call: the call.
        rows: operands whose innermost dimension must be contiguous.
    """
    if not installed():
        return "triton is not installed"
    device = call.device
    if device.type != "cuda" and not interpreting():
        return f"needs CUDA tensors, got {device.type}"
    found = capability(device)
    if found is not None and found < MINIMUM_CAPABILITY:
        return f"needs compute capability 8.0, this device has {found[0]}.{found[1]}"
    for name, operand in call.given.items():
        if operand.dtype.is_floating_point and operand.dtype not in DTYPES:
            return f"{name} is {operand.dtype}; it takes float32, bfloat16 and float16"
    for name in rows:
        if call.has(name) and call[name].strides[-1] != 1 and call[name].shape[-1] > 1:
            return f"rows of {name} are not contiguous (stride {call[name].strides[-1]})"
    return None


def tile(elements: int, *, limit: int = 4096) -> int:
    """How many items of ``elements`` each a program handles, a power of two.

    The interpreter pays by the operation, whatever its size, so there programs are few and large.
    """
    budget = 16384 if interpreting() else limit
    count = 1
    while count * 2 * elements <= budget and count < 64:
        count *= 2
    return count


@dataclass(frozen=True)
class Compilation:
    """A kernel with one choice of argument types (``"*bf16"``, ``"i64"``, ``"fp32"``) and constants, to
    compile ahead.
    """

    kernel: Any
    types: Mapping[str, str]
    constants: Mapping[str, Any]
    multiples: tuple[str, ...] = ()
    """Integer arguments taken to be multiples of 16, as the launcher finds sizes and strides of real models.
    """
    options: Mapping[str, int] = field(default_factory=dict)
    """What the launch sets besides: ``num_warps``, ``num_stages``."""
    expects: tuple[str, ...] = ()
    """Texts that PTX for sm_90 must contain, such as ``"ld.global.v4"``, ``"wgmma"`` or ``"cp.async"``."""

    def compile(self, target: str = "sm_90") -> Any:
        """Compile for one of :data:`TARGETS`, with no such device present. Gives Triton's compiled kernel.

        Pointers are taken to be aligned to 16 bytes, as the launcher finds them for torch allocations.
        Not under ``TRITON_INTERPRET=1``, which turns kernels into something the compiler does not know.

        Args:
            target: ``"sm_80"`` (Ampere), ``"sm_90"`` (Hopper), ``"sm_100"`` (Blackwell) or ``"gfx942"`` (MI300).
        """
        import triton
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource

        names = self.kernel.arg_names
        signature = {n: "constexpr" if n in self.constants else self.types[n] for n in names}
        aligned = {
            (i,): [["tt.divisibility", 16]]
            for i, n in enumerate(names)
            if signature[n].startswith("*") or n in self.multiples
        }
        source = ASTSource(self.kernel, signature, constexprs=dict(self.constants), attrs=aligned)
        if target.startswith("sm_"):
            chip = GPUTarget("cuda", int(target.removeprefix("sm_")), 32)
        else:
            chip = GPUTarget("hip", target, 64)
        return triton.compile(source, target=chip, options=dict(self.options))
