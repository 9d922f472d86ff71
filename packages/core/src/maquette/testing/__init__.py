"""Checks that a plugin's author runs on their own parts, and what tests of several processes need."""

from maquette.testing.checks import (
    assert_equal_batches,
    build_facts,
    check_architecture,
    check_dataset,
    check_exporter,
    check_objective,
    check_pipeline,
    check_pipeline_on_device,
)
from maquette.testing.fake_nvml import FakeGpu, FakeNvml
from maquette.testing.ranks import run_ranks
from maquette.testing.stand_in_device import on_stand_in_device
from maquette.testing.strategies import check_strategy
from maquette.testing.tiny_transformer import TinyObjective, TinyTransformer, tiny_batch

__all__ = [
    "FakeGpu",
    "FakeNvml",
    "TinyObjective",
    "TinyTransformer",
    "assert_equal_batches",
    "build_facts",
    "check_architecture",
    "check_dataset",
    "check_exporter",
    "check_objective",
    "check_pipeline",
    "check_pipeline_on_device",
    "check_strategy",
    "on_stand_in_device",
    "run_ranks",
    "tiny_batch",
]
