"""maquette: a 3D-native machine-learning system in which every part is a plugin.

Importing this package stays cheap on purpose (no torch, no lightning): plugin modules import it to mark their hooks.
"""

from __future__ import annotations

import pluggy

from maquette.errors import MaquetteError

__version__ = "0.1.0"

hookimpl = pluggy.HookimplMarker("maquette")
"""Marks a function of a plugin module as an implementation of one of :mod:`maquette.hookspecs`."""

__all__ = ["MaquetteError", "__version__", "hookimpl"]
