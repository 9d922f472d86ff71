"""Architectures, objectives, samplers, decoders, conditioners, metrics and pipelines of maquette.

Everything is reached by its registered name: `maquette.plugins.build("architectures", {"name": "dit", ...})`.
"""

__version__ = "0.1.0"
