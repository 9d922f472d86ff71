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

pytest.importorskip("pxr", reason="usd-core is not installed")
UNITS = (1.0, 0.01, 0.001, 1.0)
INPUTS = {"diffuseColor": "base_color", "metallic": "metallic", "roughness": "roughness", "emissiveColor": "emissive"}


def opened(path):
    from pxr import Usd

    return Usd.Stage.Open(str(path))


def meshes(stage):
    from pxr import UsdGeom

    return [UsdGeom.Mesh(prim) for prim in stage.Traverse() if prim.IsA(UsdGeom.Mesh)]


def surface(material):
    """Values, and image and channel of each connected input, of a preview surface."""
    from pxr import UsdShade

    shader, _, _ = material.ComputeSurfaceSource()
    found = {}
    for source in shader.GetInputs():
        connected = source.GetConnectedSources()[0]
        if not connected:
            found[source.GetBaseName()] = source.Get()
            continue
        node = UsdShade.Shader(connected[0].source.GetPrim())
        if node.GetIdAttr().Get() == "UsdUVTexture":
            scale = np.array(node.GetInput("scale").Get())
            channel = connected[0].sourceName
            value = scale[:3] if channel == "rgb" else scale["rgba".index(channel)]
            found[source.GetBaseName()] = (node.GetInput("file").Get().path, channel, value)
    return found


@pytest.mark.parametrize("seed", range(8))
def test_assets_come_back(seed, assets, copies, tmp_path):
    from pxr import UsdGeom, UsdSkel

    asset = assets.random_asset(seed)
    path = UsdzExporter()(asset, tmp_path / "a b.usdz")
    stage = opened(path)
    assert UsdGeom.GetStageMetersPerUnit(stage) == UNITS[seed % 4] and UsdGeom.GetStageUpAxis(stage) == "Y"
    mesh, order = asset.mesh, copies.order_of(asset.mesh, "part")
    found = meshes(stage)
    points = [np.array(prim.GetPointsAttr().Get()) for prim in found]
    faces = [np.array(prim.GetFaceVertexIndicesAttr().Get()).reshape(-1, 3) for prim in found]
    corners = np.concatenate([one[other] for one, other in zip(points, faces, strict=True)])
    copies.same_geometry(corners, copies.corners(mesh)[order], 1e-7)
    if mesh.uv is not None:
        uv = np.concatenate([np.array(UsdGeom.PrimvarsAPI(prim).GetPrimvar("st").Get()) for prim in found])
        assert np.abs(uv.reshape(-1, 3, 2) * [1, -1] + [0, 1] - mesh.uv[order]).max() < 1e-6
    check_surfaces(found, mesh, order, path, copies)
    if mesh.skin is not None:
        skeleton = UsdSkel.Skeleton.Get(stage, "/Asset/Skeleton")
        check_skin(skeleton, found, faces, mesh, order, copies)
        check_clips(stage, skeleton, asset)


def check_surfaces(found, mesh, order, path, copies):
    from pxr import UsdShade

    material = copies.places(mesh, "material")[order]
    start = 0
    with zipfile.ZipFile(path) as package:
        for prim in found:
            count = len(prim.GetFaceVertexCountsAttr().Get())
            api = UsdShade.MaterialBindingAPI(prim.GetPrim())
            groups = [(np.array(one.GetIndicesAttr().Get()), one.GetPrim()) for one in api.GetMaterialBindSubsets()]
            for rows, holder in groups or [(np.arange(count), prim.GetPrim())]:
                place = np.unique(material[start + rows])
                assert len(place) == 1
                shown = surface(UsdShade.MaterialBindingAPI(holder).ComputeBoundMaterial()[0])
                if place[0] >= 0:
                    check_surface(shown, mesh, mesh.materials[place[0]], package, copies)
            start += count
    assert start == len(mesh.faces)


def check_surface(shown, mesh, wanted, package, copies):
    roles = wanted.textures if mesh.uv is not None else {}
    of_input = {"diffuseColor": "base_color", "emissiveColor": "emissive", "normal": "normal", "occlusion": "occlusion"}
    of_input |= {"metallic": "metallic_roughness", "roughness": "metallic_roughness"}
    for name, role in of_input.items():
        value = shown[name]
        assert isinstance(value, tuple) == (role in roles), name
        if role in roles:
            copies.same_image(package.read(value[0]), mesh.images[roles[role]])
            value = value[2]
        if name in INPUTS:
            factor = np.array(getattr(wanted, INPUTS[name]))
            assert np.allclose(value, factor[:3] if factor.ndim else factor, atol=1e-6), name
    assert ("opacity" in shown) == (wanted.alpha_mode != "opaque")


def check_skin(skeleton, found, faces, mesh, order, copies):  # noqa: PLR0917
    from pxr import UsdSkel

    names = list(skeleton.GetJointNamesAttr().Get())
    assert names == list(mesh.skin.skeleton.names)
    bind = np.array(skeleton.GetBindTransformsAttr().Get()).transpose(0, 2, 1)
    assert np.allclose(bind[:, :3, 3], mesh.skin.skeleton.rest[:, :3, 3], atol=1e-6)
    parents = UsdSkel.Topology(skeleton.GetJointsAttr().Get())
    assert [parents.GetParent(place) for place in range(len(names))] == mesh.skin.skeleton.parents.tolist()
    table = []
    for prim, index in zip(found, faces, strict=True):
        api = UsdSkel.BindingAPI(prim.GetPrim())
        width = api.GetJointIndicesPrimvar().GetElementSize()
        joints = np.array(api.GetJointIndicesPrimvar().Get()).reshape(-1, width)
        weights = np.array(api.GetJointWeightsPrimvar().Get()).reshape(-1, width)
        table.append(
            copies.dense_weights(
                type("S", (), {"joints": joints, "weights": weights, "skeleton": mesh.skin.skeleton}), names
            )[index]
        )
    wanted = copies.dense_weights(mesh.skin, names)[mesh.faces[order]]
    assert np.abs(np.concatenate(table) - wanted).max() < 1e-5


def check_clips(stage, skeleton, asset):
    from pxr import UsdSkel

    prims = [UsdSkel.Animation(prim) for prim in stage.Traverse() if prim.IsA(UsdSkel.Animation)]
    assert len(prims) == len(asset.animations)
    bound = UsdSkel.BindingAPI(skeleton.GetPrim()).GetAnimationSource()
    assert bound == prims[0].GetPrim()
    for prim, clip in zip(prims, asset.animations, strict=True):
        times = prim.GetRotationsAttr().GetTimeSamples()
        assert np.allclose(np.array(times) / stage.GetTimeCodesPerSecond(), clip.times, atol=1e-6)
        for frame, time in enumerate(times):
            turns = np.array([[*q.GetImaginary(), q.GetReal()] for q in prim.GetRotationsAttr().Get(time)])
            assert np.allclose(np.abs((turns * clip.rotations[frame]).sum(-1)), 1, atol=1e-5)
            assert np.allclose(prim.GetTranslationsAttr().Get(time), clip.translations[frame], atol=1e-6)


def test_validators_of_usd_find_nothing(assets, tmp_path):
    from pxr import UsdValidation

    registry = UsdValidation.ValidationRegistry()
    context = UsdValidation.ValidationContext(registry.GetOrLoadAllValidators())
    for seed in range(4):
        stage = opened(UsdzExporter()(assets.random_asset(seed), tmp_path / f"{seed}.usdz"))
        assert [error.GetMessage() for error in context.Validate(stage)] == []


def test_a_pose_of_a_clip_moves_the_points_as_the_skin_says(assets, tmp_path):
    """UsdSkel's own blending, against matrices by hand."""
    from pxr import Usd, UsdSkel, Vt

    from maquette_data3d.geometry.rigid import rigid, transforms

    asset = assets.random_asset(5, rigged=True)
    mesh, clip = replace(asset.mesh, part=None, part_names=(), material=None), asset.animations[0]
    stage = opened(UsdzExporter()(replace(asset, mesh=mesh), tmp_path / "a.usdz"))
    prim = meshes(stage)[0]
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


def test_the_package_is_aligned_and_the_same_every_time(assets, tmp_path):
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
    stage = opened(UsdzExporter(UsdzConfig(unit_m=0.5))(Asset(mesh), tmp_path / "a.usdz"))
    assert UsdGeom.GetStageMetersPerUnit(stage) == 0.5
    with pytest.raises(MaquetteError, match="unit_m"):
        UsdzExporter(UsdzConfig(unit_m=0.0))(Asset(mesh), tmp_path / "b.usdz")
    check_exporter(UsdzExporter(), tmp_path / "c.usdz")
