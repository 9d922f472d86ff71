"""Keeps Lightning from remarking on what we do on purpose."""

from __future__ import annotations

import logging
import warnings


def quiet() -> None:
    """For this process, from now on."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators.cuda"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*Checkpoint directory.*exists and is not empty.*")
    # Models end in views; nothing here changes their results in place.
    warnings.filterwarnings("ignore", message=".*FSDP2-wrapped module.*returned a view tensor.*")
