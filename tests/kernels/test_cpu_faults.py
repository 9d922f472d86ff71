"""Faults planted in copies of the CPU paths: the properties must catch every one."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

import maquette_kernels
from maquette_kernels import registry
from maquette_kernels.operation import Implementation
from maquette_kernels.testing import check_operation

FAULTS = {
    "rotated the wrong way": ("qk_norm_rope", "sin * -second", "sin * second"),
    "gradient without its projection": ("qk_norm_rope", ".addcmul_(normed, along)", ""),
    "weights of the halves exchanged": ("qk_norm_rope", "first, second = weight", "second, first = weight"),
    "mean of squares not divided": ("qk_norm_rope", ".div_(x.shape[-1])", ""),
    "gradient of y dropped": ("gated_norm_modulate", "dy.add_(y_gradient)", "pass"),
    "gradient of scale not centred": ("gated_norm_modulate", "(y - mean).mul_(upstream)", "y * upstream"),
    "scale without its one": ("gated_norm_modulate", "scale.to(dtype) + 1, index", "scale.to(dtype), index"),
    "one gate for all": ("gated_norm_modulate", "index_select(0, index)", "index_select(0, index * 0)"),
}  # fmt: skip


@pytest.mark.parametrize("label", FAULTS)
def test_a_planted_fault_is_caught(label: str, tmp_path: Path) -> None:
    name, old, new = FAULTS[label]
    source = (Path(maquette_kernels.__file__).parent / "transformer" / name / "cpu.py").read_text()
    assert old in source
    path = tmp_path / "faulty_cpu.py"
    path.write_text(source.replace(old, new))
    spec = importlib.util.spec_from_file_location("faulty_cpu", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    faulty = Implementation("faulty", module.forward, module.backward, module.supports)
    operation = replace(registry.find(name), name=f"{name}_faulty", implementations=(faulty,))
    with pytest.raises(AssertionError, match=r"is off by|raises"):
        check_operation(operation, implementations=["faulty"], examples=25, whole=False)
