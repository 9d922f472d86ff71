"""Runs in a process of its own, so that a kernel that crashes fails one test and not the whole run.

``python triton_child.py properties`` holds the Triton implementations to every property, in the interpreter.
``python triton_child.py faults DIRECTORY`` plants faults in copies of the kernels and prints which were
caught, as JSON. ``python triton_child.py compile`` compiles every kernel for sm_90 with no GPU and prints
facts about the code, as JSON.
"""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import torch

import maquette_kernels
from maquette_kernels.operation import Implementation, Operation
from maquette_kernels.testing import check_operation
from maquette_kernels.transformer.gated_norm_modulate import GATED_NORM_MODULATE
from maquette_kernels.transformer.qk_norm_rope import QK_NORM_ROPE

OPERATIONS = {operation.name: operation for operation in (QK_NORM_ROPE, GATED_NORM_MODULATE)}
ROPE, NORM = "qk_norm_rope", "gated_norm_modulate"
FAULTS = {
    "store without the mask of the padded pairs": (
        ROPE, "& (pair < half)[None, None, :]\n    row = ", "& (pair < HALF)[None, None, :]\n    row = "
    ),
    "gradient rotated the wrong way": (
        ROPE, "second = g_second * cos - g_first * sin", "second = g_second * cos + g_first * sin"
    ),
    "strides of k taken from q": (
        ROPE, "batch * k_batch + token * k_token", "batch * q_batch + token * q_token"
    ),
    "moments over the padding": (
        NORM, "centred = tl.where(mask, y - mean[:, None], 0.0)", "centred = y - mean[:, None]"
    ),
    "gradient without its mean": (NORM, "(u - average - normed * along)", "(u - normed * along)"),
    "last run of each sequence dropped": (NORM, "while slot <= last:", "while slot < last:"),
    "no gradient of y where there is one of out": (NORM, "if HAS_Y:", "if HAS_Y and not HAS_OUT:"),
}  # fmt: skip


def faulty_copy(name: str, old: str, new: str, directory: Path) -> ModuleType:
    """The kernels of an operation with one piece of source replaced."""
    source = (Path(maquette_kernels.__file__).parent / "transformer" / name / "triton_kernels.py").read_text()
    if old not in source:
        raise SystemExit(f"the fault's text is no longer in {name}: {old}")
    path = directory / f"{name}_{abs(hash(new))}.py"
    path.write_text(source.replace(old, new))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def examine_faulty(name: str, old: str, new: str, directory: Path) -> None:
    """Exit with 1 where the properties catch the fault, with 0 where they do not."""
    module = faulty_copy(name, old, new, directory)
    supports = OPERATIONS[name].implementation("triton").supports
    faulty = Implementation("faulty", module.forward, module.backward, supports)
    fields = {"name": f"{name}_faulty", "implementations": (faulty,)}
    operation: Operation = replace(OPERATIONS[name], **fields)
    try:
        check_operation(operation, implementations=["faulty"], examples=20, whole=False)
    except AssertionError:
        raise SystemExit(1) from None
    raise SystemExit(0)


def faults(directory: Path) -> dict[str, str]:
    """Each fault in a fork of its own: ``caught``, ``missed`` or the signal that ended it."""
    verdicts = {}
    for label, (name, old, new) in FAULTS.items():
        process = multiprocessing.get_context("fork").Process(target=examine_faulty, args=(name, old, new, directory))
        process.start()
        process.join()
        verdicts[label] = {0: "missed", 1: "caught"}.get(process.exitcode or 0, f"exit {process.exitcode}")
    return verdicts


def properties() -> dict[str, dict[str, int]]:
    """Every property of every Triton implementation."""
    return {
        name: check_operation(operation, implementations=["triton"], examples=20).cases
        for name, operation in OPERATIONS.items()
    }


def compilations() -> list[dict[str, object]]:
    """Facts about each kernel as compiled for sm_90."""
    facts = []
    for name, operation in OPERATIONS.items():
        for compilation in operation.implementation("triton").compilations():  # type: ignore[misc]
            compiled = compilation.compile("sm_90")
            ptx = compiled.asm["ptx"]
            facts.append(
                {
                    "kernel": f"{name}.{compilation.kernel.__name__}",
                    "shared": compiled.metadata.shared,
                    "wide": ptx.count("ld.global.v4") + ptx.count("ld.global.v2.b64"),
                    "atomics": ptx.count("atom.") + ptx.count("red.global"),
                    "imprecise": ptx.count("cos.approx") + ptx.count("sin.approx"),
                }
            )
    return facts


if __name__ == "__main__":
    torch.set_num_threads(1)
    tasks = {"properties": properties, "compile": compilations, "faults": lambda: faults(Path(sys.argv[2]))}
    sys.stdout.write(json.dumps(tasks[sys.argv[1]]()))
