"""Every registered operation, a stranger's as ours, is held to the same properties by the same function."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

import maquette_kernels.plugin
from maquette import hookimpl, plugins
from maquette_kernels import registry
from maquette_kernels.call import Call
from maquette_kernels.isolation import in_child
from maquette_kernels.operation import Implementation, Operation
from maquette_kernels.plugin import OPERATIONS
from maquette_kernels.testing import check_operation, check_registered

REGISTERED = [entry.name for entry in plugins.registry("kernels")]
OURS = {entry.name for entry in plugins.registry("kernels") if entry.plugin == "kernels"}


@dataclass(frozen=True)
class ScaledSumConfig:
    """Nothing to configure."""


def scaled_sum(a: Tensor, b: Tensor, factor: float = 2.0) -> Tensor:
    """``a + factor * b``."""
    return a + factor * b


def build_scaled_sum(config: ScaledSumConfig) -> Operation:
    """One addition and one product."""

    def draw(dtype: torch.dtype) -> st.SearchStrategy[tuple[Any, ...]]:
        sizes = st.tuples(st.sampled_from([0, 1, 5]), st.sampled_from([1, 7, 16]))
        return sizes.map(lambda s: (torch.ones(s, dtype=dtype), torch.full(s, 3.0, dtype=dtype), 0.5))

    def cost(call: Call) -> tuple[int, int]:
        return 2 * call["a"].numel, 3 * call["a"].bytes

    return Operation(
        name="scaled_sum",
        reference=scaled_sum,
        inputs=draw,
        example=lambda device, dtype: (torch.ones(2, 3, 4, device=device, dtype=dtype),) * 2 + (0.5,),
        cost=cost,
        implementations=(
            Implementation("fused", lambda a, b, factor: [torch.add(a, b, alpha=factor)]),
            Implementation("elsewhere", scaled_sum, supports=lambda call: "runs on another planet"),
        ),
    )


class Stranger:
    """A plugin from outside, registered as an object."""

    @hookimpl
    def register_kernels(self, register: Any) -> None:
        """One operation, and one that is none."""
        register("scaled_sum", ScaledSumConfig, build_scaled_sum)
        register("not_one", ScaledSumConfig, lambda config: 7)


@pytest.fixture
def with_stranger(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    manager = plugins.PluginManager(entry_points=False)
    manager.add(maquette_kernels.plugin, "kernels")
    manager.add(Stranger(), "stranger")
    monkeypatch.setattr(plugins, "manager", lambda: manager)
    yield
    registry._built.pop("scaled_sum", None)


EXAMPLES = {"cpu": 15, "triton": 8, "reference": 4}
DEEPER = 20


def test_ours_are_registered() -> None:
    assert set(OPERATIONS) == OURS
    assert len(OURS) >= 26


def implementations_of(name: str) -> list[str]:
    return [implementation.name for implementation in registry.find(name).implementations]


def hold(name: str, factor: int = 1) -> None:
    """Every implementation, each in a process of its own, so that a crash fails its test and not the run."""
    for implementation in implementations_of(name):
        report = in_child(
            check_registered,
            name,
            implementations=[implementation],
            examples=factor * EXAMPLES.get(implementation, EXAMPLES["cpu"]),
            whole=implementation == implementations_of(name)[0],
            timeout=900.0 * factor,
        )
        assert report.refused == {}
        assert report.cases[implementation] > 0


@pytest.fixture(scope="module", params=[1, pytest.param(DEEPER, marks=pytest.mark.kernels_deep)], ids=["", "deep"])
def verdicts(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[None]]]:
    """What :func:`hold` says of the operations of this run, as many at once as there are processors."""
    chosen = [item.callspec.params for item in request.session.items if "verdicts" in item.fixturenames]
    names = [each["name"] for each in chosen if each["verdicts"] == request.param]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {name: pool.submit(hold, name, request.param) for name in names}


@pytest.mark.parametrize("name", REGISTERED)
def test_every_registered_operation_holds(name: str, verdicts: dict[str, Future[None]]) -> None:
    verdicts[name].result()


def test_every_implementation_has_its_twins() -> None:
    for name in OURS:
        assert implementations_of(name) == ["cpu", "triton", "reference"], name


def test_a_crash_in_a_child_is_a_failure_here() -> None:
    assert in_child(sorted, [3, 1, 2]) == [1, 2, 3]
    with pytest.raises(AssertionError, match="was killed by SIGABRT"):
        in_child(os.abort)
    with pytest.raises(AssertionError, match="no answer in 1 s"):
        in_child(time.sleep, 60, timeout=1.0)
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        in_child(divmod, 1, 0)
    with pytest.raises(AssertionError, match="unknown kernel 'nonsense'"):
        in_child(check_registered, "nonsense")


@pytest.mark.parametrize("name", ["qk_norm_rope", "gated_norm_modulate"])
def test_float16_holds(name: str) -> None:
    report = check_operation(
        registry.find(name), implementations=["cpu"], dtypes=[torch.float16], examples=15, whole=False
    )
    assert report.cases == {"cpu": 15}


@pytest.mark.parametrize("name", ["qk_norm_rope", "gated_norm_modulate"])
def test_cpu_backward_against_finite_differences(name: str) -> None:
    operation = registry.find(name)
    arguments = [
        value.detach().double() if isinstance(value, Tensor) and value.is_floating_point() else value
        for value in operation.example(torch.device("cpu"), torch.float32)
    ]
    arguments[:2] = [value[:1, :3].clone() for value in arguments[:2]]
    if name == "qk_norm_rope":
        arguments[4] = arguments[4][:3]
    else:
        arguments[2:5] = [value[:1].clone() for value in arguments[2:5]]
    for place in operation.differentiable_places:
        arguments[place].requires_grad_()
    with_cpu = operation.resolve(tuple(arguments), True)
    assert with_cpu.name == "cpu"
    assert torch.autograd.gradcheck(operation, tuple(arguments), atol=1e-5, rtol=1e-4, fast_mode=True)


@pytest.mark.usefixtures("with_stranger")
def test_a_strangers_operation_is_as_good_as_ours() -> None:
    operation = registry.find("scaled_sum")
    report = check_operation(operation, examples=10)
    assert report.cases == {"fused": 20, "reference": 20}
    assert report.refused == {"elsewhere": "runs on another planet"}
    a = torch.ones(3, requires_grad=True)
    assert operation(a, torch.ones(3)).tolist() == [3.0, 3.0, 3.0]
    assert torch.autograd.grad(operation(a, b=torch.ones(3), factor=0.5).sum(), a)[0].tolist() == [
        1.0,
        1.0,
        1.0,
    ]


@pytest.mark.usefixtures("with_stranger")
def test_a_strangers_fault_is_found() -> None:
    faulty = Implementation("faulty", lambda a, b, factor: [a + b])
    operation = build_scaled_sum(ScaledSumConfig())
    wrong = Operation(
        name="scaled_sum_faulty",
        reference=scaled_sum,
        inputs=operation.inputs,
        example=operation.example,
        cost=operation.cost,
        implementations=(faulty,),
    )
    with pytest.raises(AssertionError, match=r"kernel 'scaled_sum_faulty' \(faulty\): result 0 is off by"):
        check_operation(wrong, examples=10)


@pytest.mark.gpu
@pytest.mark.parametrize("name", REGISTERED)
def test_every_registered_operation_holds_on_a_gpu(name: str) -> None:
    report = check_operation(registry.find(name), device="cuda", examples=200)
    assert report.cases["triton"] > 0
