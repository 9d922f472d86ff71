"""What `maquette plan` says is what a run then needs, and what cannot be is refused in one line."""

from __future__ import annotations

import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.tensor import DTensor

from maquette import plugins
from maquette.accelerators import accelerator, recognise
from maquette.config import load_run_config, resolve_block
from maquette.errors import MaquetteError
from maquette.parallel.layout import Layout
from maquette.parallel.parallelism import Parallelism
from maquette.planning.example import fields_from_words, fields_of, make_batch
from maquette.planning.fp8_gain import fp8_speedup
from maquette.planning.memory_timeline import GRADIENT, WORKING, MemoryTimeline
from maquette.planning.plan import make_plan
from maquette.planning.rehearsal import Script, Weight, rehearse
from maquette.planning.shares import Division, local_numel
from maquette.precision import Precision
from maquette.testing import TinyObjective, TinyTransformer, run_ranks, tiny_batch
from tests.core import planning_runs
from tests.core.planning_runs import measured_peak, planned, run_config

MODEL = {"name": "planned_tiny", "width": 64}


def rows(count):
    return {"name": "planned_tiny", "batch_size": count}


@pytest.mark.parametrize(
    "train",
    [{}, {"precision": "bf16"}, {"activation_checkpointing": "full"}, {"accumulate": 2, "ema_decays": [0.9, 0.99]}],
    ids=["fp32", "bf16", "checkpointed", "accumulated"],
)
def test_peak_of_one_process_is_what_the_allocator_measures(train):
    run = {"model": MODEL, "data": rows(8), "train": train}
    assert planned(**run).memory.peak == pytest.approx(measured_peak(run), rel=0.1)


@pytest.mark.parametrize(
    "run",
    [
        {"strategy": {"name": "ddp"}},
        {"strategy": {"name": "fsdp"}},
        {"strategy": {"name": "fsdp"}, "train": {"precision": "bf16"}},
        {"strategy": {"name": "zero2"}},
    ],
    ids=["ddp", "fsdp", "fsdp-bf16", "zero2"],
)
def test_peak_of_two_processes_is_what_the_allocator_measures(run):
    run = {**run, "model": MODEL, "data": rows(16)}
    peak = planned(2, **run).memory.peak
    for measured in run_ranks(planning_runs.measured_peak, 2, run):
        assert peak == pytest.approx(measured, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [{"tensor": 2}, {"context": 2}], ids=["fsdp-tensor", "fsdp-context"])
def test_peak_of_split_tokens_is_estimated(parallel):
    run = {"strategy": {"name": "fsdp"}, "parallel": parallel, "model": MODEL, "data": rows(16)}
    peak = planned(4, **run).memory.peak
    for measured in run_ranks(planning_runs.measured_peak, 4, run):
        assert peak == pytest.approx(measured, rel=0.2)


@pytest.mark.parametrize(
    ("strategy", "parallel"),
    [("fsdp", {}), ("fsdp", {"tensor": 2}), ("hsdp", {"shard": 4}), ("ddp", {"tensor": 4}), ("zero1", {"context": 2})],
)
def test_weights_of_a_process_are_counted_exactly(strategy, parallel):
    node = run_config(strategy={"name": strategy}, parallel=parallel, model={"name": "planned_tiny", "width": 20})
    plan = planned(8, strategy={"name": strategy}, parallel=parallel, model={"name": "planned_tiny", "width": 20},
                   data=rows(8))  # fmt: skip
    own = plugins.build("strategies", resolve_block(node, "strategy"))
    settings = planning_runs.settings_of(node)
    parallelism = Parallelism(settings.parallel, own, Precision(), backend="fake", world=8)
    try:
        (part,) = parallelism.build(
            lambda: planning_runs.build_tiny(planning_runs.TinyConfig(width=20)), lambda m: None
        )
        local = [p.to_local() if isinstance(p, DTensor) else p for p in part.parameters()]
    finally:
        parallelism.mesh.stop()
    assert plan.memory.parameters == sum(t.numel() * t.element_size() for t in local)


def test_rehearsal_sees_what_the_real_step_computes_and_keeps():
    def build():
        return TinyTransformer(width=32, tokens=16)

    seen = rehearse(
        Script(
            build=build,
            objective=TinyObjective(),
            batch=lambda: {"x": torch.zeros(4, 16, 6)},
            optimizer=lambda model: torch.optim.AdamW(model.parameters()),
        )
    )
    model = build()
    assert {w.name: w.shape for w in seen.weights} == {n: tuple(p.shape) for n, p in model.named_parameters()}
    assert seen.stream == 4 * 16 * 32 * 4
    assert seen.block_attention == 3 * seen.stream
    # Both moments in fp32 and a step counter.
    assert seen.slots["embed.weight"] == 2 * model.embed.weight.nbytes + 4
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        TinyObjective()(model, tiny_batch(4, 16))
    assert seen.flops == counter.get_total_flops() > 0


def test_activation_checkpointing_lowers_activations_only():
    whole = planned(model=MODEL, data=rows(8))
    checked = planned(model=MODEL, data=rows(8), train={"activation_checkpointing": "full"})
    assert checked.memory.activations < 0.2 * whole.memory.activations
    assert (checked.memory.parameters, checked.flops) == (whole.memory.parameters, whole.flops)


def test_accelerators_keep_no_attention_scores():
    small, large = (planned(device=name, model=MODEL, data=rows(8)).memory.activations for name in ("h200", "cpu"))
    assert small <= large


def test_pipeline_stages_share_blocks_and_hold_microbatches():
    run = {"model": {**MODEL, "depth": 8}, "data": rows(8)}
    one = planned(**run)
    two = planned(2, parallel={"pipeline": 2, "microbatches": 4}, **run)
    all_first = planned(2, parallel={"pipeline": 2, "microbatches": 4, "schedule": "gpipe"}, **run)
    assert two.memory.parameters < 0.6 * one.memory.parameters
    assert two.memory.activations == pytest.approx(one.memory.activations / 4, rel=0.1)  # 2 of 4 micro-batches, half
    assert all_first.memory.activations == pytest.approx(2 * two.memory.activations, rel=0.05)
    assert two.flops == pytest.approx(one.flops / 2, rel=0.01)


def test_traffic_is_that_of_rings():
    node = {"model": MODEL, "data": rows(8)}
    size = 4 * planned(**node).parameters
    sums = {row.axis: row.bytes for row in planned(4, strategy={"name": "ddp"}, **node).traffic}
    assert sums == {"data": 2 * 3 * size // 4}
    sharded = {row.what: row.bytes for row in planned(4, strategy={"name": "fsdp"}, **node).traffic}
    assert sharded == {"weights gathered": 2 * 3 * size // 4, "gradients scattered": 3 * size // 4}
    assert planned(**node).traffic == []
    split = planned(2, parallel={"tensor": 2}, strategy={"name": "ddp"}, **node).traffic
    assert {row.axis for row in split} == {"tensor"}


@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    shard=st.integers(1, 8),
    tensor=st.sampled_from([1, 2, 4]),
)
def test_local_parts_cover_a_weight(shape, shard, tensor):
    weight = Weight("layers.0.up.weight", tuple(shape), 0, 0)
    division = Division(Layout(shard=shard, tensor=tensor), sharded=True, tensor_plan={"layers.*.up": "colwise"})
    own = local_numel(weight, division, sharded=True)
    assert own * shard * tensor >= weight.numel
    if shape[0] % (shard * tensor) == 0:
        assert own * shard * tensor == weight.numel


def test_timeline_follows_storages_and_tells_gradients_apart():
    timeline = MemoryTimeline()
    layer = nn.Linear(64, 64, bias=False)
    timeline.watch_gradients(layer)
    with timeline:
        timeline.keep(layer.parameters())
        x = torch.ones(8, 64)
        view = x[2:]
        y = layer(x)
        assert timeline.live[WORKING] == x.nbytes + y.nbytes  # the view shares its storage
        del x, view
        y.sum().backward()
        assert timeline.live[GRADIENT] == layer.weight.nbytes
        del y
    layer.zero_grad(set_to_none=True)
    assert timeline.live[WORKING] == timeline.live[GRADIENT] == 0
    assert max(moment.gradient for moment in timeline.moments()) == layer.weight.nbytes


def test_fp8_pays_for_large_products_alone():
    assert fp8_speedup(1024, 2048, 1024) == pytest.approx(0.80, abs=0.08)  # published by torchao, on an H100
    assert fp8_speedup(4096, 8192, 16384) == pytest.approx(1.39, abs=0.08)
    assert fp8_speedup(4096, 8192, 16384, accelerator("a100")) == 0
    assert fp8_speedup(4096, 8200, 16384) == 0


def test_accelerators_are_found_by_what_drivers_call_them():
    assert recognise("NVIDIA H200").name == "h200"
    assert recognise("NVIDIA A100-SXM4-40GB").name == "a100_40"
    assert recognise("NVIDIA A100-SXM4-80GB").name == "a100"
    assert recognise("Some Card") is None
    with pytest.raises(MaquetteError, match="h200"):
        accelerator("h20")


@pytest.mark.parametrize(
    ("world", "run", "told"),
    [
        (3, {"parallel": {"tensor": 2}}, "divide"),
        (4, {"strategy": {"name": "ddp"}, "data": rows(6)}, "multiple of 4"),
        (5, {"parallel": {"tensor": 5}}, "divi|multiple"),
        (32, {"parallel": {"pipeline": 32}}, "blocks|stages|micro"),
        (2, {"data": rows(3), "parallel": {"pipeline": 2, "microbatches": 2}}, "micro"),
    ],
)
def test_impossible_runs_are_refused_in_one_line(world, run, told):
    with pytest.raises(MaquetteError, match=told) as caught:
        planned(world, **{"model": MODEL, "data": rows(8), **run})
    assert "\n" not in str(caught.value)


def test_shapes_of_samples_are_read_from_words():
    fields = fields_from_words({"latent": [7, 4, 4, 4], "class_id": "int64", "caption": "a chair"})
    assert fields.pop("class_id").tolist() == [0]
    assert fields == {"latent": ((7, 4, 4, 4), torch.float32), "caption": "a chair"}
    with pytest.raises(MaquetteError, match=r"batch\.latent"):
        fields_from_words({"latent": 3})


def test_whole_numbers_keep_their_values_where_models_look_at_them():
    fields = fields_of({"class_id": torch.tensor([-1]), "x": torch.zeros(1, 3)})
    with FakeTensorMode(allow_non_fake_inputs=True), MemoryTimeline():
        batch = make_batch(fields, 5)
        assert batch["class_id"].shape == (5,) and batch["x"].shape == (5, 3)
        assert int(batch["class_id"].max()) == -1
        assert int((batch["class_id"] + 3).sum()) == 10
        assert bool(torch.isfinite(batch["x"]).all())  # nobody knows: checks succeed


def test_the_command_prints_the_plan_and_warns_where_it_does_not_fit(tmp_path):
    from maquette.cli.planning import plan

    run_config()  # registers the parts
    words = ["data.name=planned_tiny", "data.batch_size=64", "model.name=planned_tiny", "objective.name=planned_tiny",
             "strategy.name=fsdp", "world=8", "accelerator=h100", "batch.x=[32,6]"]  # fmt: skip
    done = CliRunner().invoke(plan, words)
    assert done.exit_code == 0, done.output + repr(done.exception)
    for told in ("shard 8", "8 samples each", "peak", "weights gathered", "fits"):
        assert told in done.output
    large = CliRunner().invoke(plan, [*words, "model.width=4096", "data.batch_size=200000"])
    assert "warning: does not fit" in large.output


def test_a_plan_of_nothing_says_what_it_needs():
    with pytest.raises(MaquetteError, match=r"'data' must be given, e\.g\. maquette plan CONFIG\.yaml"):
        make_plan(load_run_config(None, []), 1, accelerator("cpu"))
