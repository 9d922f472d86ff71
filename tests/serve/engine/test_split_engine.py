"""An engine of two processes serves what an engine of one does, and where one of the two dies both come again."""

from __future__ import annotations

import os
import signal
import time
from contextlib import closing
from pathlib import Path

import pytest
import torch

from maquette.assets import import_mesh
from maquette.errors import MaquetteError
from maquette.types import Request
from maquette_kernels.ops import nearest_neighbours
from maquette_serve.engine.engine_setup import EngineSetup, Opened
from maquette_serve.engine.job import Order
from maquette_serve.engine.replicas import LOST, Replicas
from tests.models import toy_shapes as toy
from tests.serve.engine.test_replicas import PLUGIN, Watch

TOY = toy.__file__
pytestmark = pytest.mark.slow
BLOCK = {"max_batch": 2, "decoder": {"name": "marching_cubes", "min_component": 0.0}}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    toy.install()
    folder = tmp_path_factory.mktemp("runs")
    return toy.train_flow(folder / "flow", toy.train_autoencoder(folder / "autoencoder", steps=60), steps=60)


def engine_of(run, split):
    engine = Replicas(EngineSetup({"toy": Opened(BLOCK, run)}, (TOY,), workers=1, split=split))
    engine.start(240)
    return engine


def made(engine, folder):
    """Three requests at once: what ends, and the points of each mesh, or why there is none."""
    watches = [Watch() for _ in range(3)]
    for seed, watch in enumerate(watches):
        (folder / str(seed)).mkdir(parents=True)
        request = Request("a red ball", seed=seed, steps=4)
        engine.submit(Order("toy", request, files=("model.ply",), folder=folder / str(seed)), watch)
    ends = [watch.end(240) for watch in watches]
    assert [end.kind for end in ends] == ["succeeded"] * 3, [end.error for end in ends]
    return [end.delivered.metadata["latent_sha256"] for end in ends], [
        import_mesh(folder / str(seed) / "model.ply").vertices for seed in range(3)
    ]


def followers(engine):
    """The processes that compute with the leader; its workers are idle by now, and have done no more than start."""
    (leader,) = engine.processes
    children = [int(each) for each in Path(f"/proc/{leader}/task/{leader}/children").read_text().split()]
    return [child for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def test_two_processes_make_what_one_makes_and_come_again_together(run, tmp_path):
    with closing(engine_of(run, 1)) as engine:
        _, expected = made(engine, tmp_path / "one")
    with closing(engine_of(run, 2)) as engine:
        hashes, points = made(engine, tmp_path / "two")
        for got, wanted in zip(points, expected, strict=True):
            near = nearest_neighbours(torch.from_numpy(got), torch.from_numpy(wanted), 1)[0]
            assert len(got) > 20 and near.max().sqrt() < 1e-3
        before, lost = engine.processes, Watch()
        engine.submit(Order("toy", Request("a red ball", steps=100_000)), lost)
        os.kill(followers(engine)[0], signal.SIGKILL)  # the first that was started
        assert lost.end(240).kind == LOST
        deadline = time.monotonic() + 120
        while (not engine.ready or engine.processes == before) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert made(engine, tmp_path / "again")[0] == hashes


def test_a_run_that_cannot_be_split_and_adapters_are_refused(run, tmp_path):
    for setup, why in (
        (EngineSetup({"toy": Opened(BLOCK, run)}, (TOY,), split=3), "2 heads do not split over"),
        (EngineSetup({"toy": Opened(BLOCK, run)}, (TOY,), split=2, adapters=tmp_path), "do not go together"),
        (EngineSetup({"slow": Opened({"name": "slow"})}, (PLUGIN,), split=2, adapters=tmp_path), "go together"),
        (
            EngineSetup({"slow": Opened({"name": "slow"})}, (PLUGIN,), split=2, device="cuda:0"),
            "this machine has no GPU",
        ),
    ):
        engine = Replicas(setup)
        with pytest.raises(MaquetteError, match=why):
            engine.start(240)
        engine.close()
