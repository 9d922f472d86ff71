"""Strict blocks: a mapping is merged into a dataclass, and every wrong key or type becomes one helpful line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar, cast

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from maquette.errors import MaquetteError, unknown_name

T = TypeVar("T")


def merge(config: type[T], *sources: Any, where: str) -> DictConfig:
    """Merge mappings, later over earlier, into the structure of a dataclass.

    Args:
        config: the dataclass that says which keys exist and of what types.
        sources: mappings or OmegaConf nodes.
        where: what the block is, for messages, e.g. ``"architecture 'dit'"``.

    Raises:
        MaquetteError: an unknown key, a value of the wrong type, an interpolation that leads nowhere.
    """
    try:
        node = OmegaConf.structured(config)
        for source in sources:
            node = OmegaConf.merge(node, source)
        return cast(DictConfig, node)
    except ConfigKeyError as error:
        raise _unknown_key(config, error, where) from None
    except OmegaConfBaseException as error:
        for section in fields(config):  # type: ignore[arg-type]
            if any(not isinstance(_get(source, section.name), Mapping | None) for source in sources) and _is_section(
                config, section.name
            ):
                raise MaquetteError(f"{where}: '{section.name}' holds keys, e.g. {section.name}.key=value") from None
        raise MaquetteError(f"{where}: {_first_line(error)}") from None


def _get(source: Any, key: str) -> Any:
    return source[key] if isinstance(source, Mapping | DictConfig) and key in source else None


def _is_section(config: type[Any], key: str) -> bool:
    return isinstance(OmegaConf.structured(config)._get_node(key), DictConfig)


def instantiate(config: type[T], values: Mapping[str, Any], *, where: str) -> T:
    """A checked instance of a dataclass from a mapping.

    Raises:
        MaquetteError: as :func:`merge`; or a required value is missing; or the dataclass's own checks refuse it.
    """
    node = merge(config, dict(values), where=where)
    missing = sorted(OmegaConf.missing_keys(node))
    if missing:
        raise MaquetteError(f"{where}: '{missing[0]}' must be given")
    try:
        return cast(T, OmegaConf.to_object(node))
    except OmegaConfBaseException as error:
        raise MaquetteError(f"{where}: {_first_line(error)}") from None
    except ValueError as error:  # what a dataclass's __post_init__ raises on a bad value
        raise MaquetteError(f"{where}: {error}") from None


def _unknown_key(config: type[Any], error: ConfigKeyError, where: str) -> MaquetteError:
    parent = error.parent_node
    known = [str(key) for key in parent] if isinstance(parent, DictConfig) else [f.name for f in fields(config)]
    path = str(error.full_key or error.key)
    prefix = path.rpartition(".")[0]
    return unknown_name("key", str(error.key), known, where=f"in {where}{', at ' + prefix if prefix else ''}")


def _first_line(error: Exception) -> str:
    text = str(error).strip().split("\n")[0]
    full_key = getattr(error, "full_key", None)
    return f"'{full_key}': {text}" if full_key else text


__all__ = ["MISSING", "instantiate", "merge"]
