"""Sparse convolution, its maps and modules against torch's dense ones on scattered grids."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from maquette.errors import MaquetteError
from maquette_kernels.resolution import fixed
from maquette_kernels.sparse import functions as sparse
from maquette_kernels.sparse.clouds import shell, voxels
from maquette_kernels.sparse.keys import check_coords, pack, unpack
from maquette_kernels.sparse.map_order import invert_map, mask_order
from maquette_kernels.sparse.maps import strided_coords
from maquette_kernels.sparse.modules import (
    OnFeatures,
    SparseConv3d,
    SparseDownsample,
    SparseInverseConv3d,
    SparseUpsample,
    SubmanifoldConv3d,
    load_spconv_weight,
    to_spconv_weight,
)
from maquette_kernels.sparse.neighbour_map import NEIGHBOUR_MAP
from maquette_kernels.sparse.sparse_conv3d import SPARSE_CONV3D, cpu
from maquette_kernels.sparse.tensor import SparseTensor

SIDE = 6
GRID = (SIDE, SIDE, SIDE)
KERNELS = [(3, 3, 3), (1, 1, 1), (2, 2, 2), (3, 1, 2), (1, 4, 5)]


def scattered(channels: int = 3, count: int = 150, batch: int = 2, seed: int = 0) -> SparseTensor:
    """Random features in float64 on random voxels of two 6^3 grids, unsorted; many places are taken in both."""
    coords = voxels(count, side=SIDE, batch=batch, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(len(coords), channels, generator=generator, dtype=torch.float64)
    return SparseTensor.of(features, coords, batch)


def at(grid: Tensor, coords: Tensor) -> Tensor:
    """Features [N, C] of a dense grid [B, C, X, Y, Z] at voxels."""
    return grid.permute(0, 2, 3, 4, 1)[tuple(coords.long().unbind(1))]


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dense_conv(x: Tensor, weight: Tensor, kernel: tuple[int, int, int], dilation: int = 1) -> Tensor:
    """torch's convolution with our weight [V, Ci, Co] and our centre of even kernels."""
    padding = [(dilation * ((k - 1) // 2), dilation * (k // 2)) for k in reversed(kernel)]
    w = weight.unflatten(0, kernel).permute(4, 3, 0, 1, 2)
    return functional.conv3d(functional.pad(x, list(itertools.chain(*padding))), w, dilation=dilation)


@pytest.mark.parametrize("implementation", ["cpu", "reference"])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("kernel", KERNELS)
def test_submanifold_convolution_is_the_dense_one_at_the_voxels(
    kernel: tuple[int, int, int], dilation: int, implementation: str
) -> None:
    x = scattered()
    taps = kernel[0] * kernel[1] * kernel[2]
    weight, bias, above = drawn(taps, 3, 5), drawn(5), drawn(len(x.coords), 5, seed=2)
    leaves = [x.features.requires_grad_(), weight.requires_grad_(), bias.requires_grad_()]
    with fixed(SPARSE_CONV3D, implementation), fixed(NEIGHBOUR_MAP, implementation):
        ours = x.kernel_map(kernel, dilation=dilation).convolve(x.features, weight, bias)
        found = torch.autograd.grad(ours, leaves, above)
    dense = at(dense_conv(x.dense(GRID), weight, kernel, dilation), x.coords) + bias
    torch.testing.assert_close(ours, dense)
    torch.testing.assert_close(found, torch.autograd.grad(dense, leaves, above))


@pytest.mark.parametrize(("kernel", "stride"), [((2, 2, 2), 2), ((3, 3, 3), 2), ((3, 3, 3), 3), ((1, 2, 3), 2)])
def test_strided_and_inverse_convolutions_are_the_dense_ones(kernel: tuple[int, int, int], stride: int) -> None:
    x = scattered()
    down, up = drawn(kernel[0] * kernel[1] * kernel[2], 3, 4), drawn(kernel[0] * kernel[1] * kernel[2], 4, 3)
    coarse, found = x.strided_map(kernel, stride)
    assert coarse.stride == stride
    ours = found.convolve(x.features, down)
    dense = dense_conv(x.dense(GRID), down, kernel)[:, :, ::stride, ::stride, ::stride]
    torch.testing.assert_close(ours, at(dense, coarse.coords))

    back = found.inverse.convolve(ours, up)
    turned = up.unflatten(0, kernel).permute(3, 4, 0, 1, 2)
    small = coarse.replace(ours).dense(tuple(dense.shape[2:]))  # type: ignore[arg-type]
    spread = functional.conv_transpose3d(small, turned, stride=stride)
    behind = [(k - 1) // 2 for k in kernel]
    spread = functional.pad(spread, [0, SIDE] * 3)[:, :, behind[0] :, behind[1] :, behind[2] :]
    torch.testing.assert_close(back, at(spread, x.coords))


def test_one_tap_moves_features_by_its_offset() -> None:
    x = scattered()
    for tap, offset in enumerate(itertools.product((-1, 0, 1), repeat=3)):
        weight = torch.zeros(27, 3, 3, dtype=torch.float64)
        weight[tap] = torch.eye(3)
        moved = x.kernel_map().convolve(x.features, weight)
        places = {tuple(c): f for c, f in zip(x.coords.tolist(), x.features, strict=True)}
        for row, (batch, *centre) in enumerate(x.coords.tolist()):
            expected = places.get((batch, *(c + o for c, o in zip(centre, offset, strict=True))), torch.zeros(3))
            assert torch.equal(moved[row], expected.double())


@pytest.mark.parametrize(
    ("share", "dtype"),
    [(0.0, torch.bfloat16), (1.0, torch.bfloat16), (0.0, torch.float64), (1.0, torch.float32), (1.0, torch.float16)],
)
def test_both_ways_of_the_cpu_path_agree(share: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    coords = shell(24)
    neighbours = sparse.neighbour_map(coords)
    features, weight = drawn(len(coords), 24).to(dtype), (drawn(27, 24, 40) / 20).to(dtype)
    monkeypatch.setattr(cpu, "DENSE_FROM", {torch.bfloat16: share, torch.float64: share})
    monkeypatch.setattr(cpu, "CACHE", 1 << 14)
    before, results = torch.get_num_threads(), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        leaves = [features.clone().requires_grad_(), weight.clone().requires_grad_()]
        out = sparse.sparse_conv3d(*leaves, None, neighbours, neighbours.flip(1))
        results.append(
            [out, *torch.autograd.grad(out.to(torch.promote_types(dtype, torch.float32)).square().sum(), leaves)]
        )
    torch.set_num_threads(before)
    leaves = [features.double().requires_grad_(), weight.double().requires_grad_()]
    with fixed(SPARSE_CONV3D, "reference"):
        exact = sparse.sparse_conv3d(*leaves, None, neighbours)
        oracle = [exact, *torch.autograd.grad(exact.square().sum(), leaves)]
    for mine in results:
        for found, wanted in zip(mine, oracle, strict=True):
            error = (found.double() - wanted).abs().max() / wanted.abs().max()
            assert error < 8 * torch.finfo(dtype).eps or error < 1e-12


@pytest.mark.parametrize("channels", [5, 6])
def test_whole_numbers_in_bfloat16_are_exact_wherever_they_lie(channels: int) -> None:
    """Taps of 6, 3 and 1 pairs, so that a short list follows a longer one; rows begin at odd places of memory."""
    neighbours = torch.tensor([[0, 1, -1], [1, 2, -1], [2, 3, 4], [3, -1, -1], [4, -1, -1], [5, -1, -1]]).int()
    numbers = torch.randint(-4, 5, (1 + 6 * channels,), generator=torch.Generator().manual_seed(3)).bfloat16()
    features, weight = numbers[1:].view(6, channels), drawn(3, channels, 20).mul(2).round().bfloat16()
    found, wanted = [], []
    for results, chosen in ((found, "cpu"), (wanted, "reference")):
        leaves = [features.requires_grad_(), weight.requires_grad_()]
        with fixed(SPARSE_CONV3D, chosen):
            out = sparse.sparse_conv3d(*leaves, None, neighbours)
            results.extend([out, *torch.autograd.grad(out, leaves, torch.ones_like(out))])
    for mine, theirs in zip(found, wanted, strict=True):
        assert torch.equal(mine, theirs)


def test_neighbour_map_does_not_depend_on_where_voxels_lie() -> None:
    coords = voxels(100, side=5, batch=2, seed=3)
    expected = sparse.neighbour_map(coords)
    for shift in (-32768, -3, 32763):
        moved = coords + torch.tensor([0, shift, shift, shift], dtype=torch.int32)
        assert torch.equal(sparse.neighbour_map(moved), expected)


def test_voxels_at_the_ends_of_the_range_are_not_neighbours() -> None:
    coords = torch.tensor([[0, 0, 0, 32767], [0, 0, 1, -32768], [0, 32767, 0, 0], [1, -32768, 0, 0]]).int()
    found = sparse.neighbour_map(coords)
    assert int((found >= 0).sum()) == len(coords)  # each is its own


def test_invert_map_is_its_own_inverse() -> None:
    x = scattered()
    coarse = strided_coords(x.coords, 2)
    there = sparse.kernel_map(coarse, x.coords, 3, stride=2)
    back = invert_map(there, len(x.coords))
    assert torch.equal(invert_map(back, len(coarse)), there)
    assert int((back >= 0).sum()) == int((there >= 0).sum()) > len(coarse)
    same = sparse.neighbour_map(x.coords)
    assert torch.equal(invert_map(same, len(x.coords)), same.flip(1))


def test_mask_order_brings_equal_masks_together() -> None:
    neighbours = sparse.neighbour_map(shell(12))
    order = mask_order(neighbours).long()
    assert torch.equal(order.sort().values, torch.arange(len(neighbours)))
    masks = [tuple(row) for row in (neighbours[order] >= 0).tolist()]
    runs = sum(a != b for a, b in itertools.pairwise(masks)) + 1
    assert runs == len(set(masks))


def test_space_to_channel_is_a_rearranged_grid() -> None:
    x = scattered(4)
    coarse, parent, octant = sparse.coarsen(x.coords)
    ours = sparse.space_to_channel(x.features, parent, octant, len(coarse))
    grid = x.dense(GRID).unflatten(2, (3, 2)).unflatten(4, (3, 2)).unflatten(6, (3, 2))
    cells = grid.permute(0, 3, 5, 7, 1, 2, 4, 6).flatten(1, 4)
    assert torch.equal(ours, at(cells, coarse))
    assert torch.equal(sparse.channel_to_space(ours, parent, octant), x.features)


def test_space_and_channel_are_adjoint() -> None:
    x = scattered(2)
    coarse, parent, octant = sparse.coarsen(x.coords)
    fine, wide = x.features.requires_grad_(), drawn(len(coarse), 16).requires_grad_()
    left = (sparse.space_to_channel(fine, parent, octant, len(coarse)) * wide).sum()
    right = (fine * sparse.channel_to_space(wide, parent, octant)).sum()
    torch.testing.assert_close(left, right)
    torch.testing.assert_close(torch.autograd.grad(left, [fine, wide]), torch.autograd.grad(right, [fine, wide]))


def test_pools_see_only_the_children_that_are_there() -> None:
    x = scattered(2, count=40)
    coarse, parent, octant = sparse.coarsen(x.coords)
    for row in range(len(coarse)):
        mine = x.features[parent == row]
        torch.testing.assert_close(sparse.mean_pool(x.features, parent, octant, len(coarse))[row], mine.mean(0))
        torch.testing.assert_close(sparse.max_pool(x.features, parent, octant, len(coarse))[row], mine.amax(0))
    up = sparse.upsample_nearest(coarse.double(), parent, octant)
    assert torch.equal(up[:, 1:], (x.coords[:, 1:] >> 1).double())


def test_packed_coordinates_sort_and_return() -> None:
    coords = torch.tensor([[0, -32768, 5, -1], [0, -1, 32767, 0], [0, 0, 0, 0], [32767, 32767, 32767, 32767]]).int()
    keys = pack(coords)
    assert torch.equal(unpack(keys), coords)
    assert keys.tolist() == sorted(keys.tolist())


def test_weights_of_spconv_mean_the_same() -> None:
    x = scattered()
    theirs = drawn(5, 3, 1, 3, 3)  # [Co, kx, ky, kz, Ci]
    ours = load_spconv_weight(theirs)
    assert torch.equal(to_spconv_weight(ours, (3, 1, 3)), theirs)
    dense = functional.conv3d(x.dense(GRID), theirs.permute(0, 4, 1, 2, 3), padding=(1, 0, 1))
    torch.testing.assert_close(x.kernel_map((3, 1, 3)).convolve(x.features, ours), at(dense, x.coords))
    with pytest.raises(MaquetteError, match=r"must be \[Co, kx, ky, kz, Ci\]"):
        load_spconv_weight(theirs[0])


class Network(nn.Module):
    """Two levels: convolve, go down in two ways, come up in two ways."""

    def __init__(self) -> None:
        super().__init__()
        self.first = SubmanifoldConv3d(3, 8, dilation=2)
        self.norm = OnFeatures(nn.LayerNorm(8))
        self.down, self.up = SparseConv3d(8, 16), SparseInverseConv3d(16, 8)
        self.fold, self.unfold = SparseDownsample(), SparseUpsample()
        self.last = SubmanifoldConv3d(8, 2, (1, 3, 3), bias=False)

    def forward(self, x: SparseTensor) -> SparseTensor:
        x = self.norm(self.first(x))
        folded = self.unfold(self.fold(x), like=x)
        return self.last(self.up(self.down(x), like=x).replace(folded.features + x.features))


def network() -> Network:
    torch.manual_seed(0)
    return Network().double()


def test_modules_do_not_see_other_batch_elements_nor_the_order_of_voxels() -> None:
    net, x = network(), scattered()
    whole = net(x).features
    for element in range(2):
        mine = x.coords[:, 0] == element
        alone = SparseTensor.of(x.features[mine], x.coords[mine], 2)
        torch.testing.assert_close(net(alone).features, whole[mine])
    order = torch.randperm(len(x.coords), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(net(SparseTensor.of(x.features[order], x.coords[order], 2)).features, whole[order])


def test_a_network_learns() -> None:
    net, x = network(), scattered()
    wanted = x.features[:, :2].roll(1, 0)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.02)
    losses = []
    for _ in range(30):
        loss = (net(x).features - wanted).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(parameter.grad is not None for parameter in net.first.parameters())


def test_tensors_on_the_same_voxels_share_their_maps() -> None:
    x = scattered()
    assert x.replace(x.features * 2).kernel_map(3) is x.kernel_map((3, 3, 3))
    assert x.kernel_map(3, dilation=2) is not x.kernel_map(3)
    assert x.coarsened()[0].stride == 2
    ordered = SparseTensor.of(
        torch.zeros(4, 1), torch.tensor([[0, 0, 0, 0], [0, 1, 0, 0], [2, 0, 0, 0], [2, 0, 0, 1]]).int()
    )
    assert ordered.offsets.tolist() == [0, 2, 2, 4]


def test_autocast_reaches_the_convolution() -> None:
    x = scattered()
    net = SubmanifoldConv3d(3, 4)
    x = x.replace(x.features.float())
    with torch.autocast("cpu", torch.bfloat16):
        low = net(x).features
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), net(x).features, rtol=0.02, atol=0.02)


def some(**changed: Any) -> dict[str, Any]:
    call = {
        "features": torch.zeros(4, 3),
        "weight": torch.zeros(27, 3, 5),
        "bias": None,
        "neighbours": torch.zeros(6, 27, dtype=torch.int32),
    }
    return call | changed


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"features": torch.zeros(4, 2)}, r"features must be \[N, Ci\]"),
        ({"neighbours": torch.zeros(6, 8, dtype=torch.int32)}, r"neighbours must be \[M, 27\]"),
        ({"neighbours": torch.zeros(6, 27).long()}, "neighbours must be int32"),
        ({"weight": torch.zeros(27, 3, 5).bfloat16()}, "features' dtype"),
        ({"bias": torch.zeros(3)}, r"bias must be \[5\]"),
        ({"reverse": torch.zeros(6, 27, dtype=torch.int32)}, r"reverse must be \[4, 27\]"),
    ],
)
def test_calls_that_do_not_fit_are_refused(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(MaquetteError, match=told):
        sparse.sparse_conv3d(**some(**changed))


def test_mistakes_with_voxels_are_told_in_one_line() -> None:
    coords = torch.zeros(2, 4, dtype=torch.int32)
    with pytest.raises(MaquetteError, match="share their place"):
        check_coords(coords)
    with pytest.raises(MaquetteError, match=r"must lie in -32768\.\.32767"):
        SparseTensor.of(torch.zeros(1, 1), torch.tensor([[0, 40000, 0, 0]]).int(), check=True)
    with pytest.raises(MaquetteError, match="batch indices"):
        check_coords(torch.tensor([[-1, 0, 0, 0]]).int())
    with pytest.raises(MaquetteError, match="give int32"):
        SparseTensor.of(torch.zeros(2, 1), coords.long(), 1)
    with pytest.raises(MaquetteError, match="do not fit"):
        SparseTensor.of(torch.zeros(3, 1), coords, 1)
    with pytest.raises(MaquetteError, match=r"coords must be int32 \[N, 4\]"):
        sparse.neighbour_map(coords[:, :3])
    with pytest.raises(MaquetteError, match="kernel_size is 0"):
        sparse.neighbour_map(coords, 0)
    with pytest.raises(MaquetteError, match="dilation must be at least 1"):
        sparse.neighbour_map(coords, 3, dilation=0)


def test_going_up_to_other_voxels_is_told() -> None:
    x = scattered()
    with pytest.raises(MaquetteError, match="give the tensor that x was made from"):
        SparseUpsample("nearest")(x, like=x)
    with pytest.raises(MaquetteError, match="unknown mode of SparseDownsample 'min'"):
        SparseDownsample("min")


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_and_one_voxel_pass_through_everything(count: int) -> None:
    x = scattered(count=count)
    x = x.replace(x.features.requires_grad_())
    out = network()(x)
    assert out.features.shape == (count, 2)
    out.features.sum().backward()
    for mode in ("mean", "max"):
        assert SparseDownsample(mode)(x).features.shape == (count, 3)


def test_modules_compile_into_one_graph() -> None:
    net, fold, x = SubmanifoldConv3d(3, 4), SparseDownsample(), scattered(count=20)
    x = x.replace(x.features.float())

    def run(features: Tensor) -> Tensor:
        return fold(net(SparseTensor(features, x.coords, 2))).features

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x.features), run(x.features))
