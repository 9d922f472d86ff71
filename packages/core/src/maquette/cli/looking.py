"""``maquette plugins`` and ``maquette show``: what is installed and what it is."""

from __future__ import annotations

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from maquette import hookspecs
from maquette.explaining import explained
from maquette.plugins import lookup, manager, registry


@click.command()
def plugins() -> None:
    """List the plugins, where they come from, and every name they provide."""
    console = Console()
    names = {kind: list(registry(kind)) for kind in hookspecs.KINDS}
    table = Table("plugin", "version", "from", "state", box=None, header_style="bold")
    for status in manager().statuses.values():
        state = Text("broken: " + status.error, style="red") if status.error else Text("ok", style="green")
        table.add_row(Text(status.name), Text(status.version), Text(status.source), state)
    console.print(table)
    for kind, entries in names.items():
        if entries:
            provided = ", ".join(f"{entry.name} ({entry.plugin})" for entry in entries)
            # Lines of a terminal are broken between words; what a program reads is a line a kind.
            line = Text(f"\n{kind}: ", style="bold") + Text(provided, style="not bold")
            console.print(line, soft_wrap=not console.is_terminal)


@click.command()
@click.argument("kind")
@click.argument("name", required=False)
def show(kind: str, name: str | None) -> None:
    """Explain NAME of KIND: what it is and its configuration keys with their defaults. Without NAME, list the kind."""
    kind = kind if kind in hookspecs.KINDS else _plural(kind)
    console = Console()
    if name is None:
        for entry in registry(kind):
            console.print(Text(entry.name, style="bold") + Text(f"  {entry.summary}", style="not bold"))
        return
    entry = lookup(kind, name)
    explanation = explained(entry)
    console.print(Text(f"{kind}: {entry.name}", style="bold") + Text(f" (plugin {entry.plugin})", style="not bold"))
    console.print(Text(explanation.about))
    if kind == "commands":
        return
    if explanation.configuration:
        console.print(Text("\n" + explanation.configuration))
    table = Table("key", "type", "default", box=None, header_style="bold")
    for key in explanation.keys:
        table.add_row(Text(key.name), Text(key.type), Text(key.default))
    console.print(table)


def _plural(kind: str) -> str:
    for known in hookspecs.KINDS:
        if known.startswith(kind.removesuffix("y").removesuffix("s")):
            return known
    return kind
