"""The transformer's operations as plain functions."""

# ruff: noqa: PLR0917
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from maquette.errors import MaquetteError
from maquette_kernels.overrides import OVERRIDES
from maquette_kernels.resolution import raise_if_wrong
from maquette_kernels.transformer.fp8_linear import fp8_modulated_linear
from maquette_kernels.transformer.gated_norm_modulate import GATED_NORM_MODULATE
from maquette_kernels.transformer.gated_norm_modulate_quantise import GATED_NORM_MODULATE_QUANTISE
from maquette_kernels.transformer.qk_norm_rope import QK_NORM_ROPE
from maquette_kernels.transformer.quantise_rowwise import QUANTISE_ROWWISE
from maquette_kernels.transformer.ragged_attention import RAGGED_ATTENTION
from maquette_kernels.transformer.windows import window_offsets, windowed_attention

__all__ = [
    "fp8_modulated_linear",
    "gated_norm_modulate",
    "gated_norm_modulate_quantise",
    "qk_norm_rope",
    "quantise_rowwise",
    "ragged_attention",
    "window_offsets",
    "windowed_attention",
]

LONG = 512
"""Length from which equal sequences on a GPU go to torch's attention, whose kernels suit such ones best."""


def qk_norm_rope(
    q: Tensor,
    k: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    positions: Tensor,
    *,
    eps: float = 1e-6,
    theta: float = 10000.0,
) -> tuple[Tensor, Tensor]:
    """RMSNorm of queries and keys over their channels, then rotary embedding of 3D positions.

    The D/2 pairs ``(i, i + D/2)`` of a head turn in three groups of ``F = floor(D/6)``: pair ``j`` of the x
    group by ``x * theta^(-j/F)``, then y and z alike; what is left over does not turn. Products of rotated
    queries and keys depend on differences of positions only.

    Args:
        q: queries [B, N, H, D] in float32, bfloat16, float16 or float64, D even; any strides, such as a view
            of a fused projection (the Triton path wants contiguous channels).
        k: keys, shape and dtype of q.
        q_weight: weight of the query norm [D]; may be wider than q, as float32 is under autocast.
        k_weight: weight of the key norm [D].
        positions: [N, 3] or [B, N, 3] float32, in any unit; the fastest pair turns one radian a unit. No
            gradient.
        eps: added to the mean square.
        theta: the slowest pairs turn about ``theta`` times slower than the fastest.

    Returns:
        Rotated q and k, contiguous [B, N, H, D] in q's dtype.

    Raises:
        MaquetteError: shapes, dtypes or devices that do not fit.

    Source: RMSNorm (Zhang and Sennrich 2019, arXiv:1910.07467) on queries and keys (Henry et al. 2020,
    arXiv:2010.04245); RoPE (Su et al. 2021, arXiv:2104.09864) by axis, as in TRELLIS (Xiang et al. 2024,
    arXiv:2412.01506).
    """
    return QK_NORM_ROPE(q, k, q_weight, k_weight, positions, eps, theta)  # type: ignore[no-any-return]


def gated_norm_modulate(
    x: Tensor,
    h: Tensor,
    gate: Tensor,
    scale: Tensor,
    shift: Tensor,
    offsets: Tensor | None = None,
    *,
    eps: float = 1e-6,
) -> tuple[Tensor, Tensor]:
    """``y = x + gate * h`` and ``layer_norm(y) * (1 + scale) + shift``: what stands between two branches of a
    DiT block.

    Args:
        x: the residual stream, [B, N, D], or [T, D] with the sequences of a ragged batch end to end.
        h: what the last branch gave; shape and dtype of x.
        gate: [B, D], factor of h.
        scale: [B, D], added to 1.
        shift: [B, D].
        offsets: for a ragged batch, where each sequence begins: int64 [B + 1] from 0 to T, never falling;
            equal neighbours are an empty sequence. The values are not checked, which would stall a GPU.
        eps: added to the variance.

    Returns:
        y and its modulated norm, contiguous, shape and dtype of x.

    Raises:
        MaquetteError: shapes, dtypes or devices that do not fit.

    Source: adaLN-Zero of DiT (Peebles and Xie 2022, arXiv:2212.09748).
    """
    return GATED_NORM_MODULATE(x, h, gate, scale, shift, offsets, eps)  # type: ignore[no-any-return]


def ragged_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_offsets: Tensor,
    k_offsets: Tensor | None = None,
    *,
    max_q: int | None = None,
    max_k: int | None = None,
    scale: float | None = None,
) -> Tensor:
    """``softmax(q k^T * scale) v`` within each sequence of a ragged batch, and within each head.

    Args:
        q: queries [T, H, D] in float32, bfloat16, float16 or float64, the sequences end to end; any strides, such as
            a view of a fused projection (the Triton path wants contiguous channels and D up to 256).
        k: keys [S, H, D], dtype of q.
        v: values, shape and dtype of k.
        q_offsets: where the queries of each sequence begin: int64 [B + 1] from 0 to T, never falling. The values are
            not checked, which would stall a GPU.
        k_offsets: the same of the keys, from 0 to S; None: as the queries.
        max_q: at least the number of queries of the longest sequence; rows beyond it are not computed on a GPU. None:
            read from the offsets, for which a GPU has to wait; under ``torch.compile`` T, which launches more than
            is needed.
        max_k: at least the number of keys of the longest sequence; None: likewise.
        scale: factor of the scores; ``D ** -0.5`` by default.

    Returns:
        [T, H, D], contiguous, in q's dtype; zeros where a sequence has no keys. Differentiable in q, k and v,
        deterministic; except that on a GPU sequences that the bounds prove to be of equal length, 512 or longer, go
        to ``scaled_dot_product_attention`` unless torch's deterministic algorithms are asked for.

    Raises:
        MaquetteError: shapes, dtypes or devices that do not fit.

    Source: FlashAttention-2 (Dao 2023, arXiv:2307.08691), after Milakov and Gimelshein 2018, arXiv:1805.02867.
    """
    k_offsets = q_offsets if k_offsets is None else k_offsets
    max_q = _longest(q_offsets, q.shape[0]) if max_q is None else max_q
    max_k = _longest(k_offsets, k.shape[0]) if max_k is None else max_k
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    arguments = (q, k, v, q_offsets, k_offsets, max_q, max_k, scale)
    if q.is_cuda and _is_dense(q, k, len(q_offsets) - 1, max_q, max_k):
        return _dense(arguments, len(q_offsets) - 1)
    return RAGGED_ATTENTION(*arguments)  # type: ignore[no-any-return]


def _longest(offsets: Tensor, total: int) -> int:
    if torch.compiler.is_compiling() or offsets.dim() != 1 or len(offsets) < 2:
        return total
    return int(offsets.diff().max())


def _is_dense(q: Tensor, k: Tensor, batch: int, max_q: int, max_k: int) -> bool:
    """Whether sizes alone prove that all sequences are long and equal, and nobody has asked for the kernel itself."""
    if q.dim() != 3 or min(max_q, max_k) < LONG or batch * max_q != q.shape[0] or batch * max_k != k.shape[0]:
        return False
    if torch.are_deterministic_algorithms_enabled():
        return False
    return torch.compiler.is_compiling() or OVERRIDES.get("ragged_attention") is None


def _dense(arguments: tuple[Any, ...], batch: int) -> Tensor:
    """A call whose sequences have equal lengths by torch's attention."""
    raise_if_wrong(RAGGED_ATTENTION, RAGGED_ATTENTION.call(*arguments))
    apart = [x.unflatten(0, (batch, -1)).transpose(1, 2) for x in arguments[:3]]
    return functional.scaled_dot_product_attention(*apart, scale=arguments[-1]).transpose(1, 2).flatten(0, 1)


def quantise_rowwise(x: Tensor, *, power_of_two: bool = True) -> tuple[Tensor, Tensor]:
    """Rows in 8 bits with a scale of their own: ``values * scale`` is x within 1/16 of each element, or within 2^-10
    of a scale.

    A row's scale is its largest magnitude over 448, the largest number of e4m3, raised to a power of two on request,
    and at least 2^-100; elements are divided by it and rounded to nearest, ties to even. A row of zeros gives zeros.
    A row with a NaN or an infinity is NaN throughout, its scale too, so that it shows.

    Args:
        x: [..., D] in any floating-point dtype; the arithmetic is float32. The Triton path wants contiguous rows and
            takes D up to 32768.
        power_of_two: a power of two rescales without rounding, so that a weight means the same in every product;
            it costs up to one bit of range.

    Returns:
        values float8_e4m3fn [..., D] and scale float32 [...]. No gradient passes; equal bits on every device.

    Raises:
        MaquetteError: x has no dimension or is no floating-point tensor.

    Source: e4m3 and scaling of Micikevicius et al. 2022, arXiv:2209.05433.
    """
    values, scale = QUANTISE_ROWWISE(x.detach(), power_of_two)
    return values, scale


def gated_norm_modulate_quantise(
    x: Tensor,
    h: Tensor,
    gate: Tensor,
    scale: Tensor,
    shift: Tensor,
    offsets: Tensor | None = None,
    *,
    eps: float = 1e-6,
    power_of_two: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`gated_norm_modulate` whose modulated norm comes out as :func:`quantise_rowwise` would give it, without
    ever being written in full.

    Args:
        x: and ``h``, ``gate``, ``scale``, ``shift``, ``offsets``, ``eps``: as of :func:`gated_norm_modulate`.
        power_of_two: as of :func:`quantise_rowwise`.

    Returns:
        y like x, the norm's values float8_e4m3fn like x, and the scales of its rows, float32 [B, N] or [T].

    Raises:
        MaquetteError: shapes, dtypes or devices that do not fit; or gradients are wanted: there are none, use
            :func:`fp8_modulated_linear`.

    Source: adaLN-Zero of DiT (Peebles and Xie 2022, arXiv:2212.09748); Micikevicius et al. 2022, arXiv:2209.05433.
    """
    operands = (x, h, gate, scale, shift)
    if torch.is_grad_enabled() and any(operand.requires_grad for operand in operands):
        raise MaquetteError(
            "gated_norm_modulate_quantise has no gradients; use fp8_modulated_linear, or torch.no_grad()"
        )
    y, values, scales = GATED_NORM_MODULATE_QUANTISE(*operands, offsets, eps, power_of_two)
    return y, values, scales
