"""The shipped configurations of conditions build, and their generators take batches of what they say they read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from maquette import plugins
from maquette.config import RunConfig, load, read_yaml, resolve_block, set_facts

CONFIGS = Path(__file__).parents[3] / "examples" / "configs"
FACTS = {"classes": ["chair", "table"], "merges": ["a b"], "latent_channels": 7, "latent_resolution": 8}


@pytest.mark.parametrize(
    ("name", "reads"), [("image_dit", {"images"}), ("shape_dit", {"mesh"}), ("text_dit", {"prompt", "class_name"})]
)
def test_they_build(name: str, reads: set[str]) -> None:
    node = load(RunConfig, read_yaml(CONFIGS / f"{name}.yaml"))
    set_facts(FACTS)
    model = plugins.build("architectures", resolve_block(node, "model"))
    assert model.conditioner.reads == reads
    assert 1e6 < sum(parameter.numel() for parameter in model.parameters()) < 4e6
    batch = model.example_batch(2)
    objective = plugins.build("objectives", resolve_block(node, "objective"))
    assert torch.isfinite(objective(model, batch)["loss"])
    assert model.flops(batch) > 0
    plugins.lookup("datasets", "latents")
    condition = dict(node.data.condition)
    assert plugins.build("datasets", {**node.data, "shards": "x", "autoencoder": "y", "condition": condition})
