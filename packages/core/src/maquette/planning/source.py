"""Builds what a run's configuration names, for planning: the dataset only where nothing else can tell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from maquette import blocks, plugins
from maquette.config import resolve_block, set_facts
from maquette.errors import MaquetteError
from maquette.parallel.layout import Layout


class Source:
    """The parts of one run."""

    def __init__(self, node: DictConfig) -> None:
        self.node = node
        self._data: Any = None

    def facts(self) -> dict[str, Any]:
        """The configuration's; the dataset's, where the model's block refers to any that the configuration lacks.

        Raises:
            MaquetteError: the dataset cannot be built; says which facts to give instead.
        """
        known = cast(dict[str, Any], OmegaConf.to_container(self.node.facts))
        names = re.findall(r"\$\{facts:(\w+)\}", repr(OmegaConf.to_container(self.node.model, resolve=False)))
        unknown = sorted(set(names) - known.keys())
        if unknown:
            try:
                known = self.data().facts()
            except MaquetteError as error:
                words = " ".join(f"'facts.{name}=...'" for name in unknown)
                raise MaquetteError(
                    f"plan: the model asks for facts of the dataset, but {error}; or plan without data: give {words} "
                    "(lists of names may be empty: [])"
                ) from None
            self.node.facts = known
        return known

    def data(self, world: int = 1) -> Any:
        """The dataset, set up."""
        if self._data is None:
            set_facts({})
            self._data = plugins.build("datasets", resolve_block(self.node, "data"))
            self._data.rank, self._data.world = 0, world
            self._data.prepare_data()
            self._data.setup("fit")
        return self._data

    def first_batch(self, layout: Layout) -> Mapping[str, Any]:
        """Rank 0's share of the first training batch."""
        return cast(Mapping[str, Any], next(iter(self.data(layout.data_world).train_dataloader())))

    def batch_size(self) -> int | None:
        """Of a micro-batch of the whole run, where the dataset's block has it."""
        block = cast(dict[str, Any], OmegaConf.to_container(self.node.data, resolve=False))
        entry = plugins.lookup("datasets", str(block.pop("name")))
        merged = blocks.merge(entry.config, block, where=f"dataset '{entry.name}'")
        return int(merged.batch_size) if "batch_size" in merged else None

    def model(self) -> nn.Module:
        """The whole model."""
        return cast(nn.Module, plugins.build("architectures", resolve_block(self.node, "model")))

    def objective(self) -> Any:
        """What it is trained with."""
        return plugins.build("objectives", resolve_block(self.node, "objective"))

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """Of a model's trainable parameters."""
        factory = plugins.build("optimizers", resolve_block(self.node, "optimizer"))
        return cast(torch.optim.Optimizer, factory({n: p for n, p in model.named_parameters() if p.requires_grad}))
