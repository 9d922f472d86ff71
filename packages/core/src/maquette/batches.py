"""What a batch is: a mapping of tensors with the samples along their first axis, and of lists of as many strings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from maquette.errors import MaquetteError


def rows_of(batch: Mapping[str, Any]) -> int:
    """How many samples a batch has: the length of its first tensor with an axis.

    Raises:
        MaquetteError: there is none.
    """
    lengths = [len(value) for value in pytree.tree_leaves(dict(batch)) if isinstance(value, Tensor) and value.ndim]
    if not lengths:
        raise MaquetteError(f"a batch has no tensor of samples; its keys are {', '.join(batch) or 'none'}")
    return lengths[0]
