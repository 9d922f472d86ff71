"""``maquette kernels``: lists operations, explains which implementation runs, and times them."""

from __future__ import annotations

from typing import Any

import click

DTYPES = ("float32", "bfloat16", "float16")


@click.group()
def kernels() -> None:
    """Operations, their implementations, and which one runs."""


@kernels.command("list")
def list_operations() -> None:
    """List every registered operation with its implementations in order of preference."""
    from maquette_kernels.registry import operations

    found = operations()
    width = max((len(name) for name in found), default=0)
    for name, operation in found.items():
        names = ", ".join(implementation.name for implementation in operation.implementations)
        click.echo(f"{name.ljust(width)}  {names}")


@kernels.command()
@click.argument("name")
def explain(name: str) -> None:
    """Say which implementation of NAME runs a typical call on each device, and why the others do not."""
    import torch

    from maquette_kernels.registry import find
    from maquette_kernels.resolution import explain as explain_call

    operation = find(name)
    here = {"cpu": "", "cuda": "" if torch.cuda.is_available() else " (none here)"}
    for device, remark in here.items():
        for dtype in operation.dtypes:
            call = operation.call(*operation.example(torch.device("cpu"), dtype)).on(device)
            flops, moved = operation.cost(call)
            size = f"{flops / 1e6:.2f} Mflop, {moved / 1e6:.2f} MB"
            click.echo(f"{device}{remark}, {str(dtype).removeprefix('torch.')}, {size}:")
            for told in explain_call(operation, call):
                fate = "runs" if told.chosen else told.refusal or "could run"
                click.echo(f"  {told.implementation.ljust(10)} {fate}")


@kernels.command("bench")
@click.argument("names", nargs=-1)
@click.option("--device", default="cpu", show_default=True, help="Where: cpu, cuda or cuda:1.")
@click.option("--dtype", type=click.Choice(DTYPES), default="float32", show_default=True, help="Of activations.")
@click.option("--rounds", type=click.IntRange(min=1), default=10, show_default=True, help="Calls of each to time.")
@click.option("--compiled", is_flag=True, help="Time torch.compile of each reference too.")
@click.option("--patience", default=20.0, show_default=True, help="Leave out references that may take more seconds.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object an implementation.")
def bench_operations(  # noqa: PLR0917 (click passes options by name)
    names: tuple[str, ...], device: str, dtype: str, rounds: int, compiled: bool, patience: float, as_json: bool
) -> None:
    """Time every implementation of the operations NAMES, or of all, on one large call each."""
    import json
    from dataclasses import asdict

    import torch

    from maquette_kernels.benchmarking import bench, table
    from maquette_kernels.registry import find, operations

    place = _device(device)
    found = []
    for operation in [find(name) for name in names] or operations().values():
        found += bench(operation, place, getattr(torch, dtype), rounds, compiled=compiled, patience=patience)
    click.echo(json.dumps([asdict(timing) for timing in found]) if as_json else table(found))


def _device(name: str) -> Any:
    import torch

    from maquette.errors import MaquetteError

    try:
        return torch.device(name)
    except RuntimeError:
        raise MaquetteError(f"kernels bench: '{name}' is no device; write cpu, cuda or cuda:1") from None
