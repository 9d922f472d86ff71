"""Morton and Hilbert codes as plain functions."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from maquette.errors import MaquetteError
from maquette_kernels.curves.hilbert import HILBERT_DECODE, HILBERT_ENCODE
from maquette_kernels.curves.morton import MORTON_DECODE, MORTON_ENCODE

Curve = Literal["morton", "morton_transposed", "hilbert", "hilbert_transposed"]
CURVES: tuple[Curve, ...] = ("morton", "morton_transposed", "hilbert", "hilbert_transposed")


def morton_encode(coords: Tensor, bits: int | None = None) -> Tensor:
    """Morton codes (z-order): the bits of x, y and z in turn, x in the lowest: ``...z1 y1 x1 z0 y0 x0``.

    Args:
        coords: int32 or int64 [N, 3] (x, y, z), or [N, 4] (batch, x, y, z), on any device. Coordinates count
            modulo ``2 ** bits``: shift negative ones first.
        bits: of a side, 1 to 21 without a batch index (the default is 21), 1 to 20 beside one (the default
            is 16, which leaves 15 bits to it).

    Returns:
        int64 [N], ``batch << 3 * bits | code``; not negative where batch is below ``2 ** (63 - 3 * bits)``.

    Raises:
        MaquetteError: shapes, dtypes or bits that do not fit.

    Source: Morton 1966, "A computer oriented geodetic data base". For the other order of axes, x in the
    highest bit as in O-CNN and Point Transformer V3, exchange x and z: ``coords[:, [2, 1, 0]]``.
    """
    return MORTON_ENCODE(coords, _default(bits, coords.ndim == 2 and coords.shape[-1] == 4))


def morton_decode(codes: Tensor, bits: int | None = None, *, batched: bool = False) -> Tensor:
    """Voxels of Morton codes: the inverse of :func:`morton_encode`.

    Args:
        codes: int64 [N].
        bits: as they were encoded; the default is 21, or 16 where ``batched``.
        batched: whether the codes hold a batch index.

    Returns:
        int32 [N, 3] (x, y, z), or [N, 4] (batch, x, y, z) where ``batched``; coordinates in 0 .. 2 ** bits - 1.

    Raises:
        MaquetteError: shapes, dtypes or bits that do not fit.
    """
    return MORTON_DECODE(codes, _default(bits, batched), batched)


def hilbert_encode(coords: Tensor, bits: int | None = None) -> Tensor:
    """Hilbert codes: voxels of consecutive codes share a face.

    The curve begins at the origin and ends at the far corner of the x axis, for any number of bits.

    Args:
        coords: as for :func:`morton_encode`.
        bits: of a side; range and default as for :func:`morton_encode`. Codes of other bits are another curve.

    Returns:
        int64 [N], ``batch << 3 * bits | code``.

    Raises:
        MaquetteError: shapes, dtypes or bits that do not fit.

    Source: Skilling 2004, "Programming the Hilbert curve", with x as its first axis, as Point Transformer V3
    has it.
    """
    return HILBERT_ENCODE(coords, _default(bits, coords.ndim == 2 and coords.shape[-1] == 4))


def hilbert_decode(codes: Tensor, bits: int | None = None, *, batched: bool = False) -> Tensor:
    """Voxels of Hilbert codes: the inverse of :func:`hilbert_encode`.

    Args:
        codes: int64 [N].
        bits: as they were encoded; the default is 21, or 16 where ``batched``.
        batched: whether the codes hold a batch index.

    Returns:
        int32 [N, 3] (x, y, z), or [N, 4] (batch, x, y, z) where ``batched``; coordinates in 0 .. 2 ** bits - 1.

    Raises:
        MaquetteError: shapes, dtypes or bits that do not fit.
    """
    return HILBERT_DECODE(codes, _default(bits, batched), batched)


def curve_order(coords: Tensor, kind: Curve = "hilbert", bits: int = 16) -> Tensor:
    """The order of voxels along a space-filling curve, as serialised attention wants it: one element of the
    batch after the other, neighbours near each other.

    Args:
        coords: int32 or int64 [N, 3] (x, y, z) or [N, 4] (batch, x, y, z); coordinates count modulo
            ``2 ** bits``, so shift negative ones first.
        kind: ``"morton"``, ``"hilbert"``, or either ``"_transposed"``: x and y change places.
        bits: of a side.

    Returns:
        int64 [N], so that ``coords[order]`` runs along the curve; voxels of equal codes keep their order.

    Raises:
        MaquetteError: an unknown curve, or shapes, dtypes or bits that do not fit.

    Source: the serialisation of Point Transformer V3 (Wu et al. 2024).
    """
    if kind not in CURVES:
        raise MaquetteError(f"curve_order: no curve '{kind}'; use one of {', '.join(CURVES)}")
    if kind.endswith("_transposed"):
        *batch, x, y, z = coords.unbind(-1)
        coords = torch.stack([*batch, y, x, z], -1)
    encode = hilbert_encode if kind.startswith("hilbert") else morton_encode
    return torch.argsort(encode(coords, bits), stable=True)


def _default(bits: int | None, batched: bool) -> int:
    if bits is not None:
        return bits
    return 16 if batched else 21
