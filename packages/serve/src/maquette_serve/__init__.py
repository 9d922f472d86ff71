"""The inference side of maquette. Reaches models by their registered names alone."""

from __future__ import annotations

__version__ = "0.1.0"
