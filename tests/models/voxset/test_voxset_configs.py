"""The shipped configurations of VoxSet's flows: the same classes build all of them, and stages fit each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from maquette import plugins
from maquette.config import RunConfig, load, read_yaml, resolve_block, set_facts
from maquette_models.samplers.prediction import prediction_of
from maquette_models.transformer.dit import DiT
from maquette_models.transformer.token_dit import TokenDiT
from maquette_models.voxset.pipeline import VoxSetConfig

CONFIGS = Path(__file__).parents[3] / "examples" / "configs"
WORDS = {"classes": ["chair"], "vocabulary": ["red"]}
FACTS = {
    "voxset_structure": {"latent_channels": 1, "latent_resolution": 16},
    "voxset_dit": {"latent_channels": 12, "latent_resolution": 16, "tokens": 128},
    "voxset_base": {},
}


@pytest.mark.parametrize(
    ("name", "kind", "least", "most", "tokens"),
    [
        ("voxset_structure", DiT, 1e6, 3e6, 64),
        ("voxset_dit", TokenDiT, 1e6, 3e6, 128),
        ("voxset_base", TokenDiT, 1.25e9, 1.45e9, 4096),
    ],
)
def test_sizes(name: str, kind: type, least: float, most: float, tokens: int) -> None:
    node = load(RunConfig, read_yaml(CONFIGS / f"{name}.yaml"))
    set_facts({**WORDS, **FACTS[name]})
    with torch.device("meta"):
        model = plugins.build("architectures", resolve_block(node, "model"))
        batch = model.example_batch(2)
    assert type(model) is kind and model.token_count(batch) == 2 * tokens
    count = sum(parameter.numel() for parameter in model.parameters())
    assert least < count < most, count
    objective = plugins.build("objectives", resolve_block(node, "objective"))
    assert objective.config.prediction == prediction_of(model)


@pytest.mark.parametrize("name", ["voxset_dit", "voxset_base"])
def test_pipelines_are_complete_and_name_their_parts(name: str) -> None:
    node = load(RunConfig, read_yaml(CONFIGS / f"{name}.yaml"))
    block: dict[str, Any] = resolve_block(node, "pipeline")
    assert block.pop("name") == "voxset"
    config = plugins.lookup("pipelines", "voxset").config
    assert config is VoxSetConfig and set(block) <= set(VoxSetConfig.__dataclass_fields__)
    for stage in ("latent_stage", "structure_stage"):
        plugins.build("samplers", block[stage]["sampler"])
