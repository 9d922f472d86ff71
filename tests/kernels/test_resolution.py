"""Which implementation runs, why, and how a user overrides it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from maquette import MaquetteError
from maquette_kernels import ops, registry, triton_support
from maquette_kernels.commands import kernels
from maquette_kernels.operation import Implementation, Operation
from maquette_kernels.overrides import OVERRIDES
from maquette_kernels.registry import use
from maquette_kernels.resolution import explain
from maquette_kernels.transformer.qk_norm_rope import QK_NORM_ROPE

CPU = torch.device("cpu")


def example(operation: Operation = QK_NORM_ROPE, dtype: torch.dtype = torch.float32) -> tuple[Any, ...]:
    return operation.example(CPU, dtype)


def test_the_fast_path_runs_on_cpu_and_triton_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_support, "interpreting", lambda: False)
    call = QK_NORM_ROPE.call(*example())
    told = {e.implementation: e for e in explain(QK_NORM_ROPE, call)}
    assert told["cpu"].chosen
    assert told["triton"].refusal == "needs CUDA tensors, got cpu"
    assert told["reference"].refusal is None
    assert not told["reference"].chosen
    elsewhere = {e.implementation: e for e in explain(QK_NORM_ROPE, call.on("cuda"))}
    assert elsewhere["triton"].chosen
    assert elsewhere["cpu"].refusal == "needs CPU tensors, got cuda"


def test_triton_refuses_what_it_cannot_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refusal(*arguments: Any) -> str | None:
        return QK_NORM_ROPE.implementation("triton").supports(QK_NORM_ROPE.call(*arguments).on("cuda"))

    q, k, *rest = example()
    assert refusal(q, k, *rest) is None
    assert "float64" in str(refusal(q.double(), k.double(), *rest))
    columns_first = q.transpose(2, 3).contiguous().transpose(2, 3)
    assert "not contiguous" in str(refusal(columns_first, k, *rest))
    monkeypatch.setattr(triton_support, "installed", lambda: False)
    assert refusal(q, k, *rest) == "triton is not installed"


def test_use_overrides_within_its_block_only() -> None:
    q, k, *rest = example()
    with use("qk_norm_rope", "reference"):
        assert QK_NORM_ROPE.resolve((q, k, *rest), False).name == "reference"
        with use("qk_norm_rope", "cpu"):
            assert QK_NORM_ROPE.resolve((q, k, *rest), False).name == "cpu"
        assert QK_NORM_ROPE.resolve((q, k, *rest), False).name == "reference"
        inside = ops.qk_norm_rope(q, k, *rest[:3])
    assert QK_NORM_ROPE.resolve((q, k, *rest), False).name == "cpu"
    torch.testing.assert_close(inside, ops.qk_norm_rope(q, k, *rest[:3]))


def test_forward_and_backward_may_run_different_implementations() -> None:
    q, k, *rest = example()
    q = q.detach().requires_grad_()
    expected = torch.autograd.grad(ops.qk_norm_rope(q, k, *rest[:3])[0].square().sum(), q)[0]
    with use("qk_norm_rope", "reference"):
        total = ops.qk_norm_rope(q, k, *rest[:3])[0].square().sum()
    torch.testing.assert_close(torch.autograd.grad(total, q)[0], expected)


def test_an_override_that_cannot_run_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_support, "interpreting", lambda: False)
    with (
        use("qk_norm_rope", "triton"),
        pytest.raises(MaquetteError, match="'triton' was asked for but refuses"),
    ):
        QK_NORM_ROPE(*example())


def test_the_environment_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAQUETTE_KERNELS", "qk_norm_rope=reference, gated_norm_modulate=cpu")
    OVERRIDES.reread()
    try:
        assert QK_NORM_ROPE.resolve(example(), False).name == "reference"
        with use("qk_norm_rope", "cpu"):
            assert QK_NORM_ROPE.resolve(example(), False).name == "cpu"
    finally:
        monkeypatch.delenv("MAQUETTE_KERNELS")
        OVERRIDES.reread()
    assert QK_NORM_ROPE.resolve(example(), False).name == "cpu"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("qk_norm_rope", "not written operation=implementation"),
        ("qk_norm_ropes=cpu", "did you mean 'qk_norm_rope'"),
        ("qk_norm_rope=cuda", "unknown implementation of kernel 'qk_norm_rope': 'cuda'"),
    ],
)
def test_a_wrong_environment_is_told(text: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAQUETTE_KERNELS", text)
    OVERRIDES.reread()
    try:
        with pytest.raises(MaquetteError, match=message) as called:
            QK_NORM_ROPE(*example())
        monkeypatch.delitem(registry._built, "qk_norm_rope", raising=False)
        with pytest.raises(MaquetteError, match=message) as found:
            registry.find("qk_norm_rope")
    finally:
        monkeypatch.delenv("MAQUETTE_KERNELS")
        OVERRIDES.reread()
    assert "\n" not in str(called.value) + str(found.value)


def test_unknown_names_are_told() -> None:
    with pytest.raises(MaquetteError, match="unknown kernel 'nonsense'"), use("nonsense", "cpu"):
        pass
    with pytest.raises(MaquetteError, match="known: cpu, reference, triton"), use("qk_norm_rope", "fast"):
        pass


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: (a[0][..., :31], a[1][..., :31], *a[2:]), "D must be even, got 31"),
        (lambda a: (a[0], a[1][:1], *a[2:]), "must share a shape"),
        (lambda a: (*a[:4], a[4][:5], *a[5:]), r"positions must be \[64, 3\] or \[2, 64, 3\]"),
        (lambda a: (*a[:2], a[2][:4], *a[3:]), r"q_weight must be \[32\], got \(4,\)"),
        (lambda a: (a[0].to("meta"), *a[1:]), "its tensors lie on several devices"),
    ],
)
def test_calls_that_do_not_fit_are_told(change: Any, message: str) -> None:
    with pytest.raises(MaquetteError, match=message) as caught:
        QK_NORM_ROPE(*change(example()))
    assert "\n" not in str(caught.value)


def test_arguments_that_do_not_fit_are_told() -> None:
    with pytest.raises(MaquetteError, match=r"missing k, q_weight, k_weight, positions\); it takes q, k"):
        QK_NORM_ROPE(example()[0])
    with pytest.raises(MaquetteError, match="unexpected epsilon"):
        QK_NORM_ROPE(*example()[:5], epsilon=1e-5)


def test_a_faulty_operation_is_told_where_it_is_made() -> None:
    def untyped(a, b) -> torch.Tensor:  # type: ignore[no-untyped-def]
        return a + b

    def make(reference: Any, **fields: Any) -> Operation:
        return Operation("broken", reference, inputs=lambda d: None, example=example, cost=lambda c: (0, 0), **fields)

    with pytest.raises(MaquetteError, match="parameter 'a' of the reference is annotated None"):
        make(untyped)
    same = Implementation("cpu", untyped)
    with pytest.raises(MaquetteError, match="share a name"):
        make(untyped, implementations=(same, same))
    with pytest.raises(MaquetteError, match="build gave a int"):
        Operation.checked(7, "seven")


def test_resolution_is_remembered_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    cpu = QK_NORM_ROPE.implementation("cpu")
    monkeypatch.setitem(cpu.__dict__, "supports", asked.append)
    OVERRIDES.reread()
    for _ in range(3):
        QK_NORM_ROPE.resolve(example(), False)
    assert len(asked) == 1
    QK_NORM_ROPE.resolve(example(dtype=torch.bfloat16), False)
    assert len(asked) == 2


def test_the_command_lists_and_explains() -> None:
    listed = CliRunner().invoke(kernels, ["list"])
    assert listed.exit_code == 0
    assert "qk_norm_rope" in listed.output
    assert "cpu, triton, reference" in listed.output
    told = CliRunner().invoke(kernels, ["explain", "gated_norm_modulate"])
    assert told.exit_code == 0
    assert "needs CPU tensors, got cuda" in told.output
    assert told.output.count("runs") == 4
    wrong = CliRunner().invoke(kernels, ["explain", "gated_norm"])
    assert isinstance(wrong.exception, MaquetteError)


BACKWARD_ONLY = {"reverse", "reverse_order"}
LOOKED_UP = {"neighbour_map", "coarsen"}
"""Operations that compare and count, and do no arithmetic."""


def test_costs_are_those_of_one_pass() -> None:
    for name, operation in registry.operations().items():
        call = operation.call(*example(operation))
        flops, moved = operation.cost(call)
        read = {
            operand_name: operand for operand_name, operand in call.given.items() if operand_name not in BACKWARD_ONLY
        }
        assert moved >= sum(operand.bytes for operand in read.values()), name
        assert flops == 0 if name in LOOKED_UP else flops >= max(operand.numel for operand in read.values()), name


def test_listing_names_imports_no_torch() -> None:
    code = "import sys, maquette_kernels.plugin; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
