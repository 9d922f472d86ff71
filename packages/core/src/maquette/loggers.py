"""Lightning's loggers by name, writing under the run's ``logs`` folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import loggers as lightning_loggers
from lightning.pytorch.loggers import Logger

from maquette.errors import MaquetteError, unknown_name
from maquette.runs import RunFolder

LOGGERS = {
    "csv": "CSVLogger",
    "tensorboard": "TensorBoardLogger",
    "wandb": "WandbLogger",
    "mlflow": "MLFlowLogger",
    "comet": "CometLogger",
}


def build_loggers(names: Sequence[str], run: RunFolder) -> list[Logger]:
    """The loggers of a run.

    Raises:
        MaquetteError: an unknown name, or one whose library is not installed.
    """
    return [_build(name, run) for name in names]


def _build(name: str, run: RunFolder) -> Logger:
    if name not in LOGGERS:
        raise unknown_name("logger", name, LOGGERS)
    options: dict[str, Any] = {"save_dir": str(run.logs)}
    if name in ("csv", "tensorboard"):
        options["name"] = name
        if name == "csv":
            options["flush_logs_every_n_steps"] = 1  # else a crash loses up to a thousand steps of curves
    else:
        options["name" if name == "wandb" else "experiment_name"] = run.path.name
    try:
        return getattr(lightning_loggers, LOGGERS[name])(**options)  # type: ignore[no-any-return]
    except ImportError as error:
        raise MaquetteError(f"logger '{name}' needs a library that is not installed: {error}") from None
