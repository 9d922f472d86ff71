"""Signed distances beside the public libraries: time, and the share of wrong signs on six defects.

    IGL_NUM_THREADS=1 OMP_NUM_THREADS=1 python benchmarks/data3d_distance.py
        [threads=1] [rounds=5] [points=100000] [band=256]

Two meshes, a torus of 51,200 faces and a box of 97,200, each made defective in six ways. Half of the points are even
in a cube of side 1.05 about the mesh (longest side .9), half lie around its surface (normal noise, sigma .02 in space).
Truth is the pseudonormal sign of the whole mesh, or the union of two. Every method is handed plain arrays and pays
for its own tree; ours for its repairs too. The methods take turns, in random order; medians, the spread from the
fastest to the slowest run, and ratios round by round. A method whose library is not installed is left out: open3d,
point_cloud_utils and warp are no dependencies. The second part asks a narrow band beside a dense query.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable
from importlib.util import find_spec
from unittest.mock import MagicMock

import igl
import numpy as np
import torch
import trimesh
from interleaved import measure, ratio

from maquette_data3d.geometry.distance import signed_distance
from maquette_data3d.geometry.fields import cell_centres, mesh_field
from maquette_data3d.geometry.sampling import surface_samples, volume_points

Method = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
Defect = tuple[np.ndarray, np.ndarray, np.ndarray]  # vertices, faces, inside bool [P]
SETTINGS = {"threads": 1, "rounds": 5, "points": 100_000, "band": 256}
OURS, BEST_PAIR = "ours", "Open3D distance + fast winding number (point-cloud-utils)"


def inside(mesh: trimesh.Trimesh, points: np.ndarray) -> np.ndarray:
    """Inside of a closed mesh, exactly."""
    kind = igl.SIGNED_DISTANCE_TYPE_PSEUDONORMAL
    return np.asarray(igl.signed_distance(points, np.array(mesh.vertices), np.array(mesh.faces), kind)[0]) < 0


def scaled(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """Centred, longest side .9."""
    mesh.apply_translation(-mesh.bounds.mean(0))
    mesh.apply_scale(0.9 / mesh.extents.max())
    return mesh


def torus(tube: float = 0.4) -> trimesh.Trimesh:
    """51,200 faces; the tube's radius relative to the ring's."""
    made = trimesh.creation.torus(1, tube, 256, 100)
    made.apply_scale(0.9 / 2.8)
    return made


def box() -> trimesh.Trimesh:
    """97,200 faces, corners and flat sides."""
    side = np.linspace(-0.5, 0.5, 91)
    grid = np.stack(np.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)
    cell = (np.arange(90)[:, None] * 91 + np.arange(90)).reshape(-1)
    quad = np.stack([cell, cell + 91, cell + 92, cell + 1], 1)
    parts = []
    for axis in range(3):
        for end in (0.5, -0.5):
            sheet = np.insert(grid, axis, end, axis=1)
            faces = np.concatenate([quad[:, [0, 1, 2]], quad[:, [0, 2, 3]]])
            parts.append(trimesh.Trimesh(sheet, faces if (end > 0) != (axis == 1) else faces[:, ::-1], process=False))
    made = trimesh.util.concatenate(parts)
    made.merge_vertices()
    made.vertices *= (1, 0.7, 0.5)
    return scaled(made)


def defects(mesh: trimesh.Trimesh, inner: trimesh.Trimesh, points: np.ndarray) -> dict[str, Defect]:
    """The mesh made wrong in six ways, with what is inside."""
    rng = np.random.default_rng(7)
    vertices, faces = np.array(mesh.vertices), np.array(mesh.faces)
    truth = inside(mesh, points)
    away = np.linalg.norm(mesh.triangles_center - mesh.triangles_center[len(faces) // 3], axis=1)
    flip = rng.random(len(faces)) < 0.2
    beside = mesh.copy()
    beside.apply_translation((0.2, 0.1, 0.05))
    both = mesh + beside
    loose = vertices[faces[rng.permutation(len(faces))]].reshape(-1, 3)
    nested = mesh + inner
    return {
        "whole": (vertices, faces, truth),
        "hole": (vertices, faces[np.argsort(away)[len(faces) // 50 :]], truth),
        "missing": (vertices, faces[rng.random(len(faces)) > 0.05], truth),
        "flipped": (vertices, np.where(flip[:, None], faces[:, ::-1], faces), truth),
        "soup": (loose, np.arange(len(loose)).reshape(-1, 3), truth),
        "inner": (np.array(nested.vertices), np.array(nested.faces), truth),
        "overlap": (np.array(both.vertices), np.array(both.faces), truth | inside(beside, points)),
    }


def open3d_scene(vertices: np.ndarray, faces: np.ndarray) -> object:
    """A scene of one mesh."""
    for unused in ("plotly", "plotly.graph_objects", "plotly.subplots", "dash", "open3d.ml"):
        sys.modules.setdefault(unused, MagicMock())  # open3d imports them for notebooks and training
    import open3d as o3d

    scene = o3d.t.geometry.RaycastingScene(nthreads=SETTINGS["threads"])
    scene.add_triangles(vertices.astype(np.float32), faces.astype(np.uint32))
    return scene


def open3d_parity(vertices: np.ndarray, faces: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Open3D's own sign, by counting crossings."""
    scene = open3d_scene(vertices, faces)
    return scene.compute_signed_distance(points.astype(np.float32), SETTINGS["threads"]).numpy()


def open3d_pcu(vertices: np.ndarray, faces: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The best pair that public libraries give."""
    import point_cloud_utils as pcu

    distance = open3d_scene(vertices, faces).compute_distance(points.astype(np.float32), SETTINGS["threads"]).numpy()
    number = pcu.triangle_soup_fast_winding_number(vertices, faces.astype(np.int32), points)
    return np.where(number > 0.5, -distance, distance)


def open3d_igl(vertices: np.ndarray, faces: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The same with libigl's winding number."""
    distance = open3d_scene(vertices, faces).compute_distance(points.astype(np.float32), SETTINGS["threads"]).numpy()
    return np.where(igl.fast_winding_number(vertices, faces, points) > 0.5, -distance, distance)


def igl_pair(vertices: np.ndarray, faces: np.ndarray, points: np.ndarray) -> np.ndarray:
    """libigl alone."""
    distance = np.sqrt(igl.point_mesh_squared_distance(points, vertices, faces)[0])
    return np.where(igl.fast_winding_number(vertices, faces, points) > 0.5, -distance, distance)


def warp_winding() -> Method:
    """warp's mesh query on the CPU, which uses one thread."""
    import warp as wp

    @wp.kernel
    def ask(mesh: wp.uint64, points: wp.array(dtype=wp.vec3), out: wp.array(dtype=float)):
        i = wp.tid()
        found = wp.mesh_query_point_sign_winding_number(mesh, points[i], 10.0)
        near = wp.mesh_eval_position(mesh, found.face, found.u, found.v)
        out[i] = found.sign * wp.length(near - points[i])

    def method(vertices: np.ndarray, faces: np.ndarray, points: np.ndarray) -> np.ndarray:
        mesh = wp.Mesh(
            points=wp.array(vertices.astype(np.float32), dtype=wp.vec3, device="cpu"),
            indices=wp.array(faces.astype(np.int32).reshape(-1), dtype=int, device="cpu"),
            support_winding_number=True,
        )
        at = wp.array(points.astype(np.float32), dtype=wp.vec3, device="cpu")
        out = wp.zeros(len(points), dtype=float, device="cpu")
        wp.launch(ask, dim=len(points), inputs=[mesh.id, at, out], device="cpu")
        return out.numpy()

    return method


def methods() -> dict[str, Method]:
    """Those whose libraries are here."""
    found: dict[str, Method] = {OURS: signed_distance, "libigl distance + fast winding number": igl_pair}
    if find_spec("open3d"):
        found["Open3D, parity sign"] = open3d_parity
        found["Open3D distance + fast winding number (libigl)"] = open3d_igl
        if find_spec("point_cloud_utils"):
            found[BEST_PAIR] = open3d_pcu
    if find_spec("warp"):
        found["warp, winding number"] = warp_winding()
    return found


def shown(seconds: list[float]) -> str:
    """Median, and from the fastest to the slowest, in milliseconds."""
    low, middle, high = (f(seconds) * 1000 for f in (min, statistics.median, max))
    return f"{middle:8.0f} ms ({low:.0f} - {high:.0f})"


def compare(name: str, mesh: trimesh.Trimesh, inner: trimesh.Trimesh) -> None:
    """One mesh: times on the whole one, wrong signs on all."""
    rng = np.random.default_rng(3)
    half = SETTINGS["points"] // 2
    near = surface_samples(mesh.vertices, mesh.faces, half, rng).points + rng.normal(size=(half, 3)) * 0.02
    points = np.ascontiguousarray(np.concatenate([volume_points(half, rng), near]), np.float64)
    cases, ways = defects(mesh, inner, points), methods()
    print(f"\n{name}: {len(mesh.faces)} faces, {len(points)} points, {SETTINGS['threads']} thread(s)")
    vertices, faces, _ = cases["whole"]
    seconds = measure({way: lambda m=ways[way]: m(vertices, faces, points) for way in ways}, SETTINGS["rounds"])
    print(f"  {'':58s} {'time':26s} x ours   wrong signs, %: " + " ".join(f"{case:>8s}" for case in cases))
    for way, method in ways.items():
        _, times, _ = ratio(seconds, way, OURS)
        wrong = [((method(v, f, points) < 0) != truth).mean() * 100 for v, f, truth in cases.values()]
        print(f"  {way:58s} {shown(seconds[way]):26s} {times:5.2f} " + " " * 18 + " ".join(f"{w:8.3f}" for w in wrong))


def band() -> None:
    """The narrow band of a grid beside a dense query; of the latter every eighth plane is asked, and scaled up."""
    mesh, resolution = scaled(trimesh.creation.icosphere(5)), SETTINGS["band"]
    mesh.vertices[:, 0] *= 0.6 + 0.2 * np.sin(9 * mesh.vertices[:, 1])
    vertices, faces = np.array(mesh.vertices), np.array(mesh.faces)
    colors = np.zeros((len(faces), 3, 3), np.uint8)
    points = cell_centres(resolution).reshape(resolution, -1, 3)[4::8].reshape(-1, 3)
    asked = {
        "band": lambda: mesh_field(vertices, faces, colors, resolution).tsdf(resolution, 4 / resolution),
        "dense": lambda: igl_pair(vertices, faces, points),
    }
    seconds = measure(asked, min(SETTINGS["rounds"], 3))
    seconds["dense"] = [8 * s for s in seconds["dense"]]
    _, times_band, _ = ratio(seconds, "dense", "band")
    print(f"\n{len(faces)} faces at {resolution}^3, half a band of 4 cells: narrow band {shown(seconds['band'])}")
    print(f"  libigl at every cell {shown(seconds['dense'])}, x {times_band:.1f}")


if __name__ == "__main__":
    SETTINGS |= {key: int(value) for key, _, value in (word.partition("=") for word in sys.argv[1:])}
    torch.set_num_threads(SETTINGS["threads"])
    print(f"IGL_NUM_THREADS={os.environ.get('IGL_NUM_THREADS')} OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS')}")
    compare("torus", torus(), torus(0.2))
    compare("box", box(), scaled(box()).apply_scale(0.5))
    if SETTINGS["band"]:
        band()
