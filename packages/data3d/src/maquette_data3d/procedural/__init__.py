"""Procedural shapes with captions, attributes, analytic signed distance, part labels and colours."""

from __future__ import annotations

from maquette_data3d.procedural.grammar import COLORS
from maquette_data3d.procedural.shape import CLASSES, ProceduralShape, sample_shape

__all__ = ["CLASSES", "COLORS", "ProceduralShape", "sample_shape"]
