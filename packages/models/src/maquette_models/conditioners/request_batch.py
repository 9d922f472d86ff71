"""From a user's request to the batch that a conditioner prepares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from maquette.errors import MaquetteError, unknown_name
from maquette.types import Request
from maquette_models.conditioners.class_caption import words
from maquette_models.conditioners.pictures import stack_pictures
from maquette_models.surface_points import surface_points

WORDS: Mapping[str, str] = {
    "prompt": "a prompt",
    "class_name": "a class",
    "images": "pictures",
    "mesh": "a mesh to follow",
}


def batch_of(conditioner: nn.Module, request: Request) -> dict[str, Any]:
    """One row of a batch with what a request asks for: `caption`, `class_id`, `view_rgb`, `surface` and `normals`, each
    only where the request gives it, and an empty caption where it gives nothing.

    Args:
        conditioner: says in `reads` which fields of a request it can use; without that, prompt and class.
        request: what is asked for.

    Raises:
        MaquetteError: the request holds what the conditioner cannot use, or a class it does not know.
    """
    reads = getattr(conditioner, "reads", frozenset({"prompt", "class_name"}))
    given = {
        "prompt": bool(request.prompt),
        "class_name": request.class_name is not None,
        "images": bool(request.images),
        "mesh": request.mesh is not None,
    }
    for key, wanted in given.items():
        if wanted and key not in reads:
            known = ", ".join(word for other, word in WORDS.items() if other in reads)
            raise MaquetteError(f"this run cannot use {WORDS[key]}; it takes {known}")
    batch: dict[str, Any] = {}
    if "prompt" in reads:
        batch["caption"] = [request.prompt]
    if "class_name" in reads:
        name = class_named(conditioner, request)
        batch["class_id"] = torch.tensor([-1 if name is None else conditioner.class_index[name]])
    if request.images:
        if len(request.images) > conditioner.most_pictures:
            raise MaquetteError(f"{len(request.images)} pictures; this run takes at most {conditioner.most_pictures}")
        batch["view_rgb"] = stack_pictures(request.images, conditioner.picture_size)[None]
    if request.mesh is not None:
        points, normals = surface_points(request.mesh, conditioner.surface_count)
        batch |= {"surface": points[None], "normals": normals[None]}
    return batch or {"caption": [""]}


def class_named(conditioner: nn.Module, request: Request) -> str | None:
    """The class that a request gives, or else the first one that its prompt names, or None.

    Raises:
        MaquetteError: the conditioner was not trained on the class.
    """
    index: Mapping[str, int] = getattr(conditioner, "class_index", {})
    name = request.class_name
    if name is None:
        return next((word for word in words(request.prompt) if word in index), None)
    if name not in index:
        raise unknown_name("class", name, index)
    return name
