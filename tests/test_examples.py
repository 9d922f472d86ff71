"""The examples, run small and as a user runs them: what they leave; that they repeat, resume and answer mistakes."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from maquette import checkpoint
from maquette.assets import import_asset

ROOT = Path(__file__).parents[1]
SMALL = [
    "data.count=40",
    "data.resolution=32",
    "data.held_out=0.25",
    "autoencoder.train.steps=120",
    "autoencoder.train.log_every=5",
    "autoencoder.data.batch_size=4",
    "generator.train.steps=60",
    "generator.train.log_every=5",
    "generator.data.batch_size=8",
    "generator.model.width=48",
    "generator.model.depth=2",
    "generator.model.heads=2",
    "generator.model.latent_resolution=4",
    "autoencoder.model.patch=4",
    "sample.count=3",
    "sample.evaluate=8",
]


def example(folder: Path, name: str, *words: str, timeout: int = 600) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "examples" / name, *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )


def maquette(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "maquette.cli", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained")
    done = example(folder, "pretrain.py", *SMALL)
    assert done.returncode == 0, done.stderr
    return folder


def weights(run: Path) -> dict[str, torch.Tensor]:
    parts = checkpoint.read_newest(run / "checkpoints")[0].parts
    return parts[checkpoint.weights_part(parts)]


def test_pretraining_leaves_meshes_a_picture_figures_and_a_report(pretrained):
    run = pretrained / "runs" / "pretrain"
    meshes = [trimesh.load(path, force="mesh") for path in sorted((run / "samples").glob("*.glb"))]
    assert len(meshes) == 3
    for mesh in meshes:
        assert mesh.is_watertight and mesh.volume > 0
        assert np.abs(mesh.vertices).max() <= 0.5
    figures = json.loads((run / "metrics.json").read_text())
    assert {"iou", "f_score@.01", "f_score@.02", "chamfer", "normal_consistency"} <= figures["reconstruction"].keys()
    generation = figures["generation"]
    assert generation["class_accuracy"]["n"] == 8
    for name in ("class_accuracy", "diversity", "nearest_training_iou"):
        assert "real held-out shapes" in generation[name]["beside"]
    assert generation["watertight_share"]["value"] == generation["within_unit_box_share"]["value"] == 1
    assert (run / "contact_sheet.png").stat().st_size > 10_000
    report = (run / "report.html").read_text()
    assert "class accuracy" in report and "data:image/png;base64" in report and "<svg" in report
    assert "http" not in report.replace("http://www.w3.org", "").replace("https://matplotlib.org", "").replace(
        "http://purl.org", ""
    ).replace("http://creativecommons.org", "")


def test_pretraining_again_finds_everything_done(pretrained):
    before = (pretrained / "runs/pretrain/metrics.json").read_bytes()
    done = example(pretrained, "pretrain.py", *SMALL)
    assert done.returncode == 0, done.stderr
    assert "Training autoencoder" not in done.stderr and "Training generator" not in done.stderr
    assert (pretrained / "runs/pretrain/metrics.json").read_bytes() == before


def test_another_config_in_the_same_folder_is_refused(pretrained):
    done = example(pretrained, "pretrain.py", *SMALL, "generator.train.steps=61")
    assert done.returncode == 1 and "another config" in done.stderr and "Traceback" not in done.stderr


def test_the_same_seed_gives_the_same_mesh_file(pretrained):
    words = ("sample", "runs/pretrain", "--prompt", "a tall red chair", "--seed", "7", "--out")
    for name in ("one.glb", "two.glb"):
        done = maquette(pretrained, *words, name)
        assert done.returncode == 0, done.stderr
    assert (pretrained / "one.glb").read_bytes() == (pretrained / "two.glb").read_bytes()
    done = maquette(pretrained, *words, "three.obj")
    assert done.returncode == 0 and (pretrained / "three.obj").exists()


def test_the_sampling_example_writes_meshes_and_a_sheet(pretrained):
    done = example(pretrained, "sample.py", "prompts=[a red chair]", "count=2", "out=more")
    assert done.returncode == 0, done.stderr
    names = sorted(p.name for p in (pretrained / "more").iterdir())
    assert names == ["a-red-chair-0.glb", "a-red-chair-1.glb", "contact_sheet.png"]


def test_the_finetuning_example_reports_before_and_after(pretrained):
    words = ["data.count=24", "data.resolution=32", "data.held_out=0.3", "changes.train.steps=10", "samples=2"]
    done = example(pretrained, "finetune.py", *words, "evaluate=4")
    assert done.returncode == 0, done.stderr
    figures = json.loads((pretrained / "runs/finetune/metrics.json").read_text())
    assert figures["before"].keys() == figures["after"].keys() >= {"class_accuracy"}
    before, after = (weights(pretrained / "runs" / name) for name in ("pretrain/generator", "finetune/generator"))
    assert before.keys() == after.keys() and any(not torch.equal(before[k], after[k]) for k in before)


def test_a_second_run_with_the_same_seed_has_the_same_shards_losses_and_weights(pretrained, tmp_path):
    """And the second is stopped by SIGTERM in the middle of each training, and resumed."""
    for stage in ("autoencoder", "generator"):
        words = SMALL if stage == "autoencoder" else ["resume=runs/pretrain"]
        process = subprocess.Popen(
            [sys.executable, ROOT / "examples" / "pretrain.py", *words],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        curves = tmp_path / "runs/pretrain" / stage / "logs/csv/version_0/metrics.csv"
        for _ in range(2400):
            if curves.exists() or process.poll() is not None:
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=120)
        assert process.returncode == 128 + signal.SIGTERM, error
        assert "continue with resume=" in error and "Traceback" not in error
    done = example(tmp_path, "pretrain.py", "resume=runs/pretrain")
    assert done.returncode == 0, done.stderr
    one, two = pretrained / "runs/pretrain", tmp_path / "runs/pretrain"
    for shard in (one / "shards").glob("*.safetensors"):
        assert shard.read_bytes() == (two / "shards" / shard.name).read_bytes()
    for stage in ("autoencoder", "generator"):
        first, second = weights(one / stage), weights(two / stage)
        for name, tensor in first.items():
            assert torch.equal(tensor, second[name]), f"{stage}: {name}"
    for mesh in (one / "samples").iterdir():
        assert mesh.read_bytes() == (two / "samples" / mesh.name).read_bytes()
    assert json.loads((one / "metrics.json").read_text()) == json.loads((two / "metrics.json").read_text())


def test_the_serving_example_gives_the_same_bytes_for_the_same_order(pretrained):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = example(pretrained, "serve.py", f"port={port}", "prompts=[a red chair]", "out=served")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "gave the same bytes: True" in done.stdout and "succeeded 100 %" in done.stdout
    assert sorted(path.name for path in (pretrained / "served").glob("*.glb")) == ["00.glb", "first.glb"]


def test_the_texturing_example_paints_unseen_shapes(tmp_path):
    words = ["data.count=16", "data.resolution=32", "data.points=2048", "size=64", "count=2"]
    short = [
        "autoencoder.train.steps=5",
        "autoencoder.data.points=2048",
        "flow.train.steps=4",
        "flow.data.batch_size=4",
    ]
    done = example(tmp_path, "texture.py", *words, *short)
    assert done.returncode == 0, done.stderr
    painted = import_asset(tmp_path / "runs/texture/painted/01.glb").mesh
    assert painted.uv is not None and set(painted.materials[0].textures) >= {"base_color", "metallic_roughness"}
    assert (tmp_path / "runs/texture/painted.png").stat().st_size > 10_000


@pytest.mark.slow
def test_the_rigging_example_gives_a_creature_a_skin_and_clips(tmp_path):
    done = example(tmp_path, "rig.py", timeout=3000)
    assert done.returncode == 0, done.stderr
    rigged = import_asset(tmp_path / "runs/rig/rigged.glb")
    assert rigged.mesh.skin and [clip.name for clip in rigged.animations] == ["walk", "jump"]
    refused = example(tmp_path, "rig.py", f"mesh={write_box(tmp_path / 'box.glb')}")
    assert refused.returncode == 1 and "no rig found" in refused.stderr and "Traceback" not in refused.stderr


def write_box(path: Path) -> Path:
    trimesh.creation.box((0.8, 0.5, 0.6)).export(path)
    return path


@pytest.mark.slow
def test_the_distributed_example_heals_to_the_bit(tmp_path):
    done = example(tmp_path, "distributed.py", "steps=30", "kill_after=10")
    assert done.returncode == 0, done.stderr
    assert "to the bit: True" in done.stdout and "was killed by SIGKILL" in done.stderr
    assert float(re.search(r"by at most (\S+)", done.stdout)[1]) < 1e-4


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_an_example_can_be_read_in_one_go(path):
    text = path.read_text()
    assert len(text.splitlines()) < 120
    assert f"python examples/{path.name}" in text.split('"""')[1], "its first lines say how it is run"


@pytest.fixture
def odd_folders(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "chair.glb").write_text("this is no mesh")
    (tmp_path / "nan").mkdir()
    (tmp_path / "nan" / "nan.obj").write_text("v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    (tmp_path / "point").mkdir()
    (tmp_path / "point" / "point.obj").write_text("v 0 0 0\nv 0 0 0\nv 0 0 0\nf 1 2 3\n")
    return tmp_path


MISTAKES = [
    (["data.source=nowhere"], "nowhere"),
    (["data.source=empty"], "empty"),
    (["data.source=text"], "none of the 1 mesh files"),
    (["data.source=nan"], "none of the 1 mesh files"),
    (["data.source=point"], "none of the 1 mesh files"),
    (["generator.model.name=dti"], "unknown architecture 'dti'; did you mean 'dit'?"),
    (["generator.model.widht=3"], "unknown key 'widht' in model 'dit'; did you mean 'width'?"),
    (["dta.count=3"], "unknown key 'dta' in the config; did you mean 'data'?"),
    (["data.count=-1"], "count -1 is not positive"),
    (["resume=runs/none"], "runs/none"),
    (["count"], "not of the form key=value"),
]
# Every mistake in one process, which takes as long to start as they all together; each as its own command would end.
SEVERAL = """
import contextlib, io, json, sys
sys.path.insert(0, sys.argv[1])
from pretrain import main, run
answers = []
for words in json.loads(sys.argv[2]):
    with contextlib.redirect_stderr(io.StringIO()) as errors:
        answers.append([run(main, words), errors.getvalue()])
print(json.dumps(answers))
"""


def test_mistakes_are_one_line_and_leave_nothing_half_written(odd_folders):
    command = [sys.executable, "-c", SEVERAL, ROOT / "examples", json.dumps([w for w, _ in MISTAKES])]
    done = subprocess.run(command, cwd=odd_folders, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for (words, message), (status, errors) in zip(MISTAKES, json.loads(done.stdout), strict=True):
        lines = [line for line in errors.splitlines() if line.startswith("maquette:")]
        assert status == 1 and len(lines) == 1 and message in lines[0], (words, errors)
        assert "Traceback" not in errors
    assert not list(odd_folders.glob("runs/*"))


def test_a_mistake_ends_the_command_with_one_line(tmp_path):
    done = example(tmp_path, "pretrain.py", "data.count=-1")
    assert done.returncode == 1 and done.stderr.startswith("maquette: ") and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize("name", ["sample.py", "finetune.py", "serve.py"])
def test_without_a_pretrained_run_the_examples_say_what_to_do(tmp_path, name):
    done = example(tmp_path, name)
    assert done.returncode == 1 and "train one first, e.g. python examples/pretrain.py" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_real_models_go_the_whole_way(tmp_path):
    models = os.environ.get("MAQUETTE_MODELS")
    if not models:
        pytest.skip("MAQUETTE_MODELS names no folder of real models")
    done = example(tmp_path, "pretrain.py", f"data.source={models}", "data.limit=24", *SMALL[1:], "name=real")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "runs/real/shards/report.json").read_text())
    assert report["kept"] + report["quarantined"] == 24
    assert len(list((tmp_path / "runs/real/samples").glob("*.glb"))) == 3


def test_the_gallery_names_its_exhibits(tmp_path):
    done = example(tmp_path, "gallery.py", "only=[pretrian]")
    assert done.returncode == 1 and "unknown exhibit 'pretrian'; did you mean 'pretrain'?" in done.stderr
