"""The operations that come with maquette, as plain functions.

Each runs its best implementation for the call, is differentiable once, deterministic, works under
``torch.compile`` (also ``fullgraph=True``) and under autocast. Register and call others through
:mod:`maquette_kernels.registry`.
"""

# ruff: noqa: PLR0917
from __future__ import annotations

from torch import Tensor

from maquette_kernels.transformer.gated_norm_modulate import GATED_NORM_MODULATE
from maquette_kernels.transformer.qk_norm_rope import QK_NORM_ROPE


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
