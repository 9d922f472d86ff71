"""FBX files hold what the asset held, as ufbx reads them, in its own process and through our importer."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from maquette.testing import check_exporter
from maquette.types import Asset, Mesh
from maquette_data3d.exporting.fbx.exporter import FbxConfig, FbxExporter
from maquette_data3d.ingest.read_asset import read_asset
from tests.data3d.exporting import copies
from tests.data3d.exporting import random_assets as assets

pytest.importorskip("ufbx", reason="ufbx is not installed")
UNITS = (1.0, 0.01, 0.001, 1.0)
# The binding frees what is in use, so that nothing is ever let go and the process leaves without cleaning up.
POSES = """
import gc, json, os, sys, ufbx
gc.disable()
kept = []
def held(x):
    kept.append(x)
    return x
scene = held(ufbx.load_memory(held(open(sys.argv[1], "rb").read()), file_format=ufbx.FileFormat.FBX))
bones = {held(n.name): n for n in held(scene.nodes) if held(held(n).bone) is not None}
times, found = json.loads(sys.argv[2]), []
for stack, frames in zip(held(scene.anim_stacks), times):
    for name, node in bones.items():
        for time in frames:
            t = held(ufbx.evaluate_transform(held(held(stack).anim), node, time))
            p, r = held(t.translation), held(t.rotation)
            found.append([held(stack.name), name, time, [p.x, p.y, p.z], [r.x, r.y, r.z, r.w]])
maps = {}
for material in held(scene.materials):
    phong = held(held(material).fbx)
    pairs = {"metal": phong.reflection_factor, "rough": phong.specular_exponent}
    maps[held(material.name)] = {key: held(held(value).texture) is not None for key, value in pairs.items()}
print(json.dumps({"poses": found, "maps": maps}))
sys.stdout.flush()
os._exit(0)
"""


def told(path, times=()):
    command = [sys.executable, "-c", POSES, str(path), json.dumps(times)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize("seed", range(5))
def test_assets_come_back(seed, tmp_path):
    from tests.data3d.exporting import formats

    asset = assets.random_asset(seed)
    formats.fbx(asset, tmp_path)
    found = read_asset(tmp_path / "a b.fbx").mesh
    assert found.unit_m == pytest.approx(UNITS[seed % 4])
    if found.skin is not None:
        copies.same_skeleton(found.skin.skeleton, asset.mesh.skin.skeleton)


def test_clips_play_as_they_were(tmp_path):
    asset = assets.random_asset(5, rigged=True)
    path = FbxExporter()(asset, tmp_path / "a.fbx")
    found = told(path, [clip.times.astype(float).tolist() for clip in asset.animations])["poses"]
    names = list(asset.mesh.skin.skeleton.names)
    clips = {clip.name: clip for clip in asset.animations}
    assert len(found) == sum(len(clip.times) for clip in asset.animations) * len(names)
    for clip, joint, time, place, turn in found:
        wanted, at = clips[clip], names.index(joint)
        frame = int(np.argmin(np.abs(wanted.times - time)))
        assert np.allclose(place, wanted.translations[frame, at], atol=1e-5)
        assert abs(np.dot(turn, wanted.rotations[frame, at])) == pytest.approx(1, abs=1e-5)


def test_the_packed_image_is_taken_apart(tmp_path):
    from maquette.types import Material

    random = np.random.default_rng(0)
    vertices, faces = assets.closed_surface(random, 1)
    mesh = Mesh(
        vertices,
        faces,
        uv=random.random((len(faces), 3, 2)),
        material=np.arange(len(faces)) % 2,
        materials=(Material("packed", textures={"metallic_roughness": 0}), Material("plain")),
        images=(assets.picture(random),),
    )
    maps = told(FbxExporter()(Asset(mesh), tmp_path / "a.fbx"))["maps"]
    assert maps == {"packed": {"metal": True, "rough": True}, "plain": {"metal": False, "rough": False}}


def test_meshes_without_materials_keep_their_colors(tmp_path):
    random = np.random.default_rng(0)
    vertices, faces = assets.closed_surface(random, 1)
    colors = np.c_[random.integers(0, 256, (len(vertices), 3)), np.full(len(vertices), 255)]
    path = FbxExporter(FbxConfig(unit_m=0.0254))(Asset(Mesh(vertices, faces, colors)), tmp_path / "a.fbx")
    found = read_asset(path).mesh
    assert np.array_equal(found.colors[found.faces], colors[faces]) and not found.materials
    assert found.unit_m == pytest.approx(0.0254)


def test_writing_is_atomic_and_the_same_every_time(tmp_path):
    check_exporter(FbxExporter(), tmp_path / "a.fbx")
    asset = assets.random_asset(1)
    paths = [FbxExporter()(asset, tmp_path / f"{name}.fbx") for name in "ab"]
    assert paths[0].read_bytes() == paths[1].read_bytes()
