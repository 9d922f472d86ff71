"""Lets Lightning's Trainer drive the step engine: its loop, validation, loggers and callbacks around our step."""

from maquette.lightning_adapter.callbacks import LogMetrics, SaveCheckpoints, ShowProgress
from maquette.lightning_adapter.engine_module import EngineModule, restore_progress
from maquette.lightning_adapter.engine_strategy import EngineStrategy
from maquette.lightning_adapter.quiet import quiet
from maquette.lightning_adapter.streams import TrainingStream, ValidationStream

__all__ = [
    "EngineModule",
    "EngineStrategy",
    "LogMetrics",
    "SaveCheckpoints",
    "ShowProgress",
    "TrainingStream",
    "ValidationStream",
    "quiet",
    "restore_progress",
]
