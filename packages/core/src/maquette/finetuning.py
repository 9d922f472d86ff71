"""From a trained run to the configuration of one that goes on from it: other data, all weights or a few.

Two doors, both optional, on the config dataclasses of plugins:

``finetuned(own, given, out) -> (block, facts)`` of a dataset: the block for other data, from the base run's block and
what the user gives; it may build what it reads in ``out`` (``data.source=FOLDER``). ``facts`` are that data's.

``on_run(run, facts) -> (block, facts)`` of an architecture, which makes it a method (``method=lora``): the block of a
model that is built on a run, and those of the new run's facts that are not the base's.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from maquette import plugins
from maquette.config import RunConfig, load
from maquette.errors import MaquetteError, unknown_name
from maquette.runs import RunFolder

FULL = "full"
"""The method that trains every weight of the base's own architecture."""
BLOCKS = ("method", "data", "model")
"""What is not simply laid over the base's configuration."""


def finetune_config(folder: str | Path, overrides: DictConfig | Mapping[str, Any]) -> DictConfig:
    """The configuration that starts a new run from another one's weights and facts.

    Args:
        folder: the base, a run.
        overrides: over the base's configuration; ``method`` (full, or an architecture that is built on a run),
            ``data.source`` (what to build the data from) and ``model`` (of ``full`` the base's own, else the method's).

    Raises:
        MaquetteError: not a run, an unknown method, a dataset that cannot be built from a source.
    """
    own = RunFolder(Path(folder)).read_config()
    plugins.load_files(own.plugins)
    given = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.create(dict(overrides))))
    method = str(given.get("method", FULL))
    if method != FULL:
        _on_run(method)  # a wrong name is told before anything is built
    node = _settings(folder, own, given)
    data, facts = _data(own, given.get("data", {}), f"{node.folder}/shards")
    model, kept = given.get("model", {}), {}
    if method == FULL:
        model = OmegaConf.merge(own.model, model)
        node.start_from = str(folder)
    else:
        block, kept = _on_run(method)(Path(folder), facts)
        model = {"name": method, **block, **model}
    node.data, node.model = data, model
    node.facts = {**cast(dict[str, Any], OmegaConf.to_container(own.facts)), **kept}
    return node


def finetuned_folder(folder: str | Path, overrides: DictConfig | Mapping[str, Any]) -> Path:
    """The folder that `finetune_config` would give, without building anything."""
    given = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.create(dict(overrides))))
    return Path(str(_settings(folder, RunFolder(Path(folder)).read_config(), given).folder))


def _settings(folder: str | Path, own: DictConfig, given: Mapping[str, Any]) -> DictConfig:
    """All but the blocks."""
    name = f"{Path(folder).name}-finetuned"
    changes = {"start_from": None, "name": name, "folder": "runs/${name}", "resume": None}
    return load(RunConfig, own, changes, {key: value for key, value in given.items() if key not in BLOCKS})


def _data(own: DictConfig, given: Mapping[str, Any], out: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The data block and the facts of that data; the base's own where nothing is given."""
    block = cast(dict[str, Any], OmegaConf.to_container(own.data))
    facts = cast(dict[str, Any], OmegaConf.to_container(own.facts))
    if not given:
        return block, facts
    name = str(given.get("name", block["name"]))
    if name == block["name"]:
        door = getattr(plugins.lookup("datasets", name).config, "finetuned", None)
        if door is not None:
            if "source" in given and int(os.environ.get("WORLD_SIZE", "1")) > 1:
                raise MaquetteError("several processes cannot build data.source; build it first: maquette data build")
            return cast(tuple[dict[str, Any], dict[str, Any]], door(block, dict(given), out))
        block = {**block, **given}
    else:
        block = dict(given)
    if "source" in block:
        raise MaquetteError(f"dataset '{name}' cannot be built from a source; give it what it reads")
    return block, facts


def _on_run(method: str) -> Any:
    """The door of a method.

    Raises:
        MaquetteError: no architecture of that name is built on a run; lists those that are.
    """
    known = [entry.name for entry in plugins.registry("architectures")]
    door = getattr(plugins.lookup("architectures", method).config, "on_run", None) if method in known else None
    if door is None:
        methods = [name for name in known if hasattr(plugins.lookup("architectures", name).config, "on_run")]
        raise unknown_name("method", method, [FULL, *methods])
    return door
