"""Building for a URL: the folder is built here, where a kill can be continued, and then uploaded."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import fsspec

from maquette.errors import MaquetteError
from maquette_data3d.building.config import BuildConfig
from maquette_data3d.building.report import BuildReport
from maquette_data3d.shards.storage import upload


def build_remote(config: BuildConfig, build: Callable[[BuildConfig], BuildReport]) -> BuildReport:
    """Builds into a staging folder and uploads it, shards.json last.

    The staging folder lies below MAQUETTE_CACHE, or ~/.cache/maquette, and is removed when all is uploaded.

    Raises:
        MaquetteError: as the build; or the URL cannot be written to.
    """
    try:
        fsspec.core.url_to_fs(config.out)
    except (ValueError, ImportError) as error:  # before anything is made that could not be brought there
        raise MaquetteError(f"data build: '{config.out}' cannot be written to: {error}") from None
    cache = Path(os.environ.get("MAQUETTE_CACHE", Path.home() / ".cache" / "maquette"))
    staging = cache / "builds" / hashlib.sha256(config.out.encode()).hexdigest()[:16]
    report = build(replace(config, out=str(staging)))
    upload(staging, config.out)
    shutil.rmtree(staging, ignore_errors=True)
    return replace(report, folder=Path(config.out))
