"""What features store: right against analytic shapes, the same every time, and open to strangers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import trimesh

from maquette import plugins
from maquette.errors import MaquetteError
from maquette_data3d import BuildConfig, ShardReader, build_shards
from maquette_data3d.building.engines.local import Local
from maquette_data3d.building.engines.serial import Serial
from maquette_data3d.features.mesh_subject import MeshSubject
from maquette_data3d.features.skinning import barycentric, blended
from maquette_data3d.geometry.dual_grid import DualGrid, dual_grid_mesh
from maquette_data3d.geometry.repair import clean
from maquette_data3d.ingest.limits import ReadLimits
from maquette_data3d.ingest.reading import read
from maquette_data3d.plugin import FEATURES
from maquette_data3d.testing import check_engine, check_feature

SIZES = {
    "grid": {"resolution": 16},
    "surface": {"points": 64, "colors": True, "materials": True, "parts": True, "skin": True},
    "sharp": {"points": 64},
    "queries": {"near": 90, "volume": 60},
    "voxels": {"resolution": 16},
    "dual_grid": {"resolution": 16},
    "watertight": {"resolution": 16},
    "views": {"count": 2, "size": 24, "channels": ["rgb", "depth", "normal", "position", "albedo", "material"]},
}


@pytest.mark.parametrize("name", FEATURES)
def test_every_feature_keeps_its_promises(name, tmp_path):
    check_feature(lambda: plugins.build("features", {"name": name, **SIZES.get(name, {})}), tmp_path)


@pytest.mark.parametrize("engine", [Serial, Local])
def test_every_engine_keeps_its_promises(engine, tmp_path):
    check_engine(engine, tmp_path)


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    """A box of 1 x 2 x 1 as a subject at 32 cells."""
    path = tmp_path_factory.mktemp("box") / "box.ply"
    path.write_bytes(trimesh.creation.box((1, 2, 1)).export(file_type="ply"))
    scene = read(path, ReadLimits())
    return MeshSubject(scene, clean(scene.vertices, scene.faces, scene.corner_colors), 3, 32)


def distance_to_box(points):
    away = np.abs(points.astype(np.float64)) - [0.225, 0.45, 0.225]
    return np.linalg.norm(np.maximum(away, 0), axis=-1) + np.minimum(away.max(-1), 0)


def test_pictures_are_taken_from_the_heights_asked_for(box):
    block = {"name": "views", "count": 3, "size": 16, "scheme": "turntable", "elevation": [20.0, 40.0]}
    cameras = plugins.build("features", block).compute(box)["view_camera"].astype(np.float64)
    where = -np.einsum("vji,vj->vi", cameras[:, :3, :3], cameras[:, :3, 3])
    heights = np.degrees(np.arcsin(where[:, 1] / np.linalg.norm(where, axis=1)))
    middle = np.degrees(np.arcsin((np.sin(np.radians(20)) + np.sin(np.radians(40))) / 2))
    assert np.allclose(heights, heights[0], atol=1e-3) and abs(heights[0] - middle) < 1.0
    with pytest.raises(MaquetteError, match="elevation"):
        plugins.build("features", {**block, "elevation": [40.0, 20.0]})


def test_queries_tell_the_distance_of_the_points_as_stored(box):
    for precision, error in (("float16", 2e-3), ("exact", 1e-6)):
        block = {"name": "queries", "near": 3000, "volume": 1000, "precision": precision}
        arrays = plugins.build("features", block).compute(box)
        for name in ("near", "volume"):
            true = distance_to_box(arrays[name])
            assert np.abs(true - arrays[f"{name}_sdf"]).max() < error
        spread = np.abs(distance_to_box(arrays["near"]))
        assert 0.2 < (spread < 0.005).mean() < 0.8 and (spread > 0.03).any()


def test_sharp_points_lie_on_edges_and_voxels_cover_the_surface(box):
    sharp = plugins.build("features", {"name": "sharp", "points": 500}).compute(box)["sharp"].astype(np.float64)
    on_sides = (np.abs(np.abs(sharp) - [0.225, 0.45, 0.225]) < 1e-3).sum(1)
    assert (on_sides >= 2).all()
    voxels = plugins.build("features", {"name": "voxels", "resolution": 32}).compute(box)["voxels"]
    cells = {tuple(cell) for cell in voxels.tolist()}
    points, _, _ = box.surface(2000)
    assert {tuple(cell) for cell in np.floor((points + 0.5) * 32).astype(int).tolist()} <= cells


def test_the_dual_grid_can_be_turned_back_into_the_surface(box):
    feature = plugins.build("features", {"name": "dual_grid", "resolution": 32, "precision": "exact"})
    arrays = feature.compute(box)
    bits = np.unpackbits(arrays["dual_edges"][:, None], axis=1, bitorder="little").astype(bool)
    grid = DualGrid(arrays["dual_voxels"].astype(np.int32), arrays["dual_points"], bits[:, :3], bits[:, 3:6], 32)
    vertices, faces = dual_grid_mesh(grid)
    mesh = trimesh.Trimesh(vertices, faces)
    assert mesh.is_watertight and abs(mesh.volume - 0.45**2 * 0.9) < 2e-3
    assert np.abs(distance_to_box(vertices)).max() < 1 / 32


def test_watertight_meshes_are_closed_whatever_the_source_is(tmp_path):
    def build():
        return plugins.build("features", {"name": "watertight", "resolution": 32})

    for arrays in check_feature(build, tmp_path):
        mesh = trimesh.Trimesh(arrays["solid_vertices"], arrays["solid_faces"], process=False)
        assert mesh.is_watertight and mesh.is_winding_consistent and mesh.volume > 0


def test_color_is_that_of_the_nearest_surface_everywhere(tmp_path):
    red, blue = (trimesh.creation.box((1, 1, 1)).apply_translation((x, 0, 0)) for x in (-1, 1))
    red.visual.vertex_colors, blue.visual.vertex_colors = (255, 0, 0, 255), (0, 0, 255, 255)
    (tmp_path / "two.ply").write_bytes((red + blue).export(file_type="ply"))
    scene = read(tmp_path / "two.ply", ReadLimits())
    subject = MeshSubject(scene, clean(scene.vertices, scene.faces, scene.corner_colors), 0, 32)
    color = plugins.build("features", {"name": "grid", "resolution": 32}).compute(subject)["color"]
    assert (color[0, :7] == 255).all() and (color[2, 9:] == 255).all()
    assert (color.sum(0) == 255).all()


def test_triangles_keep_what_was_painted(tmp_path):
    from PIL import Image

    picture = tmp_path / "paint.png"
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).save(picture)
    (tmp_path / "paint.mtl").write_text("newmtl paint\nmap_Kd paint.png\nKd 1 1 1\n")
    (tmp_path / "wedge.obj").write_text(
        "mtllib paint.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nvt 0 0\nvt 1 0\nvt 0 1\nusemtl paint\n"
        "f 1/1 3/2 2/3\nf 1/1 2/2 4/3\nf 1/1 4/2 3/3\nf 2/1 3/2 4/3\n"
    )
    out = tmp_path / "out"
    blocks = {"features": ["triangles"], "thumbnails": 1, "engine": "serial"}
    report = build_shards(BuildConfig(str(tmp_path), str(out), 16, **blocks))
    assert report.kept == 1
    reader = ShardReader(out)
    sample = reader.sample(0)
    about = json.loads(sample["mesh_materials"].tobytes())
    assert sample["mesh_images"].tobytes() == picture.read_bytes() and about["images"] == [picture.stat().st_size]
    assert about["materials"][0]["textures"] == {"base_color": 0}
    assert sample["mesh_uv"].shape == (4, 3, 2) and (sample["mesh_material"] == 0).all()
    assert reader.tokens[0] == 4 and reader.entry(0).thumbnail[:4] == b"RIFF" and reader.column("textured")[0]


def test_barycentric_shares_and_blended_joints():
    corners = np.array([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]]).repeat(2, 0)
    share = barycentric(corners, np.array([[0.25, 0.25, 0], [1.0, 0, 0]]))
    assert np.allclose(share, [[0.5, 0.25, 0.25], [0, 1, 0]])
    joints = np.array([[[0, 1], [1, 2], [5, 0]]]).repeat(2, 0)
    weights = np.array([[[0.5, 0.5], [1.0, 0], [1.0, 0]]]).repeat(2, 0)
    chosen, amount = blended(joints, weights, share, 6)
    assert chosen[0].tolist() == [1, 0, 5, 0] and np.allclose(amount[0], [0.5, 0.25, 0.25, 0])
    assert chosen[1].tolist() == [1, 0, 0, 0] and np.allclose(amount.sum(1), 1)


STRANGER = '''
from dataclasses import dataclass
import numpy as np
from maquette import hookimpl

@dataclass
class HeightsConfig:
    points: int | None = None

class Heights:
    """Quantiles of height."""
    def __init__(self, config): self.points = config.points
    def ragged(self): return ()
    def facts(self): return {"heights": 5}
    def compute(self, subject):
        points, _, _ = subject.surface(self.points)
        return {"heights": np.quantile(points[:, 1], [0, .25, .5, .75, 1]).astype(np.float32)}

@hookimpl
def register_features(register):
    register("heights", HeightsConfig, Heights)
'''


def test_a_strangers_feature_works_in_the_children_too(tmp_path):
    (tmp_path / "heights_plugin.py").write_text(STRANGER)
    plugins.load_files([tmp_path / "heights_plugin.py"])
    blocks = {"features": ["grid", "heights"], "points": 100, "count": 3, "thumbnails": 0}
    build_shards(BuildConfig("procedural", str(tmp_path / "out"), 16, **blocks, engine="local"))
    reader = ShardReader(tmp_path / "out")
    assert reader.about["heights"] == 5 and reader.array(1, "heights").shape == (5,)
    twice = BuildConfig("procedural", str(tmp_path / "no"), 16, features=["grid", {"name": "grid"}])
    with pytest.raises(MaquetteError, match="'grid' is listed twice"):
        build_shards(twice)


def test_views_know_the_materials_of_the_parts_they_see():
    """Base colour and material of a pixel are those of the procedural part at its position."""
    from maquette_data3d.features.shape_subject import ShapeSubject
    from maquette_data3d.procedural import sample_shape

    shape = sample_shape(0, 2, 0.25)
    block = {"name": "views", "count": 2, "size": 24, "channels": ["normal", "position", "albedo", "material"]}
    views = plugins.build("features", block).compute(ShapeSubject(shape, 64, 0.05))
    seen = (views["view_normal"] != 0).any(1)
    assert seen.any()
    part = shape.part_of(np.moveaxis(views["view_position"], 1, -1)[seen].astype(np.float64))
    made = shape.program.materials
    told = np.moveaxis(views["view_material"], 1, -1)[seen]
    expected = np.array([[made[p].metallic, made[p].roughness] for p in part]) * 255
    assert np.mean(np.abs(told - expected).max(1) <= 1) > 0.97  # float16 moves a few pixels over an edge
    color = np.moveaxis(views["view_albedo"], 1, -1)[seen] / 255
    assert np.mean(np.abs(color - shape.program.part_colors[part]).max(1) < 0.02) > 0.8  # vertex colours blend at edges
