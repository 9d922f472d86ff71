"""Passes that two processes compute together are those of one to rounding, in batches of any size, always the same."""

from __future__ import annotations

import os
import time
from multiprocessing.connection import Client, Listener

import pytest
import torch

from maquette.errors import MaquetteError
from maquette.ports import free_port
from maquette.split_passes import SplitPasses
from maquette.testing import run_ranks
from maquette_models.pipelines.exact_batches import ExactBatches
from tests.models.pipelines.tiny_dit import inputs, model

ROWS = (1, 3, 5, 1)


def channel_to_the_other(path):
    if os.environ["RANK"] == "0":
        return Listener(path).accept()
    for _ in range(600):
        try:
            return Client(path)
        except (FileNotFoundError, ConnectionRefusedError):
            time.sleep(0.1)
    raise TimeoutError(path)


def asked(made):
    """Batches of a few sizes."""
    return [inputs(made, rows) for rows in ROWS]


@torch.inference_mode()
def together(path, port, precision, broken):
    """What the leader gets; None from who follows."""
    rank, made = int(os.environ["RANK"]), model()
    with channel_to_the_other(path) as channel:
        split = SplitPasses(rank, 2, port, [channel])
        batched = ExactBatches(made, precision=precision)
        batched.share(split)
        if rank:
            return split.follow()
        if broken:  # it fails in both, and they go on
            x, t, condition = inputs(made, 2)
            with pytest.raises(RuntimeError):
                batched.passes(x[:, :1], t, condition)
        return [batched(*each) for each in asked(made)] + [batched(*one_row(*inputs(made, 5)))]


def one_row(x, t, condition):
    """The third."""
    return x[2:3], t[2:3], {key: value[2:3] for key, value in condition.items()}


@pytest.mark.parametrize(("precision", "broken"), [("fp32", True), ("bf16", False)])
def test_two_processes_compute_what_one_does(tmp_path, precision, broken):
    first = run_ranks(together, 2, str(tmp_path / "a"), free_port(), precision, broken)[0]
    again = run_ranks(together, 2, str(tmp_path / "b"), free_port(), precision, False)[0]
    made = model()
    with torch.inference_mode():
        one = [ExactBatches(made, precision=precision)(*each) for each in asked(made)]
    for got, same, expected in zip(first, again, one, strict=False):
        assert torch.equal(got, same)
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5 if precision == "fp32" else 0.02)
    assert torch.equal(first[0], first[3])
    assert torch.equal(first[2][2:3], first[4])  # in whatever company


def too_many(path, port):
    with channel_to_the_other(path) as channel:
        split = SplitPasses(int(os.environ["RANK"]), 2, port, [channel])
        with pytest.raises(MaquetteError, match="1 heads do not split over"):
            split.shared(model(heads=1))


def test_a_model_that_cannot_be_split_is_refused(tmp_path):
    run_ranks(too_many, 2, str(tmp_path / "a"), free_port())
