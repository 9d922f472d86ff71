"""A batch of the right shapes to rehearse with: from words, from the model, or from the dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor
from torch._subclasses.fake_tensor import unset_fake_temporarily

from maquette.errors import MaquetteError
from maquette.planning.known_values import attach

Fields = dict[str, Any]
"""name -> (shape of one sample, dtype), or the whole numbers [1, ...] or the text that every sample has."""


def fields_from_words(words: Mapping[str, Any]) -> Fields:
    """``{"latent": [7, 32, 32, 32], "class_id": "int64", "caption": "a red chair"}``: a list is the shape of one
    sample's float32 tensor, ``int64`` a number a sample, other text stands for itself.

    Raises:
        MaquetteError: anything else.
    """
    found: Fields = {}
    for name, value in words.items():
        plain = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        if isinstance(plain, list) and all(isinstance(size, int) and size > 0 for size in plain):
            found[name] = (tuple(plain), torch.float32)
        elif plain == "int64":
            found[name] = torch.zeros(1, dtype=torch.int64)
        elif isinstance(plain, str):
            found[name] = plain
        else:
            raise MaquetteError(
                f"plan: batch.{name} is {plain!r}; give a sample's shape (batch.{name}=[7,32,32,32]), int64 or a text"
            )
    return found


def fields_of(batch: Mapping[str, Any]) -> Fields:
    """What a real batch's samples look like."""
    found: Fields = {}
    for name, value in batch.items():
        if isinstance(value, Tensor) and value.ndim and not value.is_floating_point():
            found[name] = value[:1].detach().cpu()
        elif isinstance(value, Tensor):
            found[name] = (tuple(value.shape[1:]), value.dtype) if value.ndim else value
        elif isinstance(value, list):
            found[name] = max(value, key=len) if value and isinstance(value[0], str) else value
    return found


def make_batch(fields: Fields, rows: int) -> dict[str, Any]:
    """A batch of ``rows`` samples; zeros, fake where fake tensors are on."""
    batch: dict[str, Any] = {}
    for name, field in fields.items():
        if isinstance(field, tuple):
            shape, dtype = field
            batch[name] = torch.zeros((rows, *shape), dtype=dtype)
        elif isinstance(field, Tensor) and field.ndim:
            with unset_fake_temporarily():
                value = field.expand(rows, *field.shape[1:]).contiguous()
            batch[name] = attach(torch.zeros(value.shape, dtype=value.dtype), value)
        else:
            batch[name] = [field] * rows if isinstance(field, str) else field
    return batch


def find_fields(words: Mapping[str, Any], model: Any, dataset: Callable[[], Mapping[str, Any]]) -> Fields:
    """The first of: the words, the model's own ``example_batch(rows)``, the dataset's first batch.

    Raises:
        MaquetteError: none of them can say; tells what to give.
    """
    if words:
        return fields_from_words(words)
    if hasattr(model, "example_batch"):
        return fields_of(model.example_batch(1))
    try:
        return fields_of(dataset())
    except MaquetteError as error:
        raise MaquetteError(
            f"plan: no batch to plan with: {error}; give a sample's shapes, e.g. batch.latent=[7,32,32,32]"
        ) from None
