"""Children and parents, resampling, blocks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maquette.errors import MaquetteError
from maquette_kernels.ops import coarsen
from maquette_kernels.sparse.tensor import SparseTensor
from maquette_models.sparse_voxels.residual_blocks import ResidualDown, ResidualUp, SparseBlock, children


def voxels(seed: int, batch: int = 2, side: int = 8, share: float = 0.2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nonzero(torch.rand(batch, side, side, side, generator=generator) < share).int()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), share=st.floats(0.01, 0.9))
def test_children_undo_coarsening(seed: int, share: float) -> None:
    """What `coarsen` says of fine voxels, `children` gives back, in the same order."""
    fine = voxels(seed, share=share)
    coarse, parent, octant = coarsen(fine)
    present = torch.zeros(len(coarse), 8, dtype=torch.bool)
    present[parent.long(), octant.long()] = True
    found = children(coarse, present)
    for one, other in zip(found, (fine, parent, octant), strict=True):
        assert torch.equal(one, other)


def test_no_children_are_none() -> None:
    coords, parent, octant = children(voxels(0), torch.zeros(len(voxels(0)), 8, dtype=torch.bool))
    assert len(coords) == len(parent) == len(octant) == 0


@pytest.mark.parametrize(("fine", "coarse"), [(16, 32), (16, 16), (8, 64)])
def test_resampling_passes_means_down_and_copies_up(fine: int, coarse: int) -> None:
    """With nothing learnt, a constant goes down to itself where all children are there, and up to itself."""
    whole = torch.nonzero(torch.ones(1, 4, 4, 4)).int()
    x = SparseTensor.of(torch.full((len(whole), fine), 1.5), whole, 1)
    down, up = ResidualDown(fine, coarse), ResidualUp(coarse, fine)
    for parameter in (*down.parameters(), *up.parameters()):
        torch.nn.init.zeros_(parameter)
    low = down(x)
    assert low.features.shape == (8, coarse) and (low.features == 1.5).all()
    family = x.coarsened()[1]
    assert torch.equal(up(low.features, family.parent, family.octant), x.features)


def test_widths_that_do_not_divide_are_refused() -> None:
    with pytest.raises(MaquetteError, match="1, 2, 4 or 8 times"):
        ResidualDown(10, 32)


def test_a_block_starts_as_the_identity_and_sees_neighbours() -> None:
    coords = torch.tensor([[0, 0, 0, 0], [0, 1, 0, 0], [0, 5, 5, 5], [1, 0, 0, 0]], dtype=torch.int32)
    x = SparseTensor.of(torch.randn(4, 8), coords, 2)
    block = SparseBlock(8, 2)
    assert torch.equal(block(x).features, x.features)
    torch.nn.init.normal_(block.down.weight)
    before = block(x).features
    after = block(x.replace(x.features + torch.tensor([[0.0], [1.0], [0], [0]]) * torch.randn(8))).features
    changed = (before != after).any(dim=1)
    assert changed.tolist() == [True, True, False, False], "its neighbour, not a far voxel nor another shape"
