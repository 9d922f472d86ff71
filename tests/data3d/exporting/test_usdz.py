"""USDZ packages hold what the asset held, as usd-core reads them and its validators judge them."""

from __future__ import annotations

import zipfile
from dataclasses import replace

import numpy as np
import pytest

from maquette.errors import MaquetteError
from maquette.testing import check_exporter
from maquette.types import Asset, Mesh
from maquette_data3d.exporting.usd.exporter import UsdzConfig, UsdzExporter
from tests.data3d.exporting import copies
from tests.data3d.exporting import random_assets as assets
from tests.data3d.exporting import usd_reader as usd

pytest.importorskip("pxr", reason="usd-core is not installed")


@pytest.mark.parametrize("seed", range(6))
def test_assets_come_back(seed, tmp_path):
    asset = assets.random_asset(seed)
    usd.check(UsdzExporter()(asset, tmp_path / "a b.usdz"), asset, copies)


def test_validators_of_usd_find_nothing(tmp_path):
    from pxr import UsdValidation

    registry = UsdValidation.ValidationRegistry()
    context = UsdValidation.ValidationContext(registry.GetOrLoadAllValidators())
    for seed in range(4):
        stage = usd.opened(UsdzExporter()(assets.random_asset(seed), tmp_path / f"{seed}.usdz"))
        assert [error.GetMessage() for error in context.Validate(stage)] == []


def test_a_pose_of_a_clip_moves_the_points_as_the_skin_says(tmp_path):
    """UsdSkel's own blending, against matrices by hand."""
    from pxr import Usd, UsdSkel, Vt

    from maquette_data3d.geometry.rigid import rigid, transforms

    asset = assets.random_asset(5, rigged=True)
    mesh, clip = replace(asset.mesh, part=None, part_names=(), material=None), asset.animations[0]
    stage = usd.opened(UsdzExporter()(replace(asset, mesh=mesh), tmp_path / "a.usdz"))
    prim = usd.meshes(stage)[0]
    cache = UsdSkel.Cache()
    root = UsdSkel.Root(stage.GetPrimAtPath("/Asset"))
    cache.Populate(root, Usd.PrimDefaultPredicate)
    time = float(clip.times[3]) * stage.GetTimeCodesPerSecond()
    query = cache.GetSkelQuery(UsdSkel.Skeleton.Get(stage, "/Asset/Skeleton"))
    moves = query.ComputeSkinningTransforms(time)
    points = Vt.Vec3fArray(prim.GetPointsAttr().Get())
    assert cache.GetSkinningQuery(prim.GetPrim()).ComputeSkinnedPoints(moves, points, time)
    world = transforms(clip.rotations[3], clip.translations[3])
    for place, parent in enumerate(mesh.skin.skeleton.parents):
        world[place] = world[place] if parent < 0 else world[parent] @ world[place]
    blend = world @ np.linalg.inv(rigid(mesh.skin.skeleton.rest))
    moved = np.einsum(
        "vk,vkij,vj->vi", mesh.skin.weights, blend[mesh.skin.joints], np.c_[mesh.vertices, np.ones(len(mesh.vertices))]
    )
    used = np.unique(mesh.faces)
    assert np.abs(np.array(points) - moved[used, :3]).max() < 1e-4 * np.abs(moved).max()


def test_the_package_is_aligned_and_the_same_every_time(tmp_path):
    asset = assets.random_asset(1)
    paths = [UsdzExporter()(asset, tmp_path / f"{name}.usdz") for name in "ab"]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with zipfile.ZipFile(paths[0]) as package:
        for member in package.infolist():
            assert member.compress_type == zipfile.ZIP_STORED
            head = paths[0].read_bytes()[member.header_offset : member.header_offset + 30]
            start = (
                member.header_offset
                + 30
                + int.from_bytes(head[26:28], "little")
                + int.from_bytes(head[28:30], "little")
            )
            assert start % 64 == 0


def test_units_and_atomic_writing(tmp_path):
    from pxr import UsdGeom

    mesh = Mesh(np.eye(4, 3, dtype=np.float32), np.array([[0, 1, 2], [0, 3, 1]]))
    stage = usd.opened(UsdzExporter(UsdzConfig(unit_m=0.5))(Asset(mesh), tmp_path / "a.usdz"))
    assert UsdGeom.GetStageMetersPerUnit(stage) == 0.5
    with pytest.raises(MaquetteError, match="unit_m"):
        UsdzExporter(UsdzConfig(unit_m=0.0))(Asset(mesh), tmp_path / "b.usdz")
    check_exporter(UsdzExporter(), tmp_path / "c.usdz")
