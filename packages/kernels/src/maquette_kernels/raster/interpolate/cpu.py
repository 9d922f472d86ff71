"""``interpolate`` in compiled code: pixels in threads, and for gradients of attributes channels in threads."""

# Implementations take all arguments by position, as torch's operators do; so do compiled functions.
# ruff: noqa: PLR0917
from __future__ import annotations

from typing import Any

import torch
from numba import njit
from torch import Tensor

from maquette_kernels.raster.interpolate.reference import working_dtype
from maquette_kernels.threads import in_chunks

_PIXELS = 16384
_CHANNELS = 16


def forward(attributes: Tensor, faces: Tensor, face_id: Tensor, barycentrics: Tensor) -> Tensor:
    """Attributes at each pixel."""
    dtype = working_dtype(attributes, barycentrics)
    out = torch.empty(*face_id.shape, attributes.shape[-1], dtype=dtype)
    operands = _plain(attributes, faces, face_id, barycentrics, dtype)
    result = out.view(-1, max(out.shape[-1], 1)).numpy()
    in_chunks(lambda first, last: _mix(*operands, result, first, last), face_id.numel(), _PIXELS)
    return out.to(attributes.dtype)


def _plain(attributes: Tensor, faces: Tensor, face_id: Tensor, barycentrics: Tensor, dtype: torch.dtype) -> Any:
    """Arrays [A, V, C], [F, 3], [P] and [P, 3], and the pixels of one picture for which attributes are."""
    apart = face_id[0].numel() if attributes.shape[0] > 1 else max(face_id.numel(), 1)
    return (
        attributes.detach().to(dtype).contiguous().numpy(),
        faces.contiguous().numpy(),
        face_id.reshape(-1).numpy(),
        barycentrics.detach().to(dtype).reshape(-1, 3).numpy(),
        apart,
    )


@njit(cache=True, nogil=True)
def _mix(attributes, faces, face_id, weights, apart, out, first, last):
    for p in range(first, last):
        f = face_id[p]
        if f < 0:
            for c in range(attributes.shape[2]):
                out[p, c] = 0.0
            continue
        a, i, j, k = p // apart, faces[f, 0], faces[f, 1], faces[f, 2]
        u, v, w = weights[p, 0], weights[p, 1], weights[p, 2]
        for c in range(attributes.shape[2]):
            out[p, c] = u * attributes[a, i, c] + v * attributes[a, j, c] + w * attributes[a, k, c]


@njit(cache=True, nogil=True)
def _pull_weights(attributes, faces, face_id, weights, apart, above, out, first, last):
    for p in range(first, last):
        f = face_id[p]
        for corner in range(3):
            total = 0.0
            if f >= 0:
                for c in range(attributes.shape[2]):
                    total += above[p, c] * attributes[p // apart, faces[f, corner], c]
            out[p, corner] = total


@njit(cache=True, nogil=True)
def _pull_attributes(faces, face_id, weights, apart, above, out, first, last):
    for p in range(face_id.shape[0]):
        f = face_id[p]
        if f >= 0:
            for corner in range(3):
                for c in range(first, last):
                    out[p // apart, faces[f, corner], c] += weights[p, corner] * above[p, c]


def backward(
    arguments: tuple[Any, ...], residuals: tuple[Tensor, ...], gradients: tuple[Tensor | None, ...]
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of the attributes and of the weights."""
    attributes, faces, face_id, barycentrics = arguments
    upstream = gradients[0]
    assert upstream is not None  # the only output
    if not upstream.numel():
        return None, None
    dtype = working_dtype(attributes, barycentrics)
    operands = _plain(attributes, faces, face_id, barycentrics, dtype)
    above = upstream.detach().to(dtype).reshape(-1, upstream.shape[-1]).numpy()
    found = torch.zeros(attributes.shape, dtype=torch.float64)
    sums, weights = found.numpy(), torch.empty(barycentrics.shape, dtype=dtype)
    shares = weights.view(-1, 3).numpy()
    in_chunks(lambda a, b: _pull_attributes(*operands[1:], above, sums, a, b), attributes.shape[-1], _CHANNELS)
    in_chunks(lambda a, b: _pull_weights(*operands, above, shares, a, b), face_id.numel(), _PIXELS)
    return found.to(attributes.dtype), weights.to(barycentrics.dtype)
