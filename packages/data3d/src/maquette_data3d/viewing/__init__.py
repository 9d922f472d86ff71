"""Pages that show what a folder of shards holds and what a build made of its files."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maquette_data3d.viewing.build_report import write_build_report
    from maquette_data3d.viewing.page import write_page
    from maquette_data3d.viewing.server import serve_page

_PLACES = {"serve_page": "server", "write_build_report": "build_report", "write_page": "page"}

__all__ = ["serve_page", "write_build_report", "write_page"]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(f"maquette_data3d.viewing.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
