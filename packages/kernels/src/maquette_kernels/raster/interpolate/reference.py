"""The obvious code for ``interpolate``."""

from __future__ import annotations

import torch
from torch import Tensor


def working_dtype(attributes: Tensor, barycentrics: Tensor) -> torch.dtype:
    """Dtype of the arithmetic: at least float32, float64 where an operand has it."""
    return torch.promote_types(torch.promote_types(attributes.dtype, barycentrics.dtype), torch.float32)


def reference(attributes: Tensor, faces: Tensor, face_id: Tensor, barycentrics: Tensor) -> Tensor:
    """The weighted sum of the attributes of the seen face's corners; shapes as in ``ops.interpolate``."""
    dtype = working_dtype(attributes, barycentrics)
    if not len(faces):
        return attributes.new_zeros(*face_id.shape, attributes.shape[-1])
    corners = faces.long()[face_id.clamp(min=0).long()]  # [B, H, W, 3]
    batch = torch.arange(face_id.shape[0], device=face_id.device)[:, None, None, None]
    found = attributes.to(dtype)[batch if attributes.shape[0] > 1 else torch.zeros_like(batch), corners]
    mixed = (found * barycentrics.to(dtype).unsqueeze(-1)).sum(-2)
    return torch.where((face_id >= 0).unsqueeze(-1), mixed, 0).to(attributes.dtype)
