"""What becomes of each file: kept, quarantined, done again when it changes, found to be a copy, filtered."""

from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
import pytest
import trimesh

from maquette.errors import MaquetteError
from maquette_data3d import BuildConfig, ShardReader, build_shards, write_mesh_files
from maquette_data3d.building.config import FilterConfig
from maquette_data3d.procedural import CLASSES, sample_shape
from tests.data3d.built_folders import SHAPES, SMALL, boxes, files, hashes, interrupted, meshes


def test_every_file_of_a_folder_is_kept_or_quarantined_with_its_reason(tmp_path):
    out = tmp_path / "out"
    report = build_shards(BuildConfig(str(meshes(tmp_path / "in")), str(out), **SMALL, workers=2))
    assert (report.found, report.kept, report.quarantined) == (10, 7, 3)
    assert report.kept + report.quarantined == report.found
    assert report.reasons == {"flat": 1, "non_finite": 1, "wrong_extension": 1}
    assert {e["file"] for e in report.files("quarantined")} == {"chair/notes.glb", "flat.obj", "nan.obj"}
    assert files(out)["wooden_crate-01.ply"]["repairs"] == {"duplicate_faces": 2}
    assert report.repaired == len(list(report.files("repaired"))) < report.kept
    assert len(list(report.files())) == report.found and report.repairs["duplicate_faces"] >= 1
    assert json.loads((out / "report.json").read_text()) == report.plain()
    about = json.loads((out / "shards.json").read_text())
    assert about["classes"] == sorted({*CLASSES[:6], "object"})
    reader = ShardReader(out)
    entries = {entry.id: entry for entry in map(reader.entry, range(len(reader)))}
    crate = entries["wooden_crate-01.ply"]
    assert (crate.caption, crate.class_name) == ("wooden crate 01", "object")
    content = (tmp_path / "in" / "wooden_crate-01.ply").read_bytes()
    assert crate.lineage["sha256"] == hashlib.sha256(content).hexdigest()
    assert crate.lineage["repairs"]["duplicate_faces"] == 2 and crate.lineage["quality"]["faces"] == 12
    assert crate.lineage["placement"]["scale"] == pytest.approx(0.9)
    assert entries["table/table-00001.obj"].caption == sample_shape(1, 1).caption
    assert not (out / ".work").exists()
    build_shards(BuildConfig(str(tmp_path / "in"), str(tmp_path / "again"), **SMALL, workers=3))
    assert hashes(tmp_path / "again") == hashes(out)


def test_ingested_procedural_files_agree_with_the_analytic_field(tmp_path):
    write_mesh_files(tmp_path / "in", 8, seed=2, resolution=96)
    build_shards(BuildConfig(str(tmp_path / "in"), str(tmp_path / "out"), 32, points=256, workers=2))
    reader = ShardReader(tmp_path / "out")
    for number, entry in enumerate(map(reader.entry, range(len(reader)))):
        shape = sample_shape(2, int(entry.id.partition("-")[2][:5]))
        found, true = reader.array(number, "tsdf")[0] < 0, shape.tsdf(32, 0.05) < 0
        assert (found & true).sum() / (found | true).sum() > 0.93, entry.caption
        color = reader.array(number, "color").astype(int)
        solid = shape.tsdf(16, 0.05) < 0
        assert np.abs(color - shape.color_grid(16))[:, solid].mean() < 12


def test_wrong_sources_are_one_line_and_leave_nothing(tmp_path):
    def refused(source, **settings):
        with pytest.raises(MaquetteError) as caught:
            build_shards(BuildConfig(str(source), str(tmp_path / "out"), **{**SMALL, **settings}, workers=1))
        assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()
        return str(caught.value)

    assert "does not exist" in refused(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert "holds no mesh files" in refused(tmp_path / "empty")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.glb").write_text("text")
    assert "none of the 1 mesh files" in refused(tmp_path / "bad")
    (tmp_path / "bad" / "manifest.jsonl").write_text("{broken\n")
    assert "line 1" in refused(tmp_path / "bad")
    with pytest.raises(MaquetteError, match="is not empty"):
        build_shards(BuildConfig("procedural", str(tmp_path / "bad"), **SMALL, count=1))


def test_only_what_is_new_or_changed_is_done_again(tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    sizes = {name: (1, 1 + number / 8, 2) for number, name in enumerate("bcdefg")}
    boxes(source, sizes)
    (source / "broken.stl").write_bytes(b"no mesh")
    config = BuildConfig(str(source), str(out), **{**SMALL, "thumbnails": 3}, shard_samples=3, workers=2)
    build_shards(config)
    times = json.loads((out / "throughput.json").read_text())
    assert times["grid"]["samples"] == 6
    boxes(source, {"a": (3, 1, 1), "e": (1, 3, 1)})
    (source / "g.ply").unlink()
    report = build_shards(config)
    assert (report.found, report.kept, report.quarantined) == (7, 6, 1)
    times = json.loads((out / "throughput.json").read_text())
    assert times["grid"]["samples"] == 2, "one file is new and one has changed"
    fresh = tmp_path / "fresh"
    build_shards(BuildConfig(str(source), str(fresh), **{**SMALL, "thumbnails": 3}, shard_samples=3, workers=1))
    assert hashes(out) == hashes(fresh)


def test_a_lost_shard_is_made_again(shards, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(shards, copy)
    lost = sorted(copy.glob("shard_*"))[1]
    lost.unlink()
    build_shards(BuildConfig("procedural", str(copy), **SHAPES))
    assert lost.is_file() and hashes(copy) == hashes(shards)
    times = json.loads((copy / "throughput.json").read_text())
    assert times["grid"]["samples"] == 10, "the others are taken over"


def test_a_file_that_changes_while_a_build_is_interrupted_is_done_again(tmp_path, monkeypatch):
    from maquette_data3d.building import build

    boxes(tmp_path / "in", {"a": (1, 1, 1), "b": (1, 2, 1)})
    config = BuildConfig(str(tmp_path / "in"), str(tmp_path / "out"), **SMALL, engine="serial")
    with monkeypatch.context() as broken:
        broken.setattr(build, "write_all", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build_shards(config)
    boxes(tmp_path / "in", {"b": (1, 5, 1)})
    build_shards(config)
    build_shards(BuildConfig(str(tmp_path / "in"), str(tmp_path / "fresh"), **SMALL, engine="serial"))
    assert hashes(tmp_path / "out") == hashes(tmp_path / "fresh")


def test_copies_and_near_copies_are_found_and_stay_on_one_side(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    shape = trimesh.util.concatenate(
        [trimesh.creation.box((1, 1, 1)), trimesh.creation.icosphere(2, 0.4).apply_translation((0.9, 0.3, 0.2))]
    )
    turned = shape.copy().apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, (0, 1, 0)))
    shuffled = trimesh.Trimesh(shape.vertices, shape.faces[::-1], process=False)
    other = trimesh.creation.cylinder(0.2, 3)
    meshes = {"a": shape, "b": shuffled, "c": shape.subdivide(), "d": turned, "e": other}
    for name, mesh in meshes.items():
        (folder / f"{name}.ply").write_bytes(mesh.export(file_type="ply"))
    report = build_shards(BuildConfig(str(folder), str(tmp_path / "out"), **SMALL, held_out=0.5, engine="serial"))
    reader = ShardReader(tmp_path / "out")
    assert (report.kept, report.duplicates, report.near_duplicate_groups) == (5, 1, 1)
    assert list(reader.column("duplicate_of")) == ["", "a.ply", "", "", ""]
    assert list(reader.column("group")) == ["a.ply"] * 4 + ["e.ply"]
    sides = [reader.entry(number).split for number in range(5)]
    assert len(set(sides[:4])) == 1 and sides[4] != sides[0]
    dropped = {**SMALL, "duplicates": "drop", "near_duplicates": 1.0}
    report = build_shards(BuildConfig(str(folder), str(tmp_path / "less"), **dropped, engine="serial"))
    assert (report.kept, report.reasons) == (4, {"duplicate": 1})
    assert "a.ply" in next(report.files("quarantined"))["detail"]
    assert list(ShardReader(tmp_path / "less").column("group")) == ["a.ply", "c.ply", "d.ply", "e.ply"]


def test_filters_quarantine_with_the_figure(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "ball.ply").write_bytes(trimesh.creation.icosphere(3).export(file_type="ply"))
    (folder / "box.ply").write_bytes(trimesh.creation.box().export(file_type="ply"))
    (folder / "brick.ply").write_bytes(trimesh.creation.box((1, 2, 1)).subdivide().export(file_type="ply"))
    (folder / "plate.ply").write_bytes(trimesh.creation.box((1, 1, 0.002)).subdivide().export(file_type="ply"))
    filters = FilterConfig(min_faces=13, max_faces=1000, min_flatness=0.01)
    report = build_shards(BuildConfig(str(folder), str(tmp_path / "out"), **SMALL, filters=filters, engine="serial"))
    assert report.reasons == {"filtered": 3} and report.kept == 1
    assert {entry["file"]: entry["detail"] for entry in report.files("quarantined")} == {
        "ball.ply": "faces 1280 is more than 1000",
        "box.ply": "faces 12 is less than 13",
        "plate.ply": "flatness 0.002 is less than 0.01",
    }


def test_real_models(real_models, tmp_path):
    names = sorted(p for p in real_models.rglob("*.glb"))[::120][:12]
    (tmp_path / "in").mkdir()
    for path in names:
        (tmp_path / "in" / path.name).symlink_to(path.resolve())
    report = build_shards(
        BuildConfig(str(tmp_path / "in"), str(tmp_path / "out"), 32, points=512, workers=2, thumbnails=4)
    )
    assert report.kept + report.quarantined == report.found == len({p.name for p in names})
    assert report.kept >= 0.9 * report.found
    reader = ShardReader(tmp_path / "out")
    for number in range(len(reader)):
        assert (reader.array(number, "tsdf") < 0).mean() > 1e-3
        points = reader.array(number, "surface").astype(np.float32)
        assert np.abs(points).max() < 0.5


def test_the_share_without_an_inside_is_noted(tmp_path):
    sheet = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [1, 0, 1], [0, 0, 1.0]], [[0, 2, 1], [0, 3, 2]])
    box = trimesh.creation.box((1, 1, 1))
    for name, mesh in (("box", box), ("both", box + sheet.apply_translation([0, 2, 0]))):
        mesh.export(tmp_path / f"{name}.obj")
    build_shards(BuildConfig(str(tmp_path), str(tmp_path / "s"), **SMALL, held_out=0))
    reader = ShardReader(tmp_path / "s")
    areas = {entry.id: entry.attributes["open_area"] for entry in map(reader.entry, range(len(reader)))}
    assert areas == {"box.obj": 0.0, "both.obj": pytest.approx(1 / 7, abs=1e-3)}
