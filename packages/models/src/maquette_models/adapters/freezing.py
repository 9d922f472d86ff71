"""Which parameters of a model are trained, chosen by globs; the others stay out of its checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from maquette.errors import MaquetteError, unknown_name
from maquette.progress import say

WRAPPER = "_checkpoint_wrapped_module."  # what activation checkpointing puts into names


def train_only(model: nn.Module, names: Iterable[str]) -> None:
    """Leave the named parameters trainable and freeze the others; says how many values that is.

    Raises:
        MaquetteError: nothing is left to train.
    """
    chosen = set(names)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in chosen)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    whole = sum(parameter.numel() for parameter in model.parameters())
    if not trained:
        raise MaquetteError("nothing is left to train; name parameters with train_only, or freeze fewer")
    say(f"training {trained:,} of {whole:,} values ({trained / whole:.2%})")


def chosen_parameters(model: nn.Module, only: Sequence[str], frozen: Sequence[str]) -> list[str]:
    """Names of the parameters that a glob of ``only`` matches (all, where there is none) and none of ``frozen``.

    Raises:
        MaquetteError: a glob that matches nothing.
    """
    names = [name for name, _ in model.named_parameters()]
    for glob in (*only, *frozen):
        if not any(fnmatchcase(name, glob) for name in names):
            raise unknown_name("parameters", glob, names, where="(a glob over the names of parameters)")
    wanted = [name for name in names if not only or any(fnmatchcase(name, glob) for glob in only)]
    return [name for name in wanted if not any(fnmatchcase(name, glob) for glob in frozen)]


def hide_frozen(model: nn.Module) -> None:
    """Keep frozen parameters out of the model's state, so that checkpoints and averages hold what is trained alone.

    Loading a state leaves them as they are.
    """
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}

    def drop(_: nn.Module, state: dict[str, Any], prefix: str, __: Mapping[str, Any]) -> None:
        for name in [name for name in state if name.removeprefix(prefix).replace(WRAPPER, "") in frozen]:
            del state[name]

    def forgive(_: nn.Module, keys: Any) -> None:
        keys.missing_keys[:] = [name for name in keys.missing_keys if name.replace(WRAPPER, "") not in frozen]

    model.register_state_dict_post_hook(drop)
    model.register_load_state_dict_post_hook(forgive)
