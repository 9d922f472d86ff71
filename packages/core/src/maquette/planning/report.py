"""A plan as text for a terminal."""

from __future__ import annotations

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from maquette.accelerators import GIB
from maquette.planning.plan import ROOM, Plan

MEANINGS = {
    "parameters": "weights as stored",
    "gradients": "as the optimizer sees them, and what sums them over copies",
    "optimizer": "its slots",
    "averages": "moving averages of the weights",
    "buffers": "constants of the model",
    "activations": "what waits for the backward pass",
    "gathered": "weights and gradients that are whole for a while",
    "peak": "the highest moment; activations and gradients do not peak together",
}


def show(plan: Plan, console: Console) -> None:
    """Print the plan and, where it does not fit, a warning."""
    console.print(Group(_head(plan), _memory(plan), _traffic(plan), _fp8(plan)))
    for note in plan.notes:
        console.print(Text(f"note: {note}", style="dim"))
    console.print(_verdict(plan))


def size(count: float) -> str:
    """Bytes for people: ``1.50 GiB``, ``12.0 KiB``."""
    for unit, name in ((GIB, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count >= unit:
            return f"{count / unit:.2f} {name}"
    return f"{count:.0f} B"


def _head(plan: Plan) -> Text:
    rate = plan.accelerator.rate("bf16")
    lines = [
        f"layout        {plan.layout} ({plan.layout.world} processes, {plan.rows} samples each a micro-batch)",
        f"model         {plan.parameters:,} parameters",
        f"arithmetic    {plan.flops / 1e12:,.3f} TFLOP a process and step",
    ]
    if rate:
        lines[-1] += f"; {plan.flops / rate * 1e3:,.1f} ms at the bf16 peak of {plan.accelerator.name}"
    return Text("\n".join(lines) + "\n")


def _memory(plan: Plan) -> Table:
    table = Table("memory a process", "", "", box=None, header_style="bold")
    for name, count in plan.memory.rows():
        style = "bold" if name == "peak" else ""
        table.add_row(Text(name, style=style), Text(size(count), style=style, justify="right"), MEANINGS[name])
    return table


def _traffic(plan: Plan) -> Table | Text:
    if not plan.traffic:
        return Text("\nnothing is sent: one process\n" if plan.layout.world == 1 else "\nnothing is sent\n")
    table = Table("sent a process and step", "", "", box=None, header_style="bold", title=" ")
    for row in plan.traffic:
        table.add_row(row.axis, Text(size(row.bytes), justify="right"), row.what)
    return table


def _fp8(plan: Plan) -> Table | Text:
    if not plan.accelerator.fp8:
        return Text(f"\nfp8: {plan.accelerator.name} has no such arithmetic\n")
    table = Table("fp8: layers of the blocks", "count", "rows x in x out", "estimate", box=None, title=" ")
    for product, count, gain in plan.fp8:
        told = "cannot: sizes no multiple of 16" if not gain else f"{gain:.2f}x" + (" (leave bf16)" if gain < 1 else "")
        table.add_row(product.name, str(count), f"{product.rows} x {product.inner} x {product.columns}", told)
    return table


def _verdict(plan: Plan) -> Text:
    peak, device = plan.memory.peak, plan.accelerator
    share = f"{size(peak)} of {size(device.memory)} on {device.name} ({peak / device.memory:.0%})"
    if plan.fits:
        return Text(f"fits: {share}", style="green")
    advice = "shard over more processes, cut data.batch_size, or set train.activation_checkpointing=full"
    excess = "does not fit" if peak > device.memory else f"leaves less than {1 - ROOM:.0%} of room"
    return Text(f"warning: {excess}: {share}; {advice}", style="red")
