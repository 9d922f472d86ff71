"""Views as tokens: patches of what pixels look like, beside patches of where they are on the surface.

A token's place is that of its pixels on the surface, rounded to a voxel, so that rotary positions bring tokens of
different views together that see the same spot (as the multi-view attention of Hunyuan3D-Paint does, 2025). Patches
that see nothing are no tokens.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

ATTRIBUTES = 5
"""Channels of a pixel: base colour (sRGB), metallic, roughness, each in [0,1]."""
SHAPE = 6
"""Channels of a pixel that are known: normal, and place beside the middle of the token's voxel."""
NEAR = 8.0
"""What places beside a voxel's middle are multiplied by: half a patch is then about 1."""


class ViewTokens(NamedTuple):
    """The patches of V views [V,.,S,S] that see a surface.

    Attributes:
        given: float32 [N,P*P*6], normals and places of the pixels, 0 where a pixel sees nothing.
        positions: int64 [N,3], the voxel that the pixels lie around.
        slots: int64 [N], which of the V * (S/P)^2 patches each is.
        covered: bool [N,P*P], which pixels see the surface.
    """

    given: Tensor
    positions: Tensor
    slots: Tensor
    covered: Tensor


def view_tokens(position: Tensor, normal: Tensor, covered: Tensor, patch: int, resolution: int) -> ViewTokens:
    """Tokens of one object's maps.

    Args:
        position: [V,3,S,S] in the unit cube.
        normal: [V,3,S,S], unit, on the camera's side.
        covered: bool [V,S,S].
        patch: pixels a side, P; S is a multiple of it.
        resolution: voxels a side of the unit cube.
    """
    mask = patches(covered[:, None], patch).squeeze(-1)
    slots = mask.any(dim=1).nonzero().squeeze(1)
    mask = mask[slots]
    places, normals = (patches(values.float(), patch)[slots] for values in (position, normal))
    middle = (places * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
    voxels = ((middle + 0.5) * resolution).floor().long().clamp(0, resolution - 1)
    beside = (places - ((voxels + 0.5) / resolution - 0.5)[:, None]) * NEAR
    given = torch.cat([normals, beside], dim=-1) * mask[..., None]
    return ViewTokens(given.flatten(1), voxels, slots, mask)


def patches(maps: Tensor, patch: int) -> Tensor:
    """Maps [V,C,S,S] cut up, [V*(S/P)^2,P*P,C]: view by view, row by row."""
    return rearrange(maps, "v c (y p) (x q) -> (v y x) (p q) c", p=patch, q=patch)


def pictures(values: Tensor, slots: Tensor, views: int, size: int, patch: int) -> Tensor:
    """Maps [V,C,S,S] of what tokens hold of their pixels, [N,P*P*C]; 0 where there is no token."""
    side = size // patch
    whole = values.new_zeros(views * side**2, values.shape[1])
    whole[slots] = values
    return rearrange(whole, "(v y x) (p q c) -> v c (y p) (x q)", v=views, y=side, p=patch, q=patch)


def attribute_patches(attributes: Tensor, tokens: ViewTokens, patch: int) -> Tensor:
    """What the tokens' pixels look like, [N,P*P*5], of attributes [V,5,S,S]; pixels that see nothing show the mean of
    those that do, so that outlines are nothing to be learnt."""
    values, mask = patches(attributes.float(), patch)[tokens.slots], tokens.covered[..., None]
    mean = (values * mask).sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True)
    return torch.where(mask, values, mean).flatten(1)
