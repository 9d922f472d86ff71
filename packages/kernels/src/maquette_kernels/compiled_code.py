"""Compiles every Triton kernel ahead for devices that need not be there, and reads what came out."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from maquette_kernels.registry import find
from maquette_kernels.triton_support import SHARED_MEMORY, TARGETS, Compilation

_FLOAT_ATOMICS = re.compile(r"\b(?:atom|red)\.[a-z0-9.:]*add[a-z0-9.]*\.(?:f16|bf16|f32|f64)")
_APPROXIMATE = re.compile(r"\b(?:sin|cos|lg2|tanh)\.approx")


@dataclass(frozen=True)
class CompiledKernel:
    """Facts about one kernel as compiled for one target.

    Attributes:
        kernel: ``operation.function``.
        target: ``"sm_90"`` and so on.
        shared: bytes of shared memory a program uses.
        local: bytes of local memory a thread spills to; None where the target's tools are absent.
        wrong: what the rules below find fault with.
    """

    kernel: str
    target: str
    shared: int
    local: int | None
    wrong: tuple[str, ...]


def compile_operation(name: str, targets: tuple[str, ...] = TARGETS) -> list[dict[str, Any]]:
    """Facts about every compilation that an operation's implementations list, as plain dictionaries.

    Rules: shared memory within the target's; no atomic addition of floats, whose order differs from run to run; no
    approximate sine or cosine, which is off for large phases; on sm_90, what the compilation ``expects`` is there.
    """
    found = []
    for implementation in find(name).implementations:
        for compilation in implementation.compilations() if implementation.compilations else ():
            found += [asdict(_examine(name, compilation, target)) for target in targets]
    return found


def _examine(name: str, compilation: Compilation, target: str) -> CompiledKernel:
    compiled = compilation.compile(target)
    shared = compiled.metadata.shared
    wrong = []
    if shared > SHARED_MEMORY[target]:
        wrong.append(f"{shared} bytes of shared memory, {target} has {SHARED_MEMORY[target]}")
    code = compiled.asm.get("ptx", "")
    wrong += [f"atomic addition of floats: {match.group()}" for match in _FLOAT_ATOMICS.finditer(code)]
    wrong += [f"approximate function: {match.group()}" for match in _APPROXIMATE.finditer(code)]
    if target == "sm_90":
        wrong += [f"no {text} in its PTX" for text in compilation.expects if text not in code]
    local = _spilled(compiled.asm["cubin"]) if "cubin" in compiled.asm else None
    return CompiledKernel(f"{name}.{compilation.kernel.__name__}", target, shared, local, tuple(wrong))


def _spilled(cubin: bytes) -> int | None:
    """Bytes of local memory a thread of a kernel uses; the tool comes with Triton."""
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if not tool.exists():
        return None
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        told = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=False).stdout
    stack = re.search(r"STACK:(\d+)", told)
    return int(stack.group(1)) if stack else None
