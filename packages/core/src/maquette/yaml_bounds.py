"""YAML that others may have written: how large it may be, and how large what it stands for."""

from __future__ import annotations

from pathlib import Path

import yaml  # type: ignore[import-untyped]

LARGEST_BYTES = 4 * 2**20
LARGEST_NODES = 200_000
"""Keys, values and lists, each alias counted as all that it stands for."""
DEEPEST = 64
_EVENTS = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def bounded_text(path: Path) -> str:
    """The text of a YAML file that is worth parsing.

    Raises:
        OSError: it cannot be read.
        ValueError: it is too long, nested too deeply, or would expand too far; or no UTF-8.
        yaml.YAMLError: it is no YAML.
    """
    with path.open("rb") as file:
        content = file.read(LARGEST_BYTES + 1)
    if len(content) > LARGEST_BYTES:
        raise ValueError(f"more than {LARGEST_BYTES} bytes")
    text = content.decode("utf-8")
    _check(text)
    return text


def _check(text: str) -> None:
    """Goes through the events of the parser, which stand for no objects yet."""
    open_nodes: list[tuple[str | None, int]] = []
    """Anchor, and how many nodes came before, of each list and mapping around."""
    sizes: dict[str, int] = {}
    count = 0
    for event in yaml.parse(text, Loader=_EVENTS):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ValueError(f"the alias *{event.anchor} stands for something that it is in, or for nothing")
            count += sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            if event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, count))
            count += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor:
                sizes[anchor] = count - before
        if len(open_nodes) > DEEPEST:
            raise ValueError(f"nested more than {DEEPEST} deep")
        if count > LARGEST_NODES:
            raise ValueError(f"it stands for more than {LARGEST_NODES} keys and values")
