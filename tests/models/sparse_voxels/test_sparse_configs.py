"""The shipped configurations: one set of classes from tiny to base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from maquette import plugins
from maquette.config import RunConfig, load, read_yaml, resolve_block, set_facts
from maquette_models.sparse_voxels.sparse_vae import SparseVAE
from maquette_models.transformer.token_dit import TokenDiT

CONFIGS = Path(__file__).parents[3] / "examples" / "configs"
FACTS = {
    "classes": ["chair"],
    "vocabulary": ["red"],
    "latent_channels": 12,
    "latent_resolution": 16,
    "dual_resolution": 64,
    "tokens": 900,
}
BASE_BRANCHES = {
    "resolution": 1024,
    "shape": {"widths": [64, 128, 256, 512, 1024], "depths": [0, 4, 8, 16, 4], "channels": 24, "mlp_ratio": 4},
    "paint": {"widths": [32, 64, 128, 256, 512], "depths": [0, 0, 2, 4, 2], "channels": 8, "mlp_ratio": 4},
}


def built(name: str, changes: dict[str, Any], facts: dict[str, Any]) -> torch.nn.Module:
    node = load(RunConfig, read_yaml(CONFIGS / f"{name}.yaml"), changes)
    set_facts(facts)
    plugins.build("objectives", resolve_block(node, "objective"))
    with torch.device("meta"):
        return plugins.build("architectures", resolve_block(node, "model"))


@pytest.mark.parametrize(
    ("name", "changes", "facts", "kind", "sizes"),
    [
        ("sparse_vae", {}, FACTS, SparseVAE, (5e5, 9e5)),
        ("sparse_vae", {"model": BASE_BRANCHES}, FACTS, SparseVAE, (5e8, 1.2e9)),
        ("sparse_dit", {}, FACTS, TokenDiT, (1.2e6, 2e6)),
        ("sparse_base", {}, {"classes": [], "vocabulary": []}, TokenDiT, (1.25e9, 1.45e9)),
    ],
)
def test_sizes(
    name: str, changes: dict[str, Any], facts: dict[str, Any], kind: type, sizes: tuple[float, float]
) -> None:
    model = built(name, changes, facts)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert type(model) is kind and sizes[0] < count < sizes[1], count


def test_the_base_latent_grid_is_a_sixteenth() -> None:
    model = built("sparse_vae", {"model": BASE_BRANCHES}, FACTS)
    assert (model.latent_resolution, model.channels) == (64, 32)
    assert built("sparse_base", {}, {"classes": [], "vocabulary": []}).example_batch(1)["latent"].shape == (1, 9600, 32)
