"""Where trained models compute when they are used, and how values get there and back.

Pipelines keep what they hold between models on the CPU: meshes are read, cut and written there. Only what a model reads
and gives is on its device, and a flow's state from its first step to its last.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any, TypeVar, cast

import torch
from torch import nn

from maquette.errors import MaquetteError

VARIABLE, AUTO = "MAQUETTE_DEVICE", "auto"
CPU, META = torch.device("cpu"), torch.device("meta")
Value = TypeVar("Value")


def inference_device() -> torch.device:
    """What the environment variable MAQUETTE_DEVICE names, e.g. cpu or cuda:1; else a GPU where there is one, or the
    CPU.

    Raises:
        MaquetteError: no such device here.
    """
    named = os.environ.get(VARIABLE, "") or AUTO
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if named == AUTO:
        return torch.device("cuda", torch.cuda.current_device()) if gpus else CPU
    try:
        device = torch.device(named)
    except RuntimeError:
        device = META
    said = f"the device is '{named}' by {VARIABLE} or --device"
    if device.type == "cuda" and (device.index or 0) >= gpus:
        has = f"has {gpus} GPU{'s' if gpus > 1 else ''}" if gpus else "has no GPU that torch can use"
        raise MaquetteError(f"{said}, and this machine {has}; give auto or cpu")
    if device.type not in {"cpu", "cuda", torch._C._get_privateuse1_backend_name()}:
        raise MaquetteError(f"{said}, and models compute on cpu, cuda or cuda:N; give one of these, or auto")
    return device


def device_of(model: nn.Module) -> torch.device:
    """Where a model's parameters are."""
    return next(model.parameters()).device


def moved(value: Value, device: torch.device) -> Value:
    """A tensor, or a dictionary, tuple, list or dataclass of such and of other things, with its tensors on a device."""
    return cast(Value, _moved(value, device))


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _moved(inner, device) for key, inner in value.items()}
    if isinstance(value, list):
        return [_moved(inner, device) for inner in value]
    if isinstance(value, tuple):
        parts = [_moved(inner, device) for inner in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if field.init]
        return dataclasses.replace(value, **{name: _moved(getattr(value, name), device) for name in names})
    return value
