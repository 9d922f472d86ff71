"""USDZ packages as usd-core reads them, compared with the asset that was written."""

from __future__ import annotations

import zipfile

import numpy as np

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


def check(path, asset, copies):
    """The package holds the asset."""
    from pxr import UsdGeom, UsdSkel

    stage, mesh = opened(path), asset.mesh
    assert np.isclose(UsdGeom.GetStageMetersPerUnit(stage), mesh.unit_m or 1.0)
    assert UsdGeom.GetStageUpAxis(stage) == "Y"
    order = copies.order_of(mesh, "part")
    found = meshes(stage)
    points = [np.array(prim.GetPointsAttr().Get()) for prim in found]
    faces = [np.array(prim.GetFaceVertexIndicesAttr().Get()).reshape(-1, 3) for prim in found]
    corners = np.concatenate([one[other] for one, other in zip(points, faces, strict=True)])
    copies.same_geometry(corners, copies.corners(mesh)[order], 1e-7)
    if mesh.uv is not None:
        uv = np.concatenate([np.array(UsdGeom.PrimvarsAPI(prim).GetPrimvar("st").Get()) for prim in found])
        copies.same_uv(uv.reshape(-1, 3, 2) * [1, -1] + [0, 1], mesh.uv[order])
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
        if not prim.GetPrim().HasAPI(UsdSkel.BindingAPI):  # a part that no joint moves
            table.append(np.zeros((*index.shape, len(names))))
            continue
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
