"""How precisely a run stores and computes: words of the config, and fp8 linear layers."""

from maquette.precision.policy import Precision

__all__ = ["Precision"]
