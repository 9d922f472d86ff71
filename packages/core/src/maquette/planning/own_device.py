"""Which accelerator of the table a device of this machine is."""

from __future__ import annotations

import torch

from maquette.accelerators import Accelerator, accelerator, recognise


def find_accelerator(name: str, device: torch.device) -> Accelerator | None:
    """The one named, else the one that ``device`` is; None where that is unknown or its rate is.

    Raises:
        MaquetteError: ``name`` is not in the table.
    """
    if name:
        return accelerator(name)
    return recognise(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
