"""Every format written and read back by others: each check raises where a file does not hold what the asset held."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np

from maquette.assets import export
from maquette.errors import MaquetteError
from maquette.types import Asset
from maquette_data3d.exporting.binding import bound, stilled
from maquette_data3d.ingest.read_asset import read_asset


def _loaded(name):
    """A module beside this one, also where benchmarks/export_round_trips.py loads this one by its path."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


copies, gltf_reader, usd_reader = (_loaded(name) for name in ("copies", "gltf_reader", "usd_reader"))


def writable(asset):
    """The asset with what formats have to change in a skin changed: at most 8 joints a vertex, none without."""
    asset = stilled(asset)
    skin = asset.mesh.skin
    if skin is None:
        return asset
    found = bound(skin)
    return replace(asset, mesh=replace(asset.mesh, skin=replace(skin, joints=found.joints, weights=found.weights)))


def glb(asset, folder):
    """By pygltflib, and by our own importer."""
    path = export(asset, folder / "a b.glb")
    gltf_reader.check(path, asset, copies)
    found, mesh, unit = read_asset(path), asset.mesh, asset.mesh.unit_m or 1.0
    one, other = (copies.order_of(each, "part", "material") for each in (found.mesh, mesh))
    copies.same_geometry(copies.corners(found.mesh)[one], copies.corners(mesh)[other] * unit)
    if mesh.uv is not None:
        assert np.array_equal(found.mesh.uv[one], mesh.uv[other])
    copies.same_materials(found.mesh, one, mesh, other)
    if mesh.skin is not None and (mesh.skin.weights > 0).any():
        copies.same_skin(found.mesh, one, mesh, other, unit)
        copies.same_clips(found, asset, unit)


def packed_glb(compression):
    """By our own importer, which decodes Draco with DracoPy and meshopt by itself."""

    def check(asset, folder):
        path = export(asset, folder / f"{compression}.glb", {"compression": compression})
        found, mesh = read_asset(path).mesh, asset.mesh
        size = np.ptp(mesh.vertices[np.unique(mesh.faces)], axis=0).max()
        corners, wanted = copies.corners(found) / (mesh.unit_m or 1.0) / size, copies.corners(mesh) / size
        if compression == "draco":  # faces without area are lost
            wanted = wanted[_with_area(mesh)]
            assert len(corners) <= len(mesh.faces)
            copies.near_set(corners, wanted)
        else:
            copies.same_set(corners, wanted)

    return check


def _with_area(mesh):
    corners = copies.corners(mesh)
    return (np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2) > 0).all(1)


def obj(asset, folder):
    """By trimesh, and by our own importer."""
    import trimesh

    path, mesh = export(asset, folder / "a b.obj"), asset.mesh
    order = copies.order_of(mesh, "part", "material")
    scene = trimesh.load_scene(path, process=False, skip_materials=True)
    soup = np.concatenate([one.triangles for one in scene.geometry.values()])
    copies.same_set(soup / np.ptp(mesh.vertices), copies.corners(mesh) / np.ptp(mesh.vertices))
    found = read_asset(path).mesh
    one = copies.order_of(found, "part", "material")
    copies.same_geometry(copies.corners(found)[one], copies.corners(mesh)[order])
    if mesh.uv is not None:
        copies.same_uv(found.uv[one], mesh.uv[order])
    copies.same_materials(found, one, mesh, order, fields=("base_color", "metallic", "roughness", "emissive"))


def plain(suffix):
    """PLY, STL and OFF by trimesh; STL is in millimetres and closed where the mesh is."""

    def check(asset, folder):
        import trimesh

        mesh = asset.mesh
        path = export(asset, folder / f"a b{suffix}")
        found = trimesh.load_mesh(path, process=False)
        scale = mesh.unit_m * 1000 if suffix == ".stl" and mesh.unit_m else 1.0
        copies.same_geometry(np.asarray(found.triangles), copies.corners(mesh) * scale)
        if suffix == ".ply" and mesh.colors is not None:
            assert np.array_equal(found.visual.vertex_colors, mesh.colors)
        if suffix == ".stl":
            assert _welded(found.triangles).is_watertight == _welded(copies.corners(mesh)).is_watertight

    return check


def _welded(corners):
    import trimesh

    points, faces = np.unique(corners.astype(np.float32).reshape(-1, 3), axis=0, return_inverse=True)
    return trimesh.Trimesh(points, faces.reshape(-1, 3), process=False)


def threemf(asset, folder):
    """By lib3mf in its strict mode; closed where the mesh is, in millimetres, z up."""
    import lib3mf

    path, mesh = export(asset, folder / "a b.3mf"), asset.mesh
    model = lib3mf.get_wrapper().CreateModel()
    reader = model.QueryReader("3mf")
    reader.SetStrictModeActive(True)
    reader.ReadFromFile(str(path))
    assert reader.GetWarningCount() == 0 and model.GetUnit() == lib3mf.ModelUnit.MilliMeter
    bodies, closed, objects = [], True, model.GetMeshObjects()
    while objects.MoveNext():
        body = objects.GetCurrentMeshObject()
        closed = closed and body.IsManifoldAndOriented()
        points = np.array([list(vertex.Coordinates) for vertex in body.GetVertices()])
        bodies.append(points[np.array([list(face.Indices) for face in body.GetTriangleIndices()])])
    wanted = copies.corners(mesh)[_with_area(mesh)][..., [0, 2, 1]] * [1, -1, 1] * (mesh.unit_m or 1.0) * 1000
    size = np.ptp(wanted.reshape(-1, 3), axis=0).max()
    copies.same_set(np.concatenate(bodies) / size, wanted / size)
    if _solid(copies.corners(mesh)[_with_area(mesh)]):
        assert closed


def _solid(corners):
    """Every edge has two faces that run along it in opposite ways, which is what lib3mf asks for."""
    faces = _welded(corners).faces
    edges = np.stack([faces, np.roll(faces, -1, axis=1)], 2).reshape(-1, 2)
    forward, backward = (set(map(tuple, side.tolist())) for side in (edges, edges[:, ::-1]))
    return len(forward) == len(edges) and forward == backward


def usdz(asset, folder):
    """By usd-core."""
    usd_reader.check(export(asset, folder / "a b.usdz"), asset, copies)


def fbx(asset, folder):
    """By ufbx, through our importer."""
    path, mesh = export(asset, folder / "a b.fbx"), asset.mesh
    found = read_asset(path).mesh
    one, other = copies.order_of(found, "part"), copies.order_of(mesh, "part")
    copies.same_geometry(copies.corners(found)[one], copies.corners(mesh)[other])
    if mesh.uv is not None:
        copies.same_uv(found.uv[one], mesh.uv[other])
    if mesh.skin is not None and (mesh.skin.weights > 0).any():
        # Bones that move nothing are no part of a skin there.
        copies.same_skin(found, one, mesh, other, heavy_only=True)
    phong_materials(found, one, mesh, other)


def phong_materials(found, one, mesh, other):
    """Each material of the mesh is one of the copy, as far as Phong can say it."""
    copied, wanted_places = copies.places(found, "material")[one], copies.places(mesh, "material")[other]
    for place in np.unique(wanted_places[wanted_places >= 0]):
        wanted = mesh.materials[place]
        numbers = np.unique(copied[wanted_places == place])
        assert len(numbers) == 1
        got = found.materials[numbers[0]]
        roles = set(wanted.textures) & {"base_color", "normal", "emissive"} if mesh.uv is not None else set()
        assert set(got.textures) == roles
        for role in roles:
            copies.same_image(found.images[got.textures[role]], mesh.images[wanted.textures[role]])
        copies.same_surface(got, wanted, ("metallic", "roughness", "emissive"), 1e-5)
        if wanted.alpha_mode != "opaque":
            assert abs(got.base_color[3] - wanted.base_color[3]) < 1e-5
        if "base_color" not in roles:
            assert np.allclose(got.base_color[:3], wanted.base_color[:3], atol=1e-5)


def urdf(asset, folder):
    """By yourdfpy: it loads, and stands where the mesh stands."""
    import yourdfpy

    path, mesh = export(asset, folder / "a b.urdf"), asset.mesh
    robot = yourdfpy.URDF.load(str(path))
    bounds = _in_robot_axes(mesh)
    assert np.abs(robot.scene.bounds - bounds).max() <= copies.TOLERANCE * np.ptp(bounds)
    assert robot.link_map["a_b"].inertial.mass > 0


def mjcf(asset, folder):
    """By MuJoCo: it compiles; bodies too small for it are refused by name."""
    import mujoco

    try:
        path = export(asset, folder / "a b.mjcf")
    except MaquetteError as error:
        assert "too small for MuJoCo" in str(error)
        return
    assert mujoco.MjModel.from_xml_path(str(path)).body_mass[1] > 0


def _in_robot_axes(mesh):
    points = mesh.vertices[np.unique(mesh.faces)][:, [2, 0, 1]] * (mesh.unit_m or 1.0)
    return np.stack([points.min(0), points.max(0)])


CHECKS = {
    "glb": glb,
    "glb draco": packed_glb("draco"),
    "glb meshopt": packed_glb("meshopt"),
    "obj": obj,
    "ply": plain(".ply"),
    "stl": plain(".stl"),
    "off": plain(".off"),
    "3mf": threemf,
    "usdz": usdz,
    "fbx": fbx,
    "urdf": urdf,
    "mjcf": mjcf,
}


def failures(asset: Asset, folder: Path) -> dict[str, str]:
    """What each format lost of an asset, by format; empty where all hold it."""
    found = {}
    asset = writable(asset)
    for name, check in CHECKS.items():
        inside = folder / name.replace(" ", "_")
        try:
            check(asset, inside)
        except Exception as error:  # one format's failure, of whatever kind, is a finding; the others go on
            found[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return found
