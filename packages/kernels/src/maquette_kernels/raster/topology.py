"""Which corner lies across each edge of a mesh."""

from __future__ import annotations

import torch
from torch import Tensor

from maquette.errors import MaquetteError


def edge_opposites(faces: Tensor) -> Tensor:
    """For each edge of each face, the third corner of the face on its other side; see ``ops.edge_opposites``."""
    if faces.dim() != 2 or faces.shape[-1] != 3 or faces.is_floating_point():
        raise MaquetteError(
            f"edge_opposites: faces must be whole numbers [F, 3], got {faces.dtype} {list(faces.shape)}"
        )
    corners = faces.long()
    starts, ends = corners.flatten(), corners.roll(-1, 1).flatten()
    third = corners.roll(-2, 1).flatten()
    low, high = torch.minimum(starts, ends), torch.maximum(starts, ends)
    key, order = torch.sort(low * 2**31 + high, stable=True)
    same, no = key[1:] == key[:-1], torch.zeros(1, dtype=torch.bool, device=key.device)
    before, after = torch.cat([no, same])[: len(key)], torch.cat([same, no])[: len(key)]
    # Edges of exactly two faces: a third one on either side makes the edge a seam.
    begins = after & ~before & ~torch.cat([after[1:], no])[: len(key)]
    ends_here = before & ~after & ~torch.cat([no, before])[: len(key)]
    partner = third[order]
    found = torch.where(begins, partner.roll(-1), torch.where(ends_here, partner.roll(1), -1))
    return torch.empty_like(starts).index_put_((order,), found).view(-1, 3).to(torch.int32)
