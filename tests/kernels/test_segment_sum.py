"""The one sum by group that backward passes share: against a loop, its bits, and long runs."""

from __future__ import annotations

import pytest
import torch

from maquette_kernels import segment_sum as module
from maquette_kernels.segment_sum import PIECE, segment_sum
from maquette_kernels.triton_support import interpreting

pytestmark = pytest.mark.skipif(not interpreting(), reason="runs in Triton's interpreter")

LONG = PIECE * PIECE + PIECE + 1


def drawn(rows: int, channels: int, count: int, each: int = 1, dtype: torch.dtype = torch.float32):
    generator = torch.Generator().manual_seed(rows * channels + count)
    values = torch.randn(rows, channels, generator=generator, dtype=torch.float64).to(dtype)
    groups = torch.randint(-1, count + 1, (rows, each), generator=generator)
    return values, groups, torch.rand(rows, each, generator=generator)


def expected(values, groups, count, weights=None):
    rows = values.double()[:, None] * (torch.ones(groups.shape) if weights is None else weights)[..., None].double()
    kept = (groups >= 0) & (groups < count)
    return torch.zeros(count, values.shape[1], dtype=torch.float64).index_add_(0, groups[kept], rows[kept])


@pytest.mark.parametrize("rows", [0, 97, LONG])
@pytest.mark.parametrize(("channels", "count", "each"), [(1, 1, 1), (3, 7, 3), (5, 300, 1), (0, 4, 1), (131, 2, 1)])
def test_sums_are_those_of_a_loop_and_numbers_outside_are_no_group(rows, channels, count, each):
    values, groups, weights = drawn(rows, channels, count, each)
    for given in (None, weights):
        found = segment_sum(values, groups, count, weights=given)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), expected(values, groups, count, given), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(segment_sum(values, groups.int(), count), segment_sum(values, groups, count))


def test_float64_is_added_in_float64_and_the_result_may_be_of_another_dtype():
    values, groups, _ = drawn(500, 4, 3, dtype=torch.float64)
    found = segment_sum(values, groups, 3)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected(values, groups, 3), rtol=1e-13, atol=1e-13)
    half = values.half()
    assert torch.equal(segment_sum(half, groups, 3, dtype=half.dtype), segment_sum(half, groups, 3).half())


@pytest.mark.parametrize("length", [PIECE, PIECE + 1, PIECE * PIECE, LONG, 3 * LONG])
def test_a_groups_bits_do_not_depend_on_the_other_groups(length):
    values = drawn(length, 3, 1)[0]
    alone = segment_sum(values, torch.zeros(length, dtype=torch.int64), 1)
    others, groups, _ = drawn(701, 3, 9)
    mixed = torch.randperm(length + 701, generator=torch.Generator().manual_seed(0))
    place = mixed.argsort()[:length].sort().values  # rows of the group stay in their order among the others
    rows, numbers = torch.empty(length + 701, 3), torch.empty(length + 701, dtype=torch.int64)
    rest = torch.ones(length + 701, dtype=torch.bool).index_fill_(0, place, False)
    rows[place], numbers[place] = values, 4
    rows[rest], numbers[rest] = others, torch.where(groups[:, 0] == 4, 5, groups[:, 0])
    assert torch.equal(segment_sum(rows, numbers, 9)[4], alone[0])


def test_no_program_adds_more_than_a_piece(monkeypatch):
    lengths = []
    plain = module._add
    monkeypatch.setattr(module, "_add", lambda *given: (lengths.append(given), plain(*given)))
    values = torch.ones(3 * LONG, 1)
    assert segment_sum(values, torch.zeros(3 * LONG, dtype=torch.int64), 2)[:, 0].tolist() == [3 * LONG, 0]
    *_, last = lengths
    stored = [int((stop - first).max()) for _, _, _, first, stop, out in lengths if len(out) != 2]
    assert max(stored) == PIECE and int((last[4] - last[3]).max()) <= PIECE
    assert sum(len(out) for *_, out in lengths if len(out) != 2) < 3 * LONG / 8, "room for parts grows with the rows"
