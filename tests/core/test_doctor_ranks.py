"""`maquette doctor`: products against stored answers, bit by bit, and the rank that is ill among the others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from maquette.doctor import burn_in, collectives, gate, transfers, versions
from maquette.doctor.examination import build_checks, examine
from maquette.doctor.finding import Action, Status
from maquette.doctor.machine import Machine, outliers
from maquette.errors import MaquetteError
from maquette.parallel.layout import Layout
from maquette.parallel.mesh import Mesh
from maquette.testing import FakeNvml, run_ranks
from tests.core.fake_machines import found, machine


@pytest.mark.parametrize("kind", ["float32", "ternary"])
def test_the_stored_answers_are_those_of_integers_and_never_rounded(kind):
    import numpy as np
    import torch

    a, b = burn_in.integers(kind)
    assert (np.abs(a).astype(float) @ np.abs(b).astype(float)).max() < 2**24
    bits = 8  # of bfloat16
    assert all(v == 0 or abs(v) >> max(int(abs(v)).bit_length() - bits, 0) << max(int(abs(v)).bit_length() - bits, 0)
               == abs(v) for v in np.unique(a))  # fmt: skip
    for rows in (burn_in.SIZE, burn_in.QUICK_ROWS):
        product = torch.from_numpy((a[:rows].astype(float) @ b.astype(float)).astype(np.float32))
        assert burn_in.digest(product) == burn_in.ANSWERS[kind, rows]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_one_wrong_bit_of_one_value_is_found_and_placed(precision, tmp_path, monkeypatch):
    right = burn_in.PRODUCTS[precision]

    def wrong(a, b):
        product = right(a, b)
        product[17, 5] += product[17, 5].abs() * 2**-7 + 1
        return product

    monkeypatch.setitem(burn_in.PRODUCTS, precision, wrong)
    (finding,) = found("matmul", machine(tmp_path)).values()
    assert (finding.id, finding.status, finding.action) == (f"matmul.{precision}", Status.CRITICAL, Action.DRAIN)
    assert "1 of 262144 values" in finding.evidence and "row 17, column 5" in finding.evidence


def test_the_answer_does_not_depend_on_how_sums_are_cut_up():
    import torch

    for kind in ("float32", "ternary"):
        a, b = burn_in.operands(kind)
        pieces = [a[:, at : at + 37] @ b[at : at + 37] for at in range(0, a.shape[1], 37)]
        backwards = torch.zeros(burn_in.SIZE, burn_in.SIZE)
        for piece in reversed(pieces):
            backwards += piece
        assert burn_in.digest(backwards) == burn_in.ANSWERS[kind, burn_in.SIZE]


def test_who_is_slow():
    assert outliers([10, 10, 7, 10], 0.75) == [2]
    assert outliers([10, 7], 0.75) == [1] and outliers([10, 9], 0.75) == [] and outliers([3], 0.75) == []
    ring = {(0, 1): 10.0, (1, 2): 2.0, (2, 3): 2.0, (3, 4): 10.0, (4, 0): 10.0}
    assert collectives.slow_links(ring, 0.75) == {(1, 2): 2, (2, 3): 2}
    assert collectives.slow_links({**ring, (2, 3): 10.0}, 0.75) == {(1, 2): None}


def ill_ranks(folder):
    """What three ranks find where rank 2 computes wrongly and rank 1's clock is off."""
    rank = int(os.environ["RANK"])
    right = burn_in.PRODUCTS["float32"]
    if rank == 2:
        burn_in.PRODUCTS["float32"] = lambda a, b: right(a, b) + 1
    mesh = Mesh(Layout(data=3))
    where = Machine(mesh, True, Path(folder), nvml=FakeNvml(driver_error="LIBRARY_NOT_FOUND"))
    if rank == 1:
        real = where.now
        where.now = lambda: real() + 100
    checks = build_checks({}, ["skew", "same_versions", "matmul", "collectives"])
    quick = examine(where, checks)
    where.quick = False
    speeds = examine(where, build_checks({"collectives": {"sizes_kib": [4, 64], "repeats": 2},
                                          "transfers": {"mib": 1}}, ["collectives", "transfers"]))  # fmt: skip
    try:
        gate.build_checks = lambda settings: build_checks({}, ["matmul"])
        gate.pass_gate("require", mesh, Path(folder))
        refused = ""
    except MaquetteError as error:
        refused = str(error)
    mesh.stop()
    return quick.plain(), speeds.plain(), refused


def failing_rank(folder):
    """What two ranks find where looks fail on rank 1, which also lacks a package."""
    mesh = Mesh(Layout(data=2))
    where = Machine(mesh, False, Path(folder), nvml=FakeNvml(driver_error="LIBRARY_NOT_FOUND"))
    if mesh.rank == 1:
        burn_in.PRODUCTS["bfloat16"] = lambda a, b: 1 // 0
        transfers.Transfers.measure = lambda self, machine: {}["memory"]
        whole = versions.own_versions()
        versions.own_versions = lambda: {name: v for name, v in whole.items() if name != "torch"}
    settings = {"matmul": {"seconds": 0.0}, "collectives": {"sizes_kib": [4], "repeats": 1}}
    names = ["matmul", "transfers", "same_versions", "skew", "collectives"]
    report = examine(where, build_checks(settings, names))
    mesh.stop()
    return report.plain()


def test_a_look_that_fails_on_one_rank_is_told_by_it_and_the_others_go_on(tmp_path):
    one, other = run_ranks(failing_rank, 2, str(tmp_path))
    assert one["findings"] == other["findings"]
    told = {f["id"]: (f["status"], f["subject"], f["evidence"]) for f in one["findings"]}
    assert told["matmul.check"][:2] == ("UNKNOWN", "rank 1") and "ZeroDivisionError" in told["matmul.check"][2]
    assert told["transfers.check"][:2] == ("UNKNOWN", "rank 1") and "KeyError" in told["transfers.check"][2]
    assert told["versions.ranks"][0] == "CRITICAL" and "rank 1 has torch nowhere" in told["versions.ranks"][2]
    assert told["matmul.float32"][0] == told["clock.skew"][0] == told["collective.content"][0] == "PASS"


def test_ranks_compare_and_name_the_one_that_is_ill(tmp_path):
    results = run_ranks(ill_ranks, 3, str(tmp_path))
    quick, speeds, refused = results[0]
    assert all(theirs[0]["findings"] == quick["findings"] for theirs in results)
    named = {f["id"]: f["subject"] for f in quick["findings"] if f["status"] == "CRITICAL"}
    assert named == {"clock.skew": "rank 1", "matmul.float32": "rank 2"}
    values = {f["id"]: f["value"] for f in speeds["findings"] if f["status"] != "not applicable"}
    assert values["collective.all_reduce"] > 0 and values["collective.all_gather"] > 0
    assert values["collective.links"] > 0 and values["transfer.memory"] > 0
    assert values["collective.content"] == "right"
    assert refused.startswith("doctor=require: CRITICAL matmul.float32 (rank 2)") and "action: drain" in refused
    assert {theirs[2] for theirs in results} == {refused}
