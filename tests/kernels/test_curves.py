"""Morton and Hilbert codes against what they are by definition."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from maquette.errors import MaquetteError
from maquette_kernels.curves import functions as curves
from maquette_kernels.curves.hilbert import HILBERT_DECODE, HILBERT_ENCODE
from maquette_kernels.curves.morton import MORTON_DECODE, MORTON_ENCODE
from maquette_kernels.operation import Operation
from maquette_kernels.resolution import fixed

IMPLEMENTATIONS = ("reference", "cpu")
PAIRS = ((MORTON_ENCODE, MORTON_DECODE), (HILBERT_ENCODE, HILBERT_DECODE))


def cube(bits: int) -> Tensor:
    """All voxels of a cube, x slowest."""
    return torch.cartesian_prod(*[torch.arange(1 << bits)] * 3).int()


def test_the_bits_of_a_morton_code_stand_where_they_should() -> None:
    """x in the lowest bit, then y, then z, then x again."""
    coords = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [2, 0, 0], [0, 0, 1 << 20], [3, 5, 7]], dtype=torch.int32)
    assert curves.morton_encode(coords).tolist() == [1, 2, 4, 8, 1 << 62, 0b110101111]


def test_a_batch_index_stands_above_the_code() -> None:
    """In both codes, so that sorting keeps elements of the batch together."""
    coords = torch.tensor([[5, 1, 2, 3]], dtype=torch.int32)
    for encode in (curves.morton_encode, curves.hilbert_encode):
        assert encode(coords, 8) == (5 << 24) + encode(coords[:, 1:], 8)
        assert encode(coords) == (5 << 48) + encode(coords[:, 1:], 16)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("encode", "decode"), PAIRS)
@pytest.mark.parametrize("bits", [1, 2, 3, 5])
def test_codes_number_the_voxels_of_a_cube(
    encode: Operation, decode: Operation, implementation: str, bits: int
) -> None:
    """A bijection onto 0 .. 8^bits - 1, undone by decoding."""
    coords = cube(bits)
    with fixed(encode, implementation), fixed(decode, implementation):
        codes = encode(coords, bits)
        assert torch.equal(codes.sort().values, torch.arange(8**bits))
        assert torch.equal(decode(codes, bits, False), coords)


@pytest.mark.parametrize(("encode", "decode"), PAIRS)
@pytest.mark.parametrize("bits", [16, 20, 21])
def test_codes_of_many_bits_come_back(encode: Operation, decode: Operation, bits: int) -> None:
    """At the corners of large cubes and inside them; with a batch index where there is room."""
    coords = torch.randint(0, 1 << bits, (999, 3), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    coords[:8] = cube(1) * ((1 << bits) - 1)
    codes = encode(coords, bits)
    assert (codes >= 0).all()
    assert torch.equal(decode(codes, bits, False), coords)
    if bits <= 20:
        batched = torch.cat([torch.arange(999).int().unsqueeze(1) % 8, coords], 1)
        assert torch.equal(decode(encode(batched, bits), bits, True), batched)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5])
def test_consecutive_hilbert_codes_share_a_face(bits: int) -> None:
    """From the origin to the far end of the x axis, one step at a time."""
    path = curves.hilbert_decode(torch.arange(8**bits), bits)
    assert path[0].tolist() == [0, 0, 0]
    assert path[-1].tolist() == [(1 << bits) - 1, 0, 0]
    assert (path.diff(dim=0).abs().sum(1) == 1).all()


def test_consecutive_hilbert_codes_share_a_face_at_all_bits() -> None:
    """Runs of codes across the joints of octants of every size."""
    joints = torch.tensor([1 << power for power in range(6, 63)]).unsqueeze(1)
    path = curves.hilbert_decode((joints + torch.arange(-4, 4)).flatten()).unflatten(0, (-1, 8)).long()
    assert (path.diff(dim=1).abs().sum(-1) == 1).all()


def test_hilbert_codes_fill_each_octant_before_the_next() -> None:
    """The first code of ``bits`` tells the octant, as the code of one bit would, up to the octants' order."""
    coords = cube(3)
    octant = curves.hilbert_encode(coords, 3) >> 6
    for corner in range(8):
        assert len((coords[octant == corner] >> 2).unique(dim=0)) == 1


def test_morton_codes_of_parents_are_those_of_children_cut_short() -> None:
    """Halving coordinates drops three bits."""
    coords = torch.randint(0, 1 << 21, (500, 3), generator=torch.Generator().manual_seed(1), dtype=torch.int32)
    assert torch.equal(curves.morton_encode(coords >> 1), curves.morton_encode(coords) >> 3)


@pytest.mark.parametrize(("encode", "decode"), PAIRS)
def test_strided_arguments(encode: Operation, decode: Operation) -> None:
    """Every other code, and coordinates column by column."""
    coords = cube(3)
    codes = encode(coords, 3)
    assert torch.equal(decode(codes[::2], 3, False), coords[::2])
    assert torch.equal(encode(coords.T.contiguous().T, 3), codes)


STRIDED = """
import torch
from maquette_kernels.curves.functions import hilbert_decode, hilbert_encode, morton_decode, morton_encode
from maquette_kernels.curves import hilbert, morton
from maquette_kernels.resolution import fixed
codes = torch.arange(8 ** 4)
for encode, decode, package in ((morton_encode, morton_decode, morton), (hilbert_encode, hilbert_decode, hilbert)):
    encoder, decoder = (v for n, v in sorted(vars(package).items(), reverse=True) if n.isupper())
    coords = decode(codes, 4)
    with fixed(encoder, "triton"), fixed(decoder, "triton"):
        assert torch.equal(decode(codes[::3], 4), coords[::3])
        assert torch.equal(encode(coords.T.contiguous().T[1::2], 4), codes[1::2])
"""


def test_strided_arguments_in_triton() -> None:
    """In a process of its own: a wrong stride may crash it."""
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", STRIDED], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]


@pytest.mark.parametrize("threads", [1, 2])
def test_large_calls_are_cut_into_chunks(threads: int) -> None:
    """More voxels than one chunk of the CPU path, in any number of threads."""
    coords = torch.randint(0, 1 << 10, (150_001, 3), generator=torch.Generator().manual_seed(2), dtype=torch.int32)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        codes = curves.hilbert_encode(coords, 10)
        assert torch.equal(curves.hilbert_decode(codes, 10), coords)
    finally:
        torch.set_num_threads(before)
    with fixed(HILBERT_ENCODE, "reference"):
        assert torch.equal(curves.hilbert_encode(coords[-99:], 10), codes[-99:])


@pytest.mark.parametrize("kind", curves.CURVES)
def test_the_order_runs_along_the_curve(kind: curves.Curve) -> None:
    """Element by element; transposed curves are those of x and y exchanged; equal voxels keep their order."""
    generator = torch.Generator().manual_seed(3)
    coords = torch.randint(0, 8, (300, 4), generator=generator, dtype=torch.int32)
    coords[:, 0] %= 3
    order = curves.curve_order(coords, kind, bits=3)
    assert torch.equal(order.sort().values, torch.arange(300))
    columns = [0, 2, 1, 3] if kind.endswith("transposed") else [0, 1, 2, 3]
    encode: Callable[..., Tensor] = curves.hilbert_encode if "hilbert" in kind else curves.morton_encode
    keys = encode(coords[:, columns], 3)[order]
    assert (keys.diff() >= 0).all()
    assert (coords[order, 0].diff() >= 0).all()
    assert (order.diff()[keys.diff() == 0] > 0).all()


def test_the_hilbert_order_keeps_neighbours_nearer_than_the_order_of_axes() -> None:
    """What the order is for: voxels of one window lie near each other."""
    coords = cube(4)
    spread = [
        coords[order].view(-1, 64, 3).float().std(1).norm(dim=-1).mean()
        for order in (curves.curve_order(coords, "hilbert", 4), torch.arange(len(coords)))
    ]
    assert spread[0] < 0.5 * spread[1]


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: curves.morton_encode(torch.zeros(3, 2, dtype=torch.int32)), "coords must be int32"),
        (lambda: curves.morton_encode(torch.zeros(3, 3)), "coords must be int32"),
        (lambda: curves.hilbert_encode(torch.zeros(3, 3, dtype=torch.int32), 22), "bits is 22; a side has 1 to 21"),
        (lambda: curves.hilbert_encode(torch.zeros(3, 4, dtype=torch.int32), 21), "1 to 20 bits beside a batch"),
        (lambda: curves.hilbert_decode(torch.zeros(3, dtype=torch.int32)), "codes must be int64"),
        (lambda: curves.morton_decode(torch.zeros(3, dtype=torch.int64), 0), "bits is 0"),
        (lambda: curves.curve_order(torch.zeros(3, 3, dtype=torch.int32), "peano"), "no curve 'peano'"),  # type: ignore[arg-type]
    ],
)
def test_wrong_calls_are_told_in_one_line(call: Callable[[], Tensor], told: str) -> None:
    with pytest.raises(MaquetteError, match=told) as raised:
        call()
    assert "\n" not in str(raised.value)
