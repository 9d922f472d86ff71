"""`maquette sample` with a pipeline and an exporter out of a loose-file plugin: serve needs no model of ours."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from maquette.errors import MaquetteError
from maquette.types import Request

PLUGIN = '''
from dataclasses import dataclass
import numpy as np
from maquette import MaquetteError, hookimpl
from maquette.types import Asset, Mesh

@dataclass
class TetraConfig:
    """Where the run is and how large to make it."""
    run: str = ""
    size: float = 0.5

class Tetra:
    """A tetrahedron whose first corner depends on the seed."""
    def __init__(self, config):
        self.config = config
    def __call__(self, request):
        corner = np.random.default_rng(request.seed).random(3) * self.config.size
        vertices = np.array([corner, [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
        faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
        unknown = [word for word in request.prompt.split() if word == "blorb"]
        if request.images:
            corner = np.concatenate(request.images).mean(axis=(0, 1))[[0, 1, 3]] / 255
            vertices[0] = corner
        return Asset(Mesh(vertices, faces), {"prompt": request.prompt, "unknown_words": unknown})
    def batch(self, requests):
        return [MaquetteError("it came out empty") if r.prompt == "nothing" else self(r) for r in requests]

@dataclass
class RawConfig:
    """Nothing to say."""

class Raw:
    """Writes the vertices as they are."""
    def __init__(self, config):
        pass
    def __call__(self, asset, path):
        path.write_bytes(asset.mesh.vertices.tobytes())

@hookimpl
def register_pipelines(register):
    register("tetra", TetraConfig, Tetra)

@hookimpl
def register_exporters(register):
    register(".raw", RawConfig, Raw)
'''


@pytest.fixture
def run(tmp_path):
    """A folder that looks like a trained run with a pipeline of the plugin."""
    (tmp_path / "tetra_plugin.py").write_text(PLUGIN)
    folder = tmp_path / "pretrained" / "generator"
    folder.mkdir(parents=True)
    blocks = "data: {name: x}\nmodel: {name: y}\nobjective: {name: z}\n"
    (folder / "config.yaml").write_text(
        f"name: g\nplugins: [{tmp_path / 'tetra_plugin.py'}]\n{blocks}pipeline: {{name: tetra}}\n"
    )
    return folder


def sample(run, *words):
    plugin = run.parents[1] / "tetra_plugin.py"
    command = [sys.executable, "-m", "maquette.cli", "--plugin", plugin, "sample", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_prompt_gives_a_file_and_the_same_seed_the_same_one(run, tmp_path):
    for name, seed in (("a", "7"), ("b", "7"), ("c", "8")):
        done = sample(run, run.parent, "--prompt", "a chair", "--seed", seed, "--out", tmp_path / "out" / f"{name}.raw")
        assert done.returncode == 0, done.stderr
        assert "4 faces" in done.stdout
    a, b, c = ((tmp_path / "out" / f"{name}.raw").read_bytes() for name in "abc")
    assert a == b != c
    assert np.frombuffer(a, np.float32).shape == (12,)


def test_pictures_are_read_with_their_transparency(run, tmp_path):
    red = np.zeros((4, 6, 4), np.uint8)
    red[:, :3] = (255, 0, 0, 255)
    Image.fromarray(red).save(tmp_path / "red.png")
    Image.new("RGB", (6, 4), (0, 255, 0)).save(tmp_path / "green.jpg", quality=100)
    out = tmp_path / "x.raw"
    done = sample(run, run, "--image", tmp_path / "red.png", "--image", tmp_path / "green.jpg", "--out", out)
    assert done.returncode == 0 and "red.png, green.jpg" in done.stdout, done.stderr
    first = np.frombuffer(out.read_bytes(), np.float32)[:3]
    np.testing.assert_allclose(first, [0.25, 0.5, 0.75], atol=0.01)


def test_several_prompts_and_seeds_are_numbered(run, tmp_path):
    out = tmp_path / "out" / "x.raw"
    done = sample(run, run, "--prompt", "one", "--prompt", "two", "--count", "2", "--out", out, "size=0.1")
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in out.parent.iterdir()) == [f"x_{i:02d}.raw" for i in range(4)]


def test_one_request_that_fails_harms_no_other(run, tmp_path):
    out = tmp_path / "out" / "x.raw"
    done = sample(run, run, "--prompt", "one", "--prompt", "nothing", "--prompt", "two", "--out", out)
    assert done.returncode == 1 and "it came out empty" in done.stderr and "1 of 3 could not be made" in done.stderr
    assert sorted(p.name for p in out.parent.iterdir()) == ["x_00.raw", "x_02.raw"]


def test_words_the_model_never_saw_are_named(run, tmp_path):
    done = sample(run, run, "--prompt", "a blorb", "--out", tmp_path / "x.raw")
    assert done.returncode == 0 and "never saw: blorb" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere", "--prompt", "x", "--out", "x.raw"], "run 'nowhere' does not exist"),
        (["RUN", "--prompt", "x", "--out", "x.rwa"], "unknown file format '.rwa'; did you mean '.raw'?"),
        (["RUN", "--out", "x.raw"], "nothing to make"),
        (["RUN", "--prompt", "x", "--out", "x.raw", "sise=3"], "unknown key 'sise' in pipeline 'tetra'"),
        (["RUN", "--prompt", "x", "--seed", "many", "--out", "x.raw"], "'many' is not a valid integer"),
        (["EMPTY", "--prompt", "x", "--out", "x.raw"], "no run that can generate"),
        (["RUN", "--image", "none.png", "--out", "x.raw"], "picture 'none.png' does not exist"),
        (["RUN", "--image", "PLUGIN", "--out", "x.raw"], "cannot be read as a picture"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(run, tmp_path, words, message):
    (tmp_path / "empty").mkdir()
    places = {
        "RUN": run,
        "EMPTY": tmp_path / "empty",
        "PLUGIN": tmp_path / "tetra_plugin.py",
        "x.raw": tmp_path / "out" / "x.raw",
        "x.rwa": tmp_path / "out" / "x.rwa",
    }
    done = sample(run, *(places.get(word, word) for word in words))
    assert done.returncode != 0 and message in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_engine_answers_in_order_whatever_the_batch_size(run):
    from maquette_serve.generator import Generator

    requests = [Request(prompt=str(i), seed=i) for i in range(5)]
    runs = [
        [asset.metadata["prompt"] for asset in Generator(run, batch_size=size).generate(requests)] for size in (1, 2, 8)
    ]
    assert runs[0] == runs[1] == runs[2] == list("01234")
    with pytest.raises(MaquetteError, match="batch_size is 0"):
        Generator(run, batch_size=0)
