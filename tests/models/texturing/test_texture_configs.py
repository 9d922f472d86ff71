"""The shipped configurations of texturing: they load, and the same classes build all sizes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from maquette import plugins
from maquette.config import RunConfig, load, read_yaml, resolve_block, set_facts
from maquette_models.texturing.paint_vae import PaintVAE
from maquette_models.transformer.token_dit import TokenDiT

CONFIGS = Path(__file__).parents[3] / "examples" / "configs"
WORDS = {"classes": ["chair"], "vocabulary": ["red"]}
FACTS = {**WORDS, "merges": [], "latent_channels": 16, "given_channels": 10, "latent_resolution": 8, "tokens": 292}


def test_the_autoencoder_gives_what_the_base_flow_reads() -> None:
    config = load(RunConfig, read_yaml(CONFIGS / "texture_vae.yaml"))
    model = plugins.build("architectures", resolve_block(config, "model"))
    assert isinstance(model, PaintVAE) and (model.channels, model.config.shape_channels) == (16, 10)
    plugins.build("objectives", resolve_block(config, "objective"))


@pytest.mark.parametrize(
    ("name", "facts", "least", "most"),
    [("texture_flow", FACTS, 5e5, 3e6), ("texture_base", {"classes": [], "vocabulary": []}, 1.3e9, 1.45e9)],
)
def test_sizes(name: str, facts: dict[str, object], least: float, most: float) -> None:
    config = load(RunConfig, read_yaml(CONFIGS / f"{name}.yaml"))
    set_facts(facts)
    with torch.device("meta"):
        model = plugins.build("architectures", resolve_block(config, "model"))
        batch = model.example_batch(1)
    assert isinstance(model, TokenDiT) and batch["given"].shape[-1] == 10
    assert least < sum(parameter.numel() for parameter in model.parameters()) < most
    plugins.build("objectives", resolve_block(config, "objective"))
