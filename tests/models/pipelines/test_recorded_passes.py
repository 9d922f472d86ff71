"""Recorded passes have the bits of passes as ever, whatever is asked for in between; adapters are never recorded.

There is no GPU here: `on_the_cpu` records what a CPU is asked to do, as a CUDA graph does, and repeats that in place.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from maquette_models.adapters import low_rank
from maquette_models.adapters.low_rank import LowRankChange
from maquette_models.pipelines.exact_batches import ExactBatches
from maquette_models.pipelines.recorded_passes import CudaGraphs, RecordedPasses
from tests.models.pipelines.tiny_dit import inputs, model


class Tape(TorchDispatchMode):
    """Notes each operation with the tensors that it wrote to; waiting for a value is an error, as in a CUDA graph."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if not all(isinstance(value, torch.Tensor) for value in tree_leaves(out)):
            raise RuntimeError("operation not permitted when stream is capturing")
        self.calls.append((function, args, kwargs or {}, out))
        return out

    def repeat(self):
        for function, args, kwargs, out in self.calls:
            for old, new in zip(tree_leaves(out), tree_leaves(function(*args, **kwargs)), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


def on_the_cpu(run):
    with Tape() as tape:
        output = run()
    return output, tape.repeat


def rows(made, count, seed):
    x, t, condition = inputs(made, count)
    return x + seed, t * (1 + seed % 3) / 3, condition


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 5)), min_size=1, max_size=8))
@torch.inference_mode()
def test_bits_are_those_of_passes_that_are_not_recorded(asked):
    made = model()
    recorded = RecordedPasses(made, on_the_cpu, most=2)
    kept = []
    for count, seed in asked:
        x, t, condition = rows(made, count, seed)
        kept.append((recorded(x, t, condition), made(x, t, condition)))
    for got, expected in kept:  # the memory of a recording is written again, what was given out stays
        assert torch.equal(got, expected)


@torch.inference_mode()
def test_a_pass_is_recorded_at_the_second_time_and_the_last_ones_are_kept():
    made, taken = model(), []
    recorded = RecordedPasses(made, lambda run: taken.append(1) or on_the_cpu(run), most=2)
    for count, recordings in ((1, 0), (1, 1), (1, 1), (2, 1), (2, 2), (3, 2), (2, 2), (1, 2), (1, 3)):
        recorded(*rows(made, count, 0))
        assert len(taken) == recordings, count


@torch.inference_mode()
def test_a_model_that_wears_an_adapter_is_not_repeated_without_it():
    made = model()
    recorded = RecordedPasses(made, on_the_cpu)
    one = rows(made, 2, 1)
    for _ in range(2):
        plain = recorded(*one)
    layer = made.layers[0].attention.to_query
    change = LowRankChange(torch.ones(2, layer.in_features), torch.ones(layer.out_features, 2))
    low_rank.attach(made, {"layers.0.attention.to_query": [change]})
    worn = recorded(*one)
    assert torch.equal(worn, made(*one))
    assert not torch.equal(worn, plain)
    low_rank.detach(made)
    assert torch.equal(recorded(*one), plain)


@torch.inference_mode()
def test_what_waits_for_the_device_is_told_once_and_made_as_ever(caplog):
    made = model()

    class Waiting(torch.nn.Module):
        def forward(self, x, t, condition):
            return made(x, t, condition) * (1 if t.sum() > 0 else 2)

    recorded = RecordedPasses(Waiting(), on_the_cpu)
    one = rows(made, 2, 0)
    for _ in range(4):
        assert torch.equal(recorded(*one), made(*one))
    assert [record.getMessage() for record in caplog.records] == [
        "passes of 2 rows are not recorded: operation not permitted when stream is capturing"
    ]


@torch.inference_mode()
def test_batches_keep_the_bits_of_rows_when_their_passes_are_recorded():
    made = model()
    batched, plain = ExactBatches(made, precision="bf16"), ExactBatches(made, precision="bf16")
    batched.record(on_the_cpu)
    for count in (5, 1, 5, 7, 1, 5):
        assert torch.equal(batched(*rows(made, count, count)), plain(*rows(made, count, count)))


@pytest.mark.gpu
@torch.inference_mode()
def test_cuda_graphs_have_the_bits_of_passes_as_ever():
    made = model().to("cuda")
    recorded = RecordedPasses(made, CudaGraphs())
    for count, seed in ((1, 0), (2, 1), (1, 2), (1, 3), (2, 4), (2, 5)):
        x, t, condition = rows(model(), count, seed)
        one = x.cuda(), t.cuda(), {key: value.cuda() for key, value in condition.items()}
        assert torch.equal(recorded(*one), made(*one))
    assert sum(known.repeat is not None for known in recorded._known.values()) == 2
