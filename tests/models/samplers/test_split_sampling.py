"""One large request over several processes: its tokens are split, and the sample is that of one process."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from maquette import plugins
from maquette.config import ParallelConfig
from maquette.parallel.parallelism import Parallelism
from maquette.precision import Precision
from maquette.testing import run_ranks
from maquette_models.objectives.flow_matching import FlowMatching, FlowMatchingConfig
from maquette_models.samplers.guidance import Guided
from maquette_models.transformer.dit import DiT, DiTConfig

CONDITIONER = {"name": "class_caption", "classes": ["a", "b"], "vocabulary": ["red"], "width": 16, "max_words": 3}


def build() -> DiT:
    torch.manual_seed(0)
    model = DiT(DiTConfig(latent_channels=3, latent_resolution=4, width=32, depth=3, heads=4, conditioner=CONDITIONER))
    with torch.no_grad():
        for parameter in model.parameters():  # the head starts at zero: nothing would flow
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@torch.no_grad()
def sample(strategy: str) -> Tensor:
    parallelism = Parallelism(ParallelConfig(), plugins.build("strategies", {"name": strategy}), Precision())
    model = parallelism.build(build, lambda part: None, FlowMatching(FlowMatchingConfig()))[0].eval()
    conditioner = model.conditioner
    asked = conditioner.prepare({"class_id": [1], "caption": ["a red b"]})
    condition, null = (model.encode_condition(each) for each in (asked, conditioner.null(1)))
    noise = torch.randn(1, 3, 4, 4, 4, generator=torch.Generator().manual_seed(7))
    sampler = plugins.build("samplers", {"name": "dpmpp_2m", "steps": 6})
    return sampler.sample(Guided(model, condition, null, torch.tensor([2.0])), noise).clone()


@pytest.mark.parametrize("strategy", ["ulysses"])
def test_two_processes_sample_what_one_does(strategy):
    first, second = run_ranks(sample, 2, strategy)
    assert torch.equal(first, second)
    torch.testing.assert_close(first, sample("ddp"), rtol=1e-5, atol=1e-5)
