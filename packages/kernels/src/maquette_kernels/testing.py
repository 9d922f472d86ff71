"""The test of an operation, ours or a stranger's: ``check_operation``. Needs hypothesis
(``maquette-kernels[test]``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from maquette.errors import MaquetteError
from maquette_kernels import operator_properties, properties, registry
from maquette_kernels.layouts import LAYOUTS, UPSTREAMS
from maquette_kernels.operation import Operation
from maquette_kernels.properties import Case


@dataclass
class Report:
    """What was examined. ``cases`` counts calls that an implementation took, ``refused`` says why one took
    none.
    """

    operation: str
    cases: dict[str, int] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def check_operation(
    operation: Operation,
    *,
    implementations: Sequence[str] | None = None,
    dtypes: Sequence[torch.dtype] | None = None,
    device: str = "cpu",
    examples: int = 20,
    whole: bool = True,
) -> Report:
    """Hold an operation to every property: values, gradients, layouts, bits, laws, operator, compilation, cost.

    Calls are drawn from ``operation.inputs``, the same ones every time, and not shrunk.

    Args:
        operation: the operation.
        implementations: names of those to examine; all by default. One that refuses the typical call is
            reported, not failed.
        dtypes: dtypes of activations to draw; the operation's own by default.
        device: where the calls run.
        examples: calls drawn for each implementation and dtype.
        whole: whether to examine the operator itself too (torch's opcheck, gradcheck of the reference,
            torch.compile).

    Returns:
        How many calls each implementation took, and why others took none.

    Raises:
        AssertionError: a property fails; one line with the call that shows it.
        MaquetteError: hypothesis is not installed, or an implementation is unknown.
    """
    names = implementations or [implementation.name for implementation in operation.implementations]
    dtypes = operation.dtypes if dtypes is None else dtypes
    report = Report(operation.name)
    for name in names:
        typical = operation.example(torch.device(device), dtypes[0])
        refusal = operation.implementation(name).supports(operation.call(*typical))
        if refusal is not None:
            report.refused[name] = refusal
            continue
        report.cases[name] = sum(_examine(operation, name, dtype, device, examples) for dtype in dtypes)
        if whole and len(report.cases) == 1:  # the operator is the same whatever runs behind it
            typical_case = Case(operation, name, typical)
            operator_properties.operator_is_sound(typical_case)
            operator_properties.compiles_whole(typical_case)
    if whole:
        typical = operation.example(torch.device("cpu"), dtypes[0])
        operator_properties.reference_gradients(operation, typical)
        operator_properties.cost_is_sane(operation, typical)
    return report


def check_registered(name: str, **options: Any) -> Report:
    """:func:`check_operation` of a registered operation, which another process can be asked for by name:
    ``isolation.in_child(check_registered, "qk_norm_rope")``.
    """
    return check_operation(registry.find(name), **options)


def _examine(operation: Operation, name: str, dtype: torch.dtype, device: str, examples: int) -> int:
    """Draw calls and hold one implementation to their properties. Gives the number of calls it took."""
    try:
        from hypothesis import HealthCheck, Phase, given, settings
        from hypothesis import strategies as st
    except ImportError as error:
        raise MaquetteError("check_operation needs hypothesis; pip install 'maquette-kernels[test]'") from error
    taken = 0

    # Not shrunk: a shrinking run repeats slow cases for minutes, and the message names the call anyway.
    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        operation.inputs(dtype),
        st.sampled_from(LAYOUTS),
        st.sampled_from(UPSTREAMS),
        st.integers(0, 2**31 - 1),
    )
    def examine(arguments: tuple[Any, ...], layout: str, above: str, seed: int) -> None:
        nonlocal taken
        placed = tuple(v.to(device) if isinstance(v, torch.Tensor) else v for v in arguments)
        case = Case(operation, name, placed, layout, above, seed)
        if operation.implementation(name).supports(operation.call(*case.arranged)) is not None:
            return
        taken += 1
        try:
            properties.values(case)
            properties.gradients(case)
            properties.repeats(case)
            properties.laws_hold(case)
        except AssertionError:
            raise
        except Exception as error:  # an implementation may break in any way at all; say in which call
            case.fail(f"raises {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}", error)

    try:
        examine()
    except AssertionError as error:
        error.__notes__ = []  # hypothesis' note would print every tensor in full
        raise
    if taken == 0:
        raise AssertionError(f"kernel '{operation.name}' ({name}): refused all of {examples} calls drawn from inputs")
    return taken
