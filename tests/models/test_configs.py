"""The shipped configurations: they load, the same classes build all of them, and their sizes are as they say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from maquette import plugins
from maquette.config import RunConfig, load, read_yaml, resolve_block, set_facts
from maquette_models.transformer.dit import DiT

CONFIGS = Path(__file__).parents[2] / "examples" / "configs"
FACTS = {"classes": ["chair", "table"], "vocabulary": ["red"], "latent_channels": 7, "latent_resolution": 8}


@pytest.mark.parametrize(
    ("name", "least", "most", "tokens"),
    [("tiny", 1e5, 5e5, 64), ("dit", 1e6, 3e6, 64), ("small", 9e7, 1.3e8, 4096), ("base", 1.25e9, 1.45e9, 4096)],
)
def test_sizes(name: str, least: float, most: float, tokens: int) -> None:
    node = load(RunConfig, read_yaml(CONFIGS / f"{name}.yaml"))
    set_facts(FACTS)
    with torch.device("meta"):
        model = plugins.build("architectures", resolve_block(node, "model"))
        batch = model.example_batch(2)
    assert type(model) is DiT and len(model.positions) == tokens
    count = sum(parameter.numel() for parameter in model.parameters())
    assert least < count < most, count
    in_blocks = sum(p.numel() for block in model.blocks() for p in block.parameters())
    assert 0.8 < model.flops(batch) / (2 * 2 * tokens * in_blocks) < 2.5, "two for each weight and token, and attention"
    plugins.build("objectives", resolve_block(node, "objective"))


@pytest.mark.parametrize("name", ["small", "base"])
def test_large_ones_can_be_planned_without_data(name: str) -> None:
    """All that the model's shape needs is in the file."""
    node = load(RunConfig, read_yaml(CONFIGS / f"{name}.yaml"))
    set_facts({"classes": [], "vocabulary": []})
    with torch.device("meta"):
        assert plugins.build("architectures", resolve_block(node, "model")).example_batch(1)["latent"].shape[1] == 8


def test_mixture_is_a_word_away() -> None:
    node = load(RunConfig, read_yaml(CONFIGS / "small.yaml"), {"model": {"mlp": "moe", "moe": {"experts": 16}}})
    set_facts(FACTS)
    with torch.device("meta"):
        model = plugins.build("architectures", resolve_block(node, "model"))
    assert [experts.up.shape for experts in model.expert_layers()] == [(16, 768, 3072)] * 6
