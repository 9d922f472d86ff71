"""A DiT small enough for any test, and what it is asked."""

from __future__ import annotations

import torch
from torch import nn

from maquette_models.transformer.dit import DiT, DiTConfig


def model(heads: int = 2) -> DiT:
    torch.manual_seed(0)
    conditioner = {"name": "class_caption", "classes": ["a"], "vocabulary": ["red"], "width": 32}
    sizes = {"latent_channels": 2, "latent_resolution": 4, "width": 32, "depth": 2, "heads": heads}
    made = DiT(DiTConfig(**sizes, conditioner=conditioner))
    for layer in (made.head, made.modulation, made.head_modulation):
        nn.init.normal_(layer.weight, std=0.1)
    return made.eval().requires_grad_(False)


def inputs(made: DiT, rows: int):
    draw = torch.Generator().manual_seed(1)
    prepared = made.conditioner.prepare({"class_id": [0] * rows, "caption": ["red"] * rows})
    x = torch.randn(rows, 2, 4, 4, 4, generator=draw)
    return x, torch.rand(rows, generator=draw), made.encode_condition(prepared)
