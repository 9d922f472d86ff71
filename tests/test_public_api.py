"""The public interface is what docs/api lists: all of it is there, typed and told of, and it changes on purpose only.

``python tests/test_public_api.py`` writes ``public_api.txt`` anew; a change of it is a change that users see.
"""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SIGNATURES = Path(__file__).with_name("public_api.txt")
LISTED = re.compile(r"^::: (\S+)\n    options:\n(?:      .*\n)*?      members:\n((?:        - \w+\n)+)", re.MULTILINE)


def listed() -> list[tuple[str, str]]:
    """(module, name) of all that docs/api lists, in its order."""
    found = []
    for page in sorted((ROOT / "docs" / "api").glob("*.md")):
        for module, members in LISTED.findall(page.read_text() + "\n"):
            found += [(module, name) for name in re.findall(r"- (\w+)", members)]
    return found


def public_methods(kind: type) -> list[tuple[str, Any]]:
    """What a class itself defines for its users, properties as their getters."""
    found = []
    for name, member in vars(kind).items():
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if not name.startswith("_") and inspect.isfunction(function):
            found.append((name, function))
    return found


def signature(thing: Any) -> str:
    """As a reader sees it; a class by how it is made."""
    try:
        return re.sub(r" at 0x[0-9a-f]+", "", str(inspect.signature(thing)))
    except (TypeError, ValueError):
        return ""


def described() -> str:
    """The whole interface, a line each."""
    lines = []
    for module, name in listed():
        thing = getattr(importlib.import_module(module), name)
        lines.append(f"{module}.{name}{signature(thing)}")
        if inspect.isclass(thing):
            lines += [f"    {method}{signature(function)}" for method, function in public_methods(thing)]
    return "\n".join(lines) + "\n"


PUBLIC = listed()


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=[f"{module}.{name}" for module, name in PUBLIC])
def test_what_is_public_is_there_typed_and_told_of(module, name):
    thing = getattr(importlib.import_module(module), name)
    assert inspect.getdoc(thing) or not callable(thing), "it has no docstring"
    functions = (
        [(name, thing)] if inspect.isfunction(thing) else public_methods(thing) if inspect.isclass(thing) else []
    )
    for method, function in functions:
        asked = inspect.signature(function)
        assert asked.return_annotation is not inspect.Signature.empty, f"{method} does not say what it gives"
        bare = [p.name for p in asked.parameters.values() if p.annotation is p.empty and p.name not in ("self", "cls")]
        assert not bare, f"{method} does not say what {bare} are"


def test_modules_that_list_their_names_list_these():
    for module in sorted({module for module, _ in PUBLIC}):
        names = getattr(importlib.import_module(module), "__all__", None)
        if names is not None:
            assert sorted(n for m, n in PUBLIC if m == module) == sorted(set(names) - {"__version__"}), module


def test_the_interface_changes_on_purpose_only():
    assert described() == SIGNATURES.read_text(), "if that is meant: python tests/test_public_api.py, and the changelog"


if __name__ == "__main__":
    SIGNATURES.write_text(described())
