"""What there is to say of a registered thing: for ``maquette show`` and for the site's reference."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, Field, dataclass, fields

from maquette.registry import Entry


@dataclass(frozen=True)
class Key:
    """One key of a block: its type as it is written, and its default as Python, or "(must be given)"."""

    name: str
    type: str
    default: str


@dataclass(frozen=True)
class Explanation:
    """What a registered thing is, what is said of its configuration, and the keys that a block may have."""

    about: str
    configuration: str
    keys: tuple[Key, ...]


def explained(entry: Entry) -> Explanation:
    """An entry's docstrings, without their indentation, and its keys; of a command the docstring alone.

    Raises:
        MaquetteError: the plugin's references do not load.
    """
    about = inspect.cleandoc(entry.build.__doc__ or "no description")
    if entry.kind == "commands":
        return Explanation(about, "", ())
    own = inspect.cleandoc(entry.config.__doc__ or "")
    made_up = own.startswith(f"{entry.config.__name__}(")  # the signature, which a dataclass without a docstring gets
    keys = tuple(Key(item.name, str(item.type), _default(item)) for item in fields(entry.config))
    return Explanation(about, "" if made_up else own, keys)


def _default(item: Field[object]) -> str:
    value = item.default if item.default_factory is MISSING else item.default_factory()
    return "(must be given)" if value is MISSING or value == "???" else repr(value)
