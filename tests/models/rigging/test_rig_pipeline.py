"""From shards through training to rigged meshes: exact streams, valid rigs whatever the mesh, one request at a time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from maquette.assets import import_asset, open_pipeline
from maquette.errors import MaquetteError
from maquette.testing import check_dataset, check_pipeline_on_device
from maquette.types import Asset, Material, Mesh, Request
from maquette_data3d import sample_shape
from maquette_models.rigging.evaluation import KnownRig, rig_errors, rig_figures
from maquette_models.rigging.file_rigs import FileRig, body_of
from maquette_models.rigging.rig import Rig, joint_names
from maquette_models.rigging.rigged_shapes import read_rigged
from maquette_models.rigging.skeleton_dataset import Skeletons, SkeletonsConfig
from maquette_models.rigging.skeleton_tree import KINDS, ROOT
from maquette_models.rigging.skin_dataset import Skins, SkinsConfig
from maquette_models.rigging.template_fit import fitted, templates_of
from maquette_models.rigging.variation import VariationConfig
from maquette_serve.commands.rig import rig as rig_command

VARIED = VariationConfig(pose=20, stretch=0.2, turn=10, mirror=True)


@pytest.fixture(scope="module")
def pipeline(rig_run: Path) -> Rig:
    return open_pipeline(rig_run, {"threshold": 1.0})  # what has seen 30 steps is no judge of what moves


@pytest.fixture(scope="module")
def creature() -> Mesh:
    return sample_shape(5, 1, classes=("creatures",)).mesh(24)


def assert_valid(asset: Asset, influences: int = 4) -> None:
    skin, mesh = asset.mesh.skin, asset.mesh
    parents = skin.skeleton.parents
    assert (parents == ROOT).sum() == 1 and parents[0] == ROOT and (parents < np.arange(len(parents))).all()
    assert len(set(skin.skeleton.names)) == len(parents) >= 2 and np.isfinite(skin.skeleton.rest).all()
    assert skin.weights.shape == skin.joints.shape and skin.weights.shape[0] == len(mesh.vertices)
    assert skin.weights.shape[1] <= influences
    assert (skin.weights >= 0).all() and np.allclose(skin.weights.sum(axis=1), 1, atol=1e-5)


def test_models_compute_on_another_device(rig_run: Path, creature: Mesh) -> None:
    check_pipeline_on_device(lambda: open_pipeline(rig_run, {"threshold": 1.0}), Request(mesh=creature))


def test_datasets_resume_exactly(rig_shards: list[str]) -> None:
    fish = {"shards": rig_shards[:1], "joints": 6}  # all of them have six joints, so that nothing is padded
    settings = {**fish, "repeats": [2], "batch_size": 4, "points": 64, "variation": VARIED}
    check_dataset(lambda: Skeletons(SkeletonsConfig(**settings)), batches=8)
    check_dataset(lambda: Skins(SkinsConfig(**settings, asked=16, joint_noise=0.01)), batches=8)


def test_shards_without_skeletons_are_refused(shards_without: str) -> None:
    with pytest.raises(MaquetteError, match="surface_joints"):
        Skeletons(SkeletonsConfig(shards=[shards_without])).setup()
    with pytest.raises(MaquetteError, match="2 repeats for 1"):
        Skeletons(SkeletonsConfig(shards=["x"], repeats=[1, 2]))


@pytest.fixture(scope="module")
def shards_without(tmp_path_factory: pytest.TempPathFactory) -> str:
    from maquette_data3d import BuildConfig, build_shards

    out = str(tmp_path_factory.mktemp("plain") / "shards")
    build_shards(BuildConfig("procedural", out, 16, points=64, count=6, features=["surface"], thumbnails=0, workers=1))
    return out


def test_varied_shapes_keep_their_weights_and_mirror_their_roles(rig_shards: list[str]) -> None:
    data = Skins(SkinsConfig(shards=rig_shards, batch_size=6, points=128, asked=32, variation=VARIED))
    data.setup()
    batch = next(data.train_dataloader())
    assert np.allclose(batch["weights"].sum(dim=2), 1, atol=1e-3)
    assert float(batch["points"].abs().max()) <= 0.451 and (batch["joint_mask"].sum(dim=1) > 1).all()
    names = np.array(data.roles)
    for roles, joints, mask in zip(batch["roles"], batch["joints"], batch["joint_mask"], strict=True):
        own = dict(zip(names[roles[mask]], joints[mask], strict=True))
        for name, place in own.items():
            other = name.replace("left", "right")
            if name.startswith("left") and other in own:
                assert float(place[0]) > float(own[other][0]), "left is at +x, also in a mirror"


def test_a_rig_is_valid_and_all_else_stays(pipeline: Rig, creature: Mesh) -> None:
    mesh = Mesh(
        creature.vertices * 3 + 5, creature.faces, creature.colors,
        material=np.zeros(len(creature.faces), np.int32), materials=(Material("fur"),), unit_m=0.5,
    )  # fmt: skip
    asset = pipeline(Request(mesh=mesh, options={"kind": "biped", "influences": 2}))
    assert_valid(asset, influences=2)
    for name in ("vertices", "faces", "colors", "material"):
        assert np.array_equal(getattr(asset.mesh, name), getattr(mesh, name))
    assert asset.mesh.materials == mesh.materials and asset.mesh.unit_m == 0.5 and asset.metadata["kind"] == "biped"
    joints = asset.mesh.skin.skeleton.rest[:, :3, 3]
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    assert ((joints >= low - 0.4) & (joints <= high + 0.4)).all(), "joints are where the mesh is"


def test_a_request_depends_on_itself_alone(pipeline: Rig, creature: Mesh) -> None:
    alone = pipeline(Request(mesh=creature))
    other = sample_shape(5, 2, classes=("creatures",)).mesh(24)
    _, beside, failed = pipeline.batch([Request(mesh=other), Request(mesh=creature), Request()])
    assert isinstance(failed, MaquetteError)
    assert alone.metadata == beside.metadata and np.array_equal(alone.mesh.skin.weights, beside.mesh.skin.weights)


def test_vertices_in_one_place_move_together(pipeline: Rig, creature: Mesh) -> None:
    corners = creature.faces.reshape(-1)
    soup = Mesh(creature.vertices[corners], np.arange(len(corners)).reshape(-1, 3))
    asset = pipeline(Request(mesh=soup, options={"kind": "bird"}))
    assert_valid(asset)
    _, first, place = np.unique(soup.vertices, axis=0, return_index=True, return_inverse=True)
    assert np.array_equal(asset.mesh.skin.weights, asset.mesh.skin.weights[first][place.reshape(-1)])


def test_refusals(rig_run: Path, pipeline: Rig, creature: Mesh) -> None:
    strict = open_pipeline(rig_run, {"threshold": 0.0})
    with pytest.raises(MaquetteError, match="no rig found: with probability"):
        strict(Request(mesh=creature))
    assert_valid(strict(Request(mesh=creature, options={"kind": "fish"})))
    flat = Mesh(np.zeros((3, 3)), np.array([[0, 1, 2]]))
    for mesh in (flat, Mesh(np.zeros((0, 3)), np.zeros((0, 3)))):
        with pytest.raises(MaquetteError):
            pipeline(Request(mesh=mesh))
    with pytest.raises(MaquetteError, match="kind"):
        pipeline(Request(mesh=creature, options={"kind": "chair"}))
    with pytest.raises(MaquetteError, match="option"):
        pipeline(Request(mesh=creature, options={"bones": 3}))
    with pytest.raises(MaquetteError, match="takes no pictures"):
        pipeline(Request(mesh=creature, steps=3))


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_odd_meshes(pipeline: Rig, scale: float) -> None:
    rng = np.random.default_rng(0)
    soup = Mesh(scale * rng.normal(size=(60, 3)), rng.integers(60, size=(40, 3)))
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [9, 9, 9]])
    sheet = Mesh(scale * corners, np.array([[0, 1, 2], [1, 3, 2]]))
    for mesh in (soup, sheet):
        assert_valid(pipeline(Request(mesh=mesh, options={"kind": "other"})))


def test_figures_know_a_perfect_rig(pipeline: Rig, rig_shards: list[str]) -> None:
    shape = sample_shape(5, 0, classes=("creatures",))
    mesh = shape.mesh(24)
    names, parents, positions = shape.skeleton()
    from maquette_data3d.joint_roles import role_of

    roles = np.array([pipeline.roles.index(role_of(name)) for name in names])
    own = FileRig(roles, parents.astype(np.int64), positions.astype(float), *shape.skin(mesh.vertices))
    known = KnownRig("one", mesh, *body_of(own, pipeline.roles))
    templates = templates_of(read_rigged(rig_shards, "train", pipeline.roles))
    errors = rig_errors(pipeline, known, templates)
    assert 0 <= errors.weights <= 2 and 0 < errors.by_template["weights"] < 1.5 and errors.posed >= 0
    figures = rig_figures([errors, errors])
    assert figures["joint_to_joint"].n == 2 and "without training" in figures["posed"].beside
    sight = pipeline.see(mesh)
    tree = fitted(templates, sight.surface, sight.normals)
    assert len(tree) > 1 and np.abs(tree.positions).max() < 0.5


def test_command(rig_run: Path, creature: Mesh, tmp_path: Path) -> None:
    from maquette.assets import export

    export(Asset(creature), tmp_path / "in.glb")
    paths = str(tmp_path / "in.glb"), str(tmp_path / "out.glb")
    arguments = [str(rig_run), "--mesh", paths[0], "--kind", "biped", "--out", paths[1]]
    result = CliRunner().invoke(rig_command, arguments, catch_exceptions=False)
    assert result.exit_code == 0 and "biped" in result.output and (tmp_path / "out.glb").stat().st_size > 1000


def test_names_are_unique() -> None:
    names = joint_names(["pelvis", "other", "tail", "tail", "other", "left foot"])
    assert names == ("pelvis", "joint", "tail", "tail 2", "joint 2", "left foot")


def listed(folder: Path) -> list[Path]:
    return [folder / json.loads(line)["file"] for line in (folder / "manifest.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("part", ["some", pytest.param("all", marks=pytest.mark.slow)])
def test_no_real_model_crashes(pipeline: Rig, real_models: Path, part: str) -> None:
    files = listed(real_models)
    for path in files[:: len(files) // 15] if part == "some" else files:
        (result,) = pipeline.batch([Request(mesh=import_asset(path).mesh)])
        if isinstance(result, MaquetteError):
            assert str(result).startswith("no rig found"), (path, result)
        else:
            assert_valid(result)
            assert result.metadata["kind"] in KINDS[1:]
