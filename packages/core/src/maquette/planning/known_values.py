"""Values of small integer tensors, carried along fake ones: models look into those, e.g. to check the range of ids."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily
from torch.utils._pytree import tree_flatten, tree_map_only

ATTRIBUTE = "_known_value"
LARGEST = 4096
"""Numbers in a tensor whose value is carried."""


def attach(fake: Tensor, value: Tensor) -> Tensor:
    """Let ``fake`` carry a real value; returns it."""
    if value.numel() <= LARGEST:
        setattr(fake, ATTRIBUTE, value)
    return fake


def carry(func: Any, args: Any, kwargs: Any, result: Any) -> None:
    """Give a fake integer result its value, where all tensors that an operator got have theirs."""
    if not isinstance(result, FakeTensor) or result.is_floating_point() or result.numel() > LARGEST:
        return
    given = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
    if not given or not all(hasattr(tensor, ATTRIBUTE) for tensor in given):
        return
    with unset_fake_temporarily():
        real_args, real_kwargs = tree_map_only(FakeTensor, lambda t: getattr(t, ATTRIBUTE), (args, kwargs))
        value = func(*real_args, **real_kwargs)
    if isinstance(value, Tensor):
        setattr(result, ATTRIBUTE, value)


def answer(tensor: Tensor, func: Any) -> Any:
    """What a tensor of one number is to Python. Where nobody knows, checks succeed and counts are nought."""
    if not isinstance(tensor, FakeTensor):
        return func(tensor)
    known = getattr(tensor, ATTRIBUTE, tensor.constant)
    if known is not None:
        with unset_fake_temporarily():
            return known.item()
    return True if tensor.dtype == torch.bool else 0.0 if tensor.is_floating_point() else 0
