"""Hook of mkdocs: a page for each kind of registered thing, and one of all commands, from what is registered.

Called by mkdocs (``hooks`` in mkdocs.yml). Kernels are left out, as each has a page written for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
from mkdocs.structure.files import File, Files

from maquette import hookspecs, plugins
from maquette.explaining import Key, explained
from maquette.registry import Entry, singular


def on_files(files: Files, config: Any) -> Files:
    for kind in hookspecs.KINDS:
        if kind not in {"kernels", "commands"}:
            files.append(File.generated(config, f"reference/{kind}.md", content=page_of(kind)))
    files.append(File.generated(config, "reference/commands.md", content=commands()))
    return files


def page_of(kind: str) -> str:
    """All that is registered of a kind: what it is, and the keys of a block that names it."""
    promise = getattr(hookspecs, f"register_{kind}").__doc__.replace("``", "`")
    sections = "\n".join(section_of(entry) for entry in plugins.registry(kind))
    return f"# {kind.capitalize()}\n\nWhat a config's block of a {singular(kind)} can name. {promise}\n\n{sections}"


def section_of(entry: Entry) -> str:
    explanation = explained(entry)
    parts = [f"## {entry.name}", shown(entry.build)]
    if explanation.configuration:
        parts.append(shown(entry.config))
    if explanation.keys:
        parts.append("| key | type | default |\n|---|---|---|\n" + "\n".join(map(row, explanation.keys)))
    return "\n\n".join(parts) + "\n"


def shown(thing: Any) -> str:
    """What mkdocstrings makes of a docstring, without signature and members: a block's keys are shown instead."""
    options = "show_root_heading: false, show_root_toc_entry: false, show_bases: false, members: false"
    return f"::: {thing.__module__}.{thing.__qualname__}\n    options: {{{options}, separate_signature: false}}"


def row(key: Key) -> str:
    cells = (key.name, key.type, key.default)
    return "| " + " | ".join("`" + cell.replace("|", "\\|") + "`" for cell in cells) + " |"


def commands() -> str:
    """The help of every command, as a terminal 80 characters wide shows it."""
    texts = [f"## {entry.name}\n" + "\n".join(helps(entry.build, f"maquette {entry.name}")) for entry in listed()]
    return "# Commands\n\nWhat `--help` says of each.\n\n" + "\n".join(texts)


def listed() -> list[Entry]:
    return sorted(plugins.registry("commands"), key=lambda entry: entry.name)


def helps(command: Any, name: str, above: click.Context | None = None) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=above, terminal_width=80, max_content_width=80)
    yield f"```text\n{command.get_help(context)}\n```\n"
    for inner in getattr(command, "commands", {}).values():
        yield from helps(inner, inner.name, context)
