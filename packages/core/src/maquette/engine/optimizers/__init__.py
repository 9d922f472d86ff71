"""Optimizers of the step engine, their parameter groups and their learning-rate schedules."""

from __future__ import annotations

from maquette.engine.optimizers.adamw import AdamW, AdamWConfig
from maquette.engine.optimizers.groups import set_learning_rate
from maquette.engine.optimizers.muon import Muon, MuonConfig
from maquette.engine.optimizers.schedules import learning_rate
from maquette.engine.optimizers.settings import GroupConfig, OptimizerConfig

__all__ = [
    "AdamW",
    "AdamWConfig",
    "GroupConfig",
    "Muon",
    "MuonConfig",
    "OptimizerConfig",
    "learning_rate",
    "set_learning_rate",
]
