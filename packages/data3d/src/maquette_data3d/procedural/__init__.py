"""Procedural shapes with captions, attributes, analytic signed distance, part labels, colours and skeletons."""

from __future__ import annotations

from maquette_data3d.procedural.catalogue import CLASSES, FAMILIES, FIRST_CLASSES, classes_of, held_out_pairs
from maquette_data3d.procedural.palette import COLORS, PartMaterial
from maquette_data3d.procedural.rig import Skeleton
from maquette_data3d.procedural.shape import ProceduralShape, sample_shape

__all__ = [
    "CLASSES",
    "COLORS",
    "FAMILIES",
    "FIRST_CLASSES",
    "PartMaterial",
    "ProceduralShape",
    "Skeleton",
    "classes_of",
    "held_out_pairs",
    "sample_shape",
]
