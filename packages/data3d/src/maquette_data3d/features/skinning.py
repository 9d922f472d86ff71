"""Joints and weights of points on a skinned surface."""

from __future__ import annotations

import numpy as np


def no_skin(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Joints and weights of points that nothing moves."""
    return np.zeros((count, 4), np.uint8), np.zeros((count, 4), np.float32)


def barycentric(corners: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Shares float64 [P, 3] of each corner [P, 3, 3] in points [P, 3] of its triangle's plane, clamped."""
    u, v, w = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0], points - corners[:, 0]
    uu, uv, vv = (np.einsum("pi,pi->p", a, b) for a, b in ((u, u), (u, v), (v, v)))
    wu, wv = np.einsum("pi,pi->p", w, u), np.einsum("pi,pi->p", w, v)
    scale = np.maximum(uu * vv - uv * uv, 1e-300)
    b, c = (vv * wu - uv * wv) / scale, (uu * wv - uv * wu) / scale
    shares = np.clip(np.stack([1 - b - c, b, c], 1), 0, 1)
    return shares / np.maximum(shares.sum(1, keepdims=True), 1e-12)


def blended(joints: np.ndarray, weights: np.ndarray, share: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The four strongest joints of points between three corners.

    Args:
        joints: int [P, 3, K]; weights: float [P, 3, K]; share: float [P, 3]; count: of joints.

    Returns:
        uint8 [P, 4] and float32 [P, 4] that sum to 1, strongest first.
    """
    dense = np.zeros((len(joints), count + 4))
    rows = np.broadcast_to(np.arange(len(joints))[:, None, None], joints.shape)
    np.add.at(dense, (rows.ravel(), joints.ravel()), (weights * share[:, :, None]).ravel())
    order = np.argsort(-dense, axis=1, kind="stable")[:, :4]
    strongest = np.take_along_axis(dense, order, 1)
    total = strongest.sum(1, keepdims=True)
    strongest = np.where(total > 0, strongest / np.where(total > 0, total, 1), [[1.0, 0.0, 0.0, 0.0]])
    return np.where(strongest > 0, order, 0).astype(np.uint8), strongest.astype(np.float32)
