"""A real generator in the engine: whatever else is under way, a request and its seed give the same bits."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maquette.assets import open_pipeline
from maquette.errors import MaquetteError
from maquette.types import Request
from maquette_models.adapters.adapter_file import Adapter, write_adapter
from maquette_models.adapters.low_rank import LowRankChange, matching_layers
from maquette_models.adapters.vocabulary import NewWords
from maquette_models.samplers.euler import Euler, EulerConfig
from maquette_models.samplers.guidance import Guided
from maquette_serve.engine.engine import Engine
from maquette_serve.engine.job import Order
from maquette_serve.engine.scheduler import Scheduler
from tests.models import toy_shapes as toy
from tests.serve.engine import virtual_engine as virtual

SOLVERS = ("euler", "heun", "ab2", "dpmpp_2m", "unipc")
ORDERS = st.tuples(
    st.integers(0, 5),
    st.integers(0, 3),
    st.sampled_from(("a red ball", "a blue box", "")),
    st.sampled_from((1.0, 2.5)),
    st.integers(1, 5),
    st.sampled_from(SOLVERS),
    st.booleans(),
    st.sampled_from(({}, {}, {"cache": 0.3}, {"adapter": "one"}, {"adapter": "two:0.5", "cache": 0.1})),
)


def write_adapters(pipeline, folder):
    """Two of random values and unlike ranks, on all layers of the blocks."""
    nothing = NewWords((), (), torch.empty(0, 0), torch.empty(0, 0))
    for rank, name in ((1, "one"), (3, "two")):
        draw = torch.Generator().manual_seed(rank)
        changes = {}
        for layer in matching_layers(pipeline.model, ["layers.*"]):
            up, down = pipeline.model.get_submodule(layer).weight.shape
            ends = torch.randn(rank, down, generator=draw), 0.1 * torch.randn(up, rank, generator=draw)
            changes[layer] = LowRankChange(*ends)
        write_adapter(Adapter(pipeline.base_sha256, changes, nothing), folder / f"{name}.safetensors")


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory):
    toy.install()
    folder = tmp_path_factory.mktemp("runs")
    run = toy.train_flow(folder / "flow", toy.train_autoencoder(folder / "autoencoder"), steps=12)
    block = {"interval": [0.2, 0.9], "decoder": {"name": "marching_cubes", "min_component": 0.0}}
    opened = {name: open_pipeline(run, {**block, "sampler": {"name": name, "steps": 4}}) for name in SOLVERS}
    write_adapters(opened["euler"], folder)
    for pipeline in opened.values():
        pipeline.register_adapters(folder)
    return opened


@pytest.fixture(scope="module")
def alone(pipelines):
    known = {}

    def ask(request, solver):
        key = request.seed, request.prompt, request.guidance, request.steps, solver, *request.options.items()
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
    for ticks, seed, prompt, guidance, steps, solver, cancelled, options in orders:
        for _ in range(ticks):
            clock.now += 0.1
            engine.tick()
        request = Request(prompt, seed=seed, guidance=guidance, steps=steps, options=options)
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


def test_adapters_change_what_comes_and_leave_no_trace(pipelines):
    plain, worn = Request("a red ball", seed=1), Request("a red ball", seed=1, options={"adapter": "two"})
    before, changed, after = (
        pipelines["euler"].stage.sample(each, noise(pipelines["euler"].latent_shape)) for each in (plain, worn, plain)
    )
    assert torch.equal(before, after)
    assert not torch.allclose(before, changed)
    for name in ("three", "../one", "/etc/passwd", "one.safetensors"):
        with pytest.raises(MaquetteError, match="unknown adapter"):
            pipelines["euler"](Request("a red ball", options={"adapter": name}))


def test_a_changed_adapter_is_another_one_for_those_who_come_later(pipelines):
    stage = pipelines["euler"].stage
    path = stage.adapters.folder / "new.safetensors"
    path.write_bytes((stage.adapters.folder / "one.safetensors").read_bytes())
    request = Request("a red ball", seed=1, steps=4, options={"adapter": "new"})
    expected, flow = (
        stage.sample(request, noise(pipelines["euler"].latent_shape)),
        stage.flow(request, noise(pipelines["euler"].latent_shape)),
    )
    stage.advance([flow])
    path.write_bytes((stage.adapters.folder / "two.safetensors").read_bytes())
    later = stage.flow(request, noise(pipelines["euler"].latent_shape))
    assert flow.key != later.key
    while flow.done < flow.steps:
        stage.advance([flow])
    assert torch.equal(flow.result, expected)


def test_an_adapter_that_is_removed_meanwhile_costs_a_request_nothing(pipelines):
    pipeline = pipelines["euler"]
    path = pipeline.stage.adapters.folder / "brief.safetensors"
    path.write_bytes((path.parent / "one.safetensors").read_bytes())
    course = pipeline.course(Request("a red ball", seed=1, options={"adapter": "brief:0.5"}))
    flow = course.send(None)
    path.unlink()
    while flow.done < flow.steps:
        flow.stage.advance([flow])
    course.send(flow.result)
    call = course.send(None)
    with pytest.raises(StopIteration) as end:
        course.send(call.function(*call.arguments))
    assert end.value.value.metadata["adapter"] == "brief:0.5"


def test_adapters_beside_small_weights_are_refused_before_anything_is_changed(pipelines, tmp_path):
    run = pipelines["euler"].config.run
    small = open_pipeline(run, {"sampler": {"name": "euler", "steps": 2}})
    small.use_weights("int8")
    for ask in (lambda: small.register_adapters(tmp_path), lambda: small.wear([])):
        with pytest.raises(MaquetteError, match="leave --weights away"):
            ask()


def test_samplers_get_the_guided_field_itself_and_caches_of_their_own(pipelines):
    class Asking(Euler):
        def step(self, velocity, state, t, t_next):
            assert isinstance(velocity, Guided)
            return super().step(velocity, state, t, t_next)

    pipeline = open_pipeline(pipelines["euler"].config.run, {"sampler": {"name": "euler", "steps": 2}})
    stage, shape = pipeline.stage, pipeline.latent_shape
    expected = stage.sample(Request("a red ball"), noise(shape))
    stage.sampler = Asking(EulerConfig(steps=2))
    assert torch.equal(stage.sample(Request("a red ball"), noise(shape)), expected)
    cached = stage.flow(Request("a red ball", options={"cache": 0.1}), noise(shape))
    assert cached.key != stage.flow(Request("a red ball"), noise(shape)).key


def noise(shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))
