"""A transformer over sets of tokens: padding, order and company of tokens; what strategies ask of it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from maquette.engine.randomness import drawing
from maquette.errors import MaquetteError
from maquette.parallel.context import RingCore
from maquette_models.objectives.flow_matching import FlowMatching, FlowMatchingConfig
from maquette_models.transformer.token_dit import TokenDiT, TokenDiTConfig

CONDITIONER = {
    "name": "class_caption",
    "classes": ["a", "b"],
    "vocabulary": ["red", "tall"],
    "width": 16,
    "depth": 1,
    "max_words": 3,
}
COUNTS = (12, 7, 1, 12)
ROWS, TOKENS = len(COUNTS), max(COUNTS)


def model(**changes: Any) -> TokenDiT:
    torch.manual_seed(0)
    sizes = {"latent_channels": 3, "width": 32, "depth": 3, "heads": 2, **changes}
    own = TokenDiT(TokenDiTConfig(**sizes, conditioner=CONDITIONER))
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    own.conditioner.eval()
    return own


def batch(given_channels: int = 0) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(3)
    found = {
        "latent": torch.randn(ROWS, TOKENS, 3, generator=generator),
        "positions": torch.randint(16, (ROWS, TOKENS, 3), generator=generator).float(),
        "token_mask": torch.arange(TOKENS) < torch.tensor(COUNTS)[:, None],
        "class_id": torch.arange(ROWS) % 2,
        "caption": ["a red one", "tall", "", "red"],
    }
    return {**found, "given": torch.randn(ROWS, TOKENS, given_channels)} if given_channels else found


def padded(data: dict[str, Any], more: int) -> dict[str, Any]:
    """The same samples with `more` tokens that do not count, full of rubbish."""

    def longer(key: str, value: Tensor) -> Tensor:
        rubbish = torch.full((ROWS, more, *value.shape[2:]), 0 if key == "token_mask" else 7, dtype=value.dtype)
        return torch.cat([value, rubbish], dim=1)

    return {k: longer(k, v) if k in ("latent", "positions", "token_mask", "given") else v for k, v in data.items()}


def condition(own: TokenDiT, data: dict[str, Any]) -> dict[str, Tensor]:
    fields = {key: data[key] for key in ("positions", "token_mask", "given") if key in data}
    return {**own.conditioner.prepare(data), **fields}


def arguments(own: TokenDiT, data: dict[str, Any] | None = None) -> tuple[Any, ...]:
    data = data or batch(own.config.given_channels)
    return data["latent"], torch.linspace(0.1, 0.9, ROWS), condition(own, data)


@settings(deadline=None, max_examples=8)
@given(more=st.integers(1, 700))
def test_padding_changes_neither_noise_nor_loss(more: int) -> None:
    """Noise is drawn by sample and token: what is behind a sample's tokens must not matter."""
    own, flow = model(), FlowMatching(FlowMatchingConfig())
    with drawing(seed=1, keys=range(ROWS)):
        short, long = (flow(own, data) for data in (batch(), padded(batch(), more)))
        noise, other = (flow.draw(data)[0] for data in (batch(), padded(batch(), more)))
    assert torch.equal(noise, other[:, :TOKENS])
    torch.testing.assert_close(short["per_sample"]["loss"], long["per_sample"]["loss"], rtol=1e-5, atol=1e-6)


def test_loss_is_the_mean_over_samples_of_their_own_tokens() -> None:
    """So that micro-batches with more or fewer tokens add up to the whole batch."""
    own, flow = model(), FlowMatching(FlowMatchingConfig())
    with drawing(seed=1, keys=range(ROWS)):
        x, t, prepared = flow.inputs(own, data := batch())
        noise, _ = flow.draw(data)
        terms = flow(own, data)
        velocity = own(x, t, prepared)
    error = (velocity - (noise - data["latent"])).square()
    own_tokens = [error[row, :count].mean() for row, count in enumerate(COUNTS)]
    torch.testing.assert_close(terms["loss"], torch.stack(own_tokens).mean())


def test_order_of_tokens_means_nothing() -> None:
    own = model()
    data, order = batch(), torch.randperm(TOKENS)
    moved = {k: v[:, order] if k in ("latent", "positions", "token_mask") else v for k, v in data.items()}
    mask = data["token_mask"]
    one, other = own(*arguments(own, data)), own(*arguments(own, moved))
    torch.testing.assert_close(one[:, order][mask[:, order]], other[mask[:, order]], atol=1e-5, rtol=1e-4)


def test_places_and_what_is_given_matter() -> None:
    own = model(given_channels=2)
    data = batch(2)
    first = own(*arguments(own, data))
    shifted = own(*arguments(own, {**data, "positions": data["positions"] + 1}))
    told = own(*arguments(own, {**data, "given": data["given"] + 1}))
    assert not torch.allclose(first, shifted, atol=1e-3) and not torch.allclose(first, told, atol=1e-3)


def test_an_encoded_condition_gives_the_same_velocity() -> None:
    own = model().eval()
    x, t, prepared = arguments(own)
    assert torch.equal(own(x, t, prepared), own(x, t, own.encode_condition(prepared)))


def test_tokens_without_positions_are_refused() -> None:
    own = model()
    x, t, prepared = arguments(own)
    del prepared["positions"]
    with pytest.raises(MaquetteError, match="positions"):
        own(x, t, prepared)


def test_forward_is_begin_blocks_finish_and_parts_suffice() -> None:
    own = model(given_channels=2)
    inputs = arguments(own)
    everything = {*own._modules, *own._parameters, *own._buffers}
    assert {*own.begin_parts(), *own.finish_parts(), "layers"} == everything

    def keep(names: list[str]) -> TokenDiT:
        part = copy.deepcopy(own)
        for name in everything - set(names):
            delattr(part, name)
        return part

    begun = keep(own.begin_parts()).begin(*inputs)
    for value, axis in zip(begun, own.token_axes(), strict=True):
        assert axis is None or value.shape[axis] == TOKENS
    h, *context = begun
    for block in own.blocks():
        h = block(h, *context)
    assert torch.equal(keep(own.finish_parts()).finish(h, *context), own(*inputs))


def test_context_parallelism_masks_keys_of_all_tokens() -> None:
    """Queries may be a part of the tokens; the mask is of all keys. A ring, which sees keys in turn, refuses."""
    core = model().attentions()[0]
    q, k, v = torch.randn(3, ROWS, TOKENS, 2, 16).unbind(0)
    keep = batch()["token_mask"]
    whole = core(q, k, v, keep=keep)
    torch.testing.assert_close(core(q[:, 4:8], k, v, keep=keep), whole[:, 4:8])
    alone = core(q[1:2], k[1:2, : COUNTS[1]], v[1:2, : COUNTS[1]])
    torch.testing.assert_close(whole[1:2], alone)
    with pytest.raises(MaquetteError, match="ulysses"):
        RingCore()(q, k, v, keep=keep)


def test_flops_are_those_of_torch() -> None:
    own = model(given_channels=2)
    data = own.example_batch(ROWS)
    with FlopCounterMode(display=False) as counter:
        own(data["latent"], torch.rand(ROWS), condition(own, data))
    assert own.flops(data) == counter.get_total_flops()
    assert own.token_count(data) == ROWS * own.config.tokens
