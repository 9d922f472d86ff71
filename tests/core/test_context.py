"""Context parallelism: attention of a share of the tokens to all of them, equal to one process."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from maquette.errors import MaquetteError
from maquette.parallel.context import AllGather, Ring, Ulysses
from maquette.parallel.layout import Layout
from maquette.parallel.mesh import Mesh
from maquette.parallel.ring_attention import attend, attend_backward, merge
from maquette.precision import Precision
from maquette.testing import TinyTransformer, run_ranks
from tests.core import token_parity as parity

WAYS = {"ulysses": Ulysses, "all_gather": AllGather, "ring": Ring}


def test_two_processes_train_as_one_does():
    pair = {"context": 2}
    plain = [parity.run(pair, way, accumulate=2, depth=2) for way in WAYS]
    compiled = [parity.run(pair, way, backend="aot_eager", depth=2, steps=1) for way in WAYS]
    for results in parity.check(plain + compiled, 2)[0][3:]:
        assert results[-1]["graphs"] == 1, "all blocks share one compiled graph"


def test_four_processes_train_as_one_does_also_split_by_tensor_and_with_the_parameters_sharded():
    alone = [parity.run({"context": 4}, way, depth=2) for way in WAYS]
    few_heads = [parity.run({"context": 4}, way, heads=2, steps=1) for way in ("all_gather", "ring")]
    split = [parity.run({"context": 2, "tensor": 2}, "tp", way, accumulate=2) for way in WAYS]
    other_order = [parity.run({"context": 2, "tensor": 2}, "ring", "tp", steps=1)]
    sharded = [parity.run({"context": 2, "shard": 2}, way, "fsdp", accumulate=2, steps=2) for way in WAYS]
    parity.check(alone + few_heads + split + other_order + sharded, 4)


def test_three_processes_pass_keys_round_in_the_right_order():
    runs = [parity.run({"context": 3}, way, tokens=9, steps=2) for way in ("ring", "all_gather")]
    parity.check(runs, 3)


def test_bfloat16_stays_near():
    parity.check([parity.run({"context": 2}, way, word="bf16", steps=1) for way in WAYS], 2, rtol=0.08)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_compiled_by_inductor_it_trains_as_one_process_does(way):
    parity.check([parity.run({"context": 2}, way, backend="inductor", depth=2, steps=2)], 2)


def far_scores() -> list[torch.Tensor]:
    """Output and gradients of the ring where one share's scores dwarf the others'."""
    mesh = Mesh(Layout(context=2))
    core = Attention()
    Ring().exchange(core, parity.Peers.along(mesh, "context"))
    own = [x.chunk(2, 1)[mesh.rank].requires_grad_() for x in queries_keys_values()]
    out = core(*own)
    out.square().sum().backward()
    return [out.detach(), *(x.grad for x in own)]


class Attention(nn.Module):
    """The core that the ring replaces."""

    def forward(self, q, k, v):
        """As torch has it."""
        return F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)


def queries_keys_values() -> list[torch.Tensor]:
    """[2, 8, 3, 4] each; the last keys are huge."""
    generator = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(2, 8, 3, 4, generator=generator) for _ in range(3))
    k[:, 6:] *= 200
    return [q, k, v]


def test_the_ring_is_stable_where_scores_are_far_apart():
    ranks = run_ranks(far_scores, 2)
    whole = [x.requires_grad_() for x in queries_keys_values()]
    out = Attention()(*whole)
    out.square().sum().backward()
    for i, expected in enumerate([out.detach(), *(x.grad for x in whole)]):
        assert (torch.cat([rank[i] for rank in ranks], 1) - expected).norm() <= 1e-4 * expected.norm()


@given(cuts=st.lists(st.integers(1, 11), unique=True, max_size=4), scale=st.sampled_from([0.01, 1.0, 100.0]))
def test_attention_to_the_parts_makes_up_attention_to_the_whole(cuts, scale):
    generator = torch.Generator().manual_seed(1)
    q, k, v, grad = (torch.randn(2, 3, n, 4, generator=generator) for n in (5, 12, 12, 5))
    q, k, v = (x.requires_grad_() for x in (q * scale, k, v))
    expected = F.scaled_dot_product_attention(q, k, v)
    expected.backward(grad)
    edges = [0, *sorted(cuts), 12]
    parts = [slice(a, b) for a, b in itertools.pairwise(edges)]
    with torch.no_grad():
        out, lse, seeds = attend(q, k[:, :, parts[0]], v[:, :, parts[0]])
        for part in parts[1:]:
            out, lse = merge(out, lse, *attend(q, k[:, :, part], v[:, :, part])[:2])
        gradients = [attend_backward(grad, (q, k[:, :, p], v[:, :, p]), (out, lse), seeds) for p in parts]
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sum(g[0] for g in gradients), q.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.cat([g[1] for g in gradients], 2), k.grad, rtol=1e-4, atol=1e-4 * scale)
    torch.testing.assert_close(torch.cat([g[2] for g in gradients], 2), v.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.gpu
def test_flash_attention_to_the_parts_makes_up_attention_to_the_whole():
    generator = torch.Generator("cuda").manual_seed(1)
    q, k, v, grad = (torch.randn(2, 3, 256, 64, generator=generator, device="cuda") for _ in range(4))
    q, k, v = (x.requires_grad_() for x in (q, k, v))
    expected = F.scaled_dot_product_attention(q, k, v)
    expected.backward(grad)
    half = [x.detach().bfloat16() for x in (q, k, v, grad)]
    parts = [(half[1][:, :, p], half[2][:, :, p]) for p in (slice(0, 128), slice(128, 256))]
    out, lse, seeds = attend(half[0], *parts[0])
    out, lse = merge(out, lse, *attend(half[0], *parts[1])[:2])
    gradients = [attend_backward(half[3], (half[0], *p), (out.bfloat16(), lse), seeds) for p in parts]
    assert seeds, "flash attention was not used"
    found = [
        out,
        gradients[0][0] + gradients[1][0],
        *(torch.cat(g, 2) for g in zip(*(g[1:] for g in gradients), strict=True)),
    ]
    for value, want in zip(found, (expected, q.grad, k.grad, v.grad), strict=True):
        assert (value.float() - want).norm() < 0.02 * want.norm()


def refusal(way: str, model: nn.Module, **sizes: int) -> str:
    """One line, or nothing."""
    reason = WAYS[way]().refuses(Layout(**sizes), model, Precision()) or ""
    assert "\n" not in reason
    return reason


@pytest.mark.parametrize("way", WAYS)
def test_models_that_do_not_say_where_their_tokens_are_are_refused(way):
    model = TinyTransformer()
    assert refusal(way, model, context=2) == ""
    assert refusal(way, nn.Linear(2, 2), context=1) == ""
    for needed in ("blocks", "begin", "finish", "token_axes", "attentions"):
        lacking = TinyTransformer()
        setattr(lacking, needed, None)
        assert f"declares no {needed}()" in refusal(way, lacking, context=2)
    model.attentions = lambda: []
    assert "names no core" in refusal(way, model, context=2)
    model.attentions = lambda: [nn.Linear(2, 2)]
    assert "no parameters" in refusal(way, model, context=2)


def test_ulysses_needs_heads_that_divide_and_says_what_would_work():
    model = parity.tiny(heads=4)
    assert "context would work at: 1, 2, 4; ring" in refusal("ulysses", model, context=3)
    assert "4 heads do not split over tensor 2 x context 4; context would work at: 1, 2" in refusal(
        "ulysses", model, context=4, tensor=2
    )
    assert refusal("ulysses", model, context=2, tensor=2) == ""
    assert refusal("ring", model, context=3) == ""


@pytest.fixture
def mesh():
    """The first of four processes that talk to nobody."""
    mesh = Mesh(Layout(context=4), backend="fake")
    yield mesh
    mesh.stop()


def test_a_core_of_ulysses_that_meets_odd_heads_says_so(mesh):
    core = Attention()
    Ulysses().exchange(core, parity.Peers.along(mesh, "context"))
    with pytest.raises(MaquetteError, match="6 heads do not split over context=4; use ring"):
        core(*torch.randn(3, 2, 4, 6, 8).unbind())


@pytest.mark.parametrize("way", ["ulysses", "all_gather"])
def test_grouped_queries_keep_their_shapes(mesh, way):
    """Four processes that talk to nobody: shapes alone."""
    core = nn.Module()
    core.forward = lambda q, k, v: seen.extend(x.shape for x in (q, k, v)) or q
    seen: list = []
    WAYS[way]().exchange(core, parity.Peers.along(mesh, "context"))
    out = core(torch.randn(2, 5, 8, 3), torch.randn(2, 5, 4, 3), torch.randn(2, 5, 4, 3))
    assert out.shape == (2, 5, 8, 3)
    expected = {"ulysses": [(2, 20, 2, 3), (2, 20, 1, 3)], "all_gather": [(2, 5, 8, 3), (2, 20, 4, 3)]}[way]
    assert seen == [torch.Size(shape) for shape in (*expected, expected[1])]
