"""Figures that say what a mesh is worth, and the filters over them."""

from __future__ import annotations

from typing import Any

import numpy as np

from maquette_data3d.building.config import FilterConfig
from maquette_data3d.geometry.repair import CleanMesh
from maquette_data3d.ingest.scene import Scene

_SLIVER = 0.01  # height over longest side below which a face's normal means nothing


def quality(scene: Scene, mesh: CleanMesh) -> dict[str, float]:
    """Figures of a mesh.

    Returns:
        faces, vertices and components after cleaning; degenerate_area: share of the surface in slivers;
        flatness: shortest over longest side along the principal axes, 0 for a sheet; textured: 1 with a base
        colour texture.
    """
    corners = mesh.vertices[mesh.faces]
    edges = np.roll(corners, -1, axis=1) - corners
    doubled = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1)
    longest = (edges**2).sum(2).max(1)
    sliver = doubled < _SLIVER * longest
    textured = scene.uv is not None and any("base_color" in material.textures for material in scene.materials)
    return {
        "faces": len(mesh.faces),
        "vertices": len(mesh.vertices),
        "components": int(mesh.component.max()) + 1,
        "degenerate_area": round(float(doubled[sliver].sum() / doubled.sum()), 6),
        "flatness": round(_flatness(mesh.vertices), 6),
        "textured": int(textured),
    }


def _flatness(vertices: np.ndarray) -> float:
    centred = vertices - vertices.mean(0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    sides = np.ptp(centred @ axes, axis=0)
    return float(sides.min() / sides.max())


def placement(scene: Scene, mesh: CleanMesh) -> dict[str, Any]:
    """How the unit cube lies in the file: cube = file * scale + offset; metres a unit; what was up."""
    offset = [float(value) for value in mesh.offset]
    return {"scale": float(mesh.scale), "offset": offset, "unit_m": scene.unit_m, "up_axis": scene.up_axis}


def refused(figures: dict[str, float], filters: FilterConfig) -> str:
    """Why a mesh is not wanted, e.g. "faces 3 is less than 10"; empty where it is."""
    bounds = (
        ("faces", filters.min_faces, filters.max_faces),
        ("components", None, filters.max_components),
        ("degenerate_area", None, filters.max_degenerate_area),
        ("flatness", filters.min_flatness, None),
    )
    for name, least, most in bounds:
        if least is not None and figures[name] < least:
            return f"{name} {figures[name]:g} is less than {least:g}"
        if most is not None and figures[name] > most:
            return f"{name} {figures[name]:g} is more than {most:g}"
    if filters.textured is not None and bool(figures["textured"]) != filters.textured:
        return "it has no texture" if filters.textured else "it has a texture"
    return ""
