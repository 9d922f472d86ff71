"""``maquette kernels``: lists operations and explains which implementation runs."""

from __future__ import annotations

import click


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
        for dtype in (torch.float32, torch.bfloat16):
            call = operation.call(*operation.example(torch.device("cpu"), dtype)).on(device)
            flops, moved = operation.cost(call)
            size = f"{flops / 1e6:.2f} Mflop, {moved / 1e6:.2f} MB"
            click.echo(f"{device}{remark}, {str(dtype).removeprefix('torch.')}, {size}:")
            for told in explain_call(operation, call):
                fate = "runs" if told.chosen else told.refusal or "could run"
                click.echo(f"  {told.implementation.ljust(10)} {fate}")
