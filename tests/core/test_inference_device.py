"""Where runs are opened: what is found, what is said of what is not there, and how values get there."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from maquette.errors import MaquetteError
from maquette.inference_device import VARIABLE, inference_device, moved
from maquette.testing import on_stand_in_device

META = torch.device("meta")


class Pair(NamedTuple):
    one: Tensor
    other: Tensor | None


@dataclass(frozen=True)
class Thing:
    pair: Pair
    name: str


def gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)


@pytest.mark.parametrize(("named", "count", "expected"), [
    ("", 0, "cpu"), ("auto", 2, "cuda:0"), ("cpu", 2, "cpu"), ("cuda", 1, "cuda"), ("cuda:1", 2, "cuda:1"),
])  # fmt: skip
def test_device_is_the_one_named_or_the_best_there_is(named, count, expected, monkeypatch):
    gpus(monkeypatch, count)
    monkeypatch.setenv(VARIABLE, named)
    assert str(inference_device()) == expected


@pytest.mark.parametrize(("named", "count", "says"), [
    ("cuda", 0, "has no GPU"), ("cuda:2", 2, "has 2 GPUs"), ("gpu", 1, "compute on cpu, cuda"),
    ("meta", 0, "compute on cpu, cuda"), ("mps", 0, "compute on cpu, cuda"), ("cuda:-1", 1, "compute on cpu, cuda"),
])  # fmt: skip
def test_a_device_that_is_not_there_is_said(named, count, says, monkeypatch):
    gpus(monkeypatch, count)
    monkeypatch.setenv(VARIABLE, named)
    with pytest.raises(MaquetteError, match=f"the device is '{named}' by MAQUETTE_DEVICE or --device.*{says}"):
        inference_device()


def test_values_are_moved_whole():
    thing = Thing(Pair(torch.zeros(2), None), "a")
    there = moved({"things": [thing, (torch.ones(1), 3)]}, META)
    first, second = there["things"]
    assert first.name == "a" and first.pair.one.device == META and first.pair.other is None
    assert isinstance(first.pair, Pair) and second[0].device == META and second[1] == 3
    assert thing.pair.one.device.type == "cpu"


def mixed() -> list[float]:
    device = inference_device()
    there = torch.arange(4.0, device=device)
    assert (there * 2).cpu().tolist() == [0.0, 2.0, 4.0, 6.0]
    assert float(there.sum()) == 6 and torch.tensor([1.0], device=device).device.type == device.type
    with pytest.raises(RuntimeError, match="two devices"):
        there + torch.ones(4)
    with pytest.raises(RuntimeError, match="two devices"):
        torch.cat([there, torch.ones(1)])
    with pytest.raises(TypeError, match="numpy"):
        there.numpy()
    there[1:3] = torch.zeros(2)
    there[torch.tensor([0])] = 5.0
    return there.tolist()


def test_the_stand_in_refuses_what_a_gpu_would():
    found, computations = on_stand_in_device(mixed)
    assert found == [5.0, 0.0, 0.0, 3.0] and computations > 3


def test_this_process_never_hears_of_the_stand_in():
    """What looks for accelerators, such as recomputed blocks, would find one that is none."""
    assert on_stand_in_device(torch._C._get_privateuse1_backend_name)[0] == "standin"
    assert torch._C._get_privateuse1_backend_name() != "standin"


def test_what_fails_on_the_stand_in_says_so():
    with pytest.raises(AssertionError, match=r"(?s)ZeroDivisionError"):
        on_stand_in_device(lambda: 1 // 0)
    with pytest.raises(AssertionError, match="died"):
        on_stand_in_device(lambda: os._exit(3))
    with pytest.raises(AssertionError, match="within"):
        on_stand_in_device(lambda: time.sleep(60), patience=0.5)
