"""What views of an object cost, beside rays cast by Open3D: milliseconds a view, on one thread.

    python benchmarks/data3d_views.py [RUNS]

A torus of 20,000 and one of 86,000 faces, seen from eight cameras of an orbit; and a sphere under a
texture of 1024 x 1024. The methods take turns; medians, and the spread from the fastest to the slowest run.
Open3D gives depth, face, barycentric coordinates and the faces' normals; ours smooth normals, positions,
base colour, metallic and roughness too. Open3D is no dependency, and left out where it is not installed.
"""

from __future__ import annotations

import io
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import statistics
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from unittest.mock import MagicMock

import numpy as np
import trimesh
from PIL import Image

from maquette.types import Material, Mesh
from maquette_data3d.rendering import Surface, orbit, render, render_views, thumbnail

VIEWS = 8
CAMERAS = orbit(VIEWS, 0)
Method = Callable[[], object]


def torus(sections: int, rings: int) -> Mesh:
    """A torus with a colour a vertex."""
    made = trimesh.creation.torus(0.3, 0.13, major_sections=sections, minor_sections=rings)
    colors = np.random.default_rng(0).integers(0, 256, (len(made.vertices), 4)).astype(np.uint8)
    return Mesh(made.vertices, made.faces, colors)


def textured() -> Surface:
    """A sphere under a noisy texture of 1024 x 1024."""
    made = trimesh.creation.uv_sphere(0.45, count=[100, 100])
    around = np.arctan2(made.vertices[:, 1], made.vertices[:, 0]) / (2 * np.pi) + 0.5
    uv = np.stack([around, made.vertices[:, 2] / 0.9 + 0.5], 1).astype(np.float32)
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3)).astype(np.uint8)
    Image.fromarray(noise).resize((1024, 1024)).save(file, "PNG")
    faces = made.faces.astype(np.int32)
    grey = np.full((len(faces), 3, 3), 158, np.uint8)
    material, materials = np.zeros(len(faces), np.int32), (Material(textures={"base_color": 0}),)
    return Surface(made.vertices.astype(np.float64), faces, grey, uv[faces], material, materials, (file.getvalue(),))


def open3d_rays(mesh: Mesh, size: int) -> Method:
    """Casting a ray through the middle of each pixel; the scene is built before."""
    for unused in ("plotly", "plotly.graph_objects", "plotly.subplots", "dash", "open3d.ml"):
        sys.modules.setdefault(unused, MagicMock())  # open3d imports them for notebooks and training
    import open3d as o3d

    scene = o3d.t.geometry.RaycastingScene(nthreads=1)
    scene.add_triangles(mesh.vertices, mesh.faces.astype(np.uint32))
    matrices = [(camera.intrinsics(size), camera.matrix()) for camera in CAMERAS]

    def cast() -> None:
        for inner, outer in matrices:
            rays = scene.create_rays_pinhole(o3d.core.Tensor(inner), o3d.core.Tensor(outer), size, size)
            scene.cast_rays(rays, nthreads=1)

    return cast


def measured(methods: dict[str, Method], runs: int, views: int = VIEWS) -> dict[str, list[float]]:
    """Milliseconds a view of each method, run by run in turns."""
    for method in methods.values():
        method()
    found: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(runs):
        for name, method in methods.items():
            start = time.perf_counter()
            method()
            found[name].append((time.perf_counter() - start) / views * 1e3)
    return found


def shown(title: str, found: dict[str, list[float]]) -> None:
    """A line a method."""
    print(f"\n{title}")
    first = statistics.median(next(iter(found.values())))
    for name, values in found.items():
        middle = statistics.median(values)
        spread = f"{min(values):.2f} to {max(values):.2f}"
        print(f"  {name:44} {middle:8.2f} ms  ({spread}), {middle / first:.2f} x the first")


def methods_of(mesh: Mesh, size: int) -> dict[str, Method]:
    """What is compared at a mesh and a size."""
    surface = Surface.of_mesh(mesh)
    methods: dict[str, Method] = {
        "ours: depth, normal, position, albedo, face": lambda: render_views(surface, CAMERAS, size, picture=False),
        "ours: the same and lit rgb (studio)": lambda: render_views(surface, CAMERAS, size),
        "ours: the same and flat rgb": lambda: render_views(surface, CAMERAS, size, "flat"),
        "ours, lit, from a mesh never seen before": lambda: render_views(mesh, CAMERAS, size),
    }
    if find_spec("open3d"):
        methods["Open3D rays: depth, face, uv, flat normal"] = open3d_rays(mesh, size)
    return methods


def main() -> None:
    """Prints the tables."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    for mesh in (torus(141, 71), torus(293, 147)):
        for size in (256, 512):
            shown(f"{len(mesh.faces)} faces, {size} x {size}", measured(methods_of(mesh, size), runs))
    painted = textured()
    names: dict[str, Method] = {
        "ours: geometry and textured albedo": lambda: render_views(painted, CAMERAS, 256, picture=False),
        "ours: the same and lit rgb (studio)": lambda: render_views(painted, CAMERAS, 256),
    }
    shown(f"textured sphere, {len(painted.faces)} faces, 256 x 256", measured(names, runs))
    mesh = torus(141, 71)
    single: dict[str, Method] = {
        "thumbnail of 96": lambda: thumbnail(mesh),
        "render (soft shadows, occlusion) at 256": lambda: render(mesh, 256),
    }
    shown("one picture of 20022 faces", measured(single, runs, views=1))


if __name__ == "__main__":
    main()
