"""The package's own plugin, registered by hand where the package is on the path but not installed."""

from __future__ import annotations

import maquette_kernels.plugin
from maquette import plugins

if not any(entry.name == "qk_norm_rope" for entry in plugins.registry("kernels")):
    plugins.manager().add(maquette_kernels.plugin, "kernels")
