"""Rows keep their bits in any company, and sizes that would change them are not used."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from maquette_models.pipelines.exact_batches import SIZES, ExactBatches


class Careless(nn.Module):
    """Its rows come out differently in batches of a size above `exact`."""

    def __init__(self, exact):
        super().__init__()
        self.exact, self.seen, self.config = exact, [], SimpleNamespace(prediction="v")

    def forward(self, x, t, condition):
        self.seen.append(len(x))
        off = 1e-3 if len(x) > self.exact else 0.0
        return x * t.view(-1, 1) + condition["c"] + off


@given(st.integers(1, 16), st.integers(1, 40), st.integers(1, 16))
def test_rows_come_out_as_they_do_alone(exact, count, largest):
    model = Careless(exact)
    batched = ExactBatches(model, largest)
    x, t, c = torch.randn(count, 3), torch.rand(count), {"c": torch.randn(count, 1)}
    got = batched(x, t, c)
    assert torch.equal(got, x * t.view(-1, 1) + c["c"])
    allowed = [size for size in SIZES if size <= min(exact, largest)]
    if count > 1:
        assert list(batched.sizes(x, c)) == allowed
    model.seen.clear()
    batched(x, t, c)
    assert set(model.seen) <= set(SIZES)
    assert max(model.seen) <= max(allowed)
