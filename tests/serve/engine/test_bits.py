"""A real generator in the engine: whatever else is under way, a request and its seed give the same bits."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maquette.assets import open_pipeline
from maquette.types import Request
from maquette_serve.engine.engine import Engine
from maquette_serve.engine.job import Order
from maquette_serve.engine.scheduler import Scheduler


def loaded(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HERE = Path(__file__).parent
toy = loaded("toy_shapes", HERE.parents[1] / "models" / "toy_shapes.py")
virtual = loaded("virtual_engine", HERE / "virtual_engine.py")
SOLVERS = ("euler", "heun", "ab2", "dpmpp_2m", "unipc")
ORDERS = st.tuples(
    st.integers(0, 5),
    st.integers(0, 3),
    st.sampled_from(("a red ball", "a blue box", "")),
    st.sampled_from((1.0, 2.5)),
    st.integers(1, 5),
    st.sampled_from(SOLVERS),
    st.booleans(),
)


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory):
    toy.install()
    folder = tmp_path_factory.mktemp("runs")
    run = toy.train_flow(folder / "flow", toy.train_autoencoder(folder / "autoencoder"), steps=12)
    block = {"interval": [0.2, 0.9], "decoder": {"name": "marching_cubes", "min_component": 0.0}}
    return {name: open_pipeline(run, {**block, "sampler": {"name": name, "steps": 4}}) for name in SOLVERS}


@pytest.fixture(scope="module")
def alone(pipelines):
    known = {}

    def ask(request, solver):
        key = request.seed, request.prompt, request.guidance, request.steps, solver
        if key not in known:
            asset = pipelines[solver].batch([request])[0]
            known[key] = getattr(asset, "metadata", {}).get("latent_sha256", str(asset))
        return known[key]

    return ask


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ORDERS, min_size=1, max_size=10), st.integers(1, 9))
def test_latents_have_the_same_bits_in_any_company(pipelines, alone, orders, rows):
    clock = virtual.Clock()
    engine = Engine(pipelines, virtual.Here(), Scheduler(rows), clock=clock)
    asked = []
    for ticks, seed, prompt, guidance, steps, solver, cancelled in orders:
        for _ in range(ticks):
            clock.now += 0.1
            engine.tick()
        request = Request(prompt, seed=seed, guidance=guidance, steps=steps)
        asked.append((request, solver, virtual.Watch(clock)))
        number = engine.submit(Order(solver, request), asked[-1][2])
        if cancelled:
            engine.tick()
            engine.cancel(number)
    virtual.finish(engine)
    for request, solver, watch in asked:
        end = watch.events[-1]
        if end.kind != "cancelled":
            got = end.delivered.metadata["latent_sha256"] if end.kind == "succeeded" else end.error
            assert got == alone(request, solver)
