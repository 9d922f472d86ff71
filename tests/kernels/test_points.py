"""Nearest neighbours, distances between clouds and farthest points against other libraries and closed forms."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from scipy.spatial import cKDTree
from torch.nn.functional import normalize

from maquette.errors import MaquetteError
from maquette_kernels.benchmarking import bench
from maquette_kernels.commands import kernels
from maquette_kernels.points.farthest_points import FARTHEST_POINTS
from maquette_kernels.points.farthest_points.reference import reference as obvious_farthest
from maquette_kernels.points.functions import chamfer_distance, f_score, farthest_points, nearest_neighbours
from maquette_kernels.points.nearest_neighbours import NEAREST_NEIGHBOURS
from maquette_kernels.points.nearest_neighbours.reference import reference as obvious_nearest
from maquette_kernels.resolution import fixed

ROOT = Path(__file__).parents[2]


def cloud(count, seed=0):
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("find", [nearest_neighbours, obvious_nearest])
@pytest.mark.parametrize("k", [1, 7])
def test_neighbours_are_those_of_another_library(find, k):
    queries, points = cloud(500), cloud(1500, 1)
    squared, number = find(queries, points, k)
    away, which = cKDTree(points.double().numpy()).query(queries.double().numpy(), k=[*range(1, k + 1)])
    assert torch.equal(number, torch.from_numpy(which))
    assert np.allclose(squared.sqrt(), away, rtol=1e-6, atol=0)


def test_fast_neighbours_have_the_bits_of_the_obvious_ones():
    """On points of no lattice too: the same sums in the same order, pruned by boxes rounded the same way."""
    for points in (cloud(3001), normalize(cloud(2000), dim=1), 1e-3 * cloud(700) + 100, 1e18 * cloud(300)):
        queries = points[::3] + 1e-6
        fast, obvious = nearest_neighbours(queries, points, 5), obvious_nearest(queries, points, 5)
        assert all(torch.equal(a, b) for a, b in zip(fast, obvious, strict=True))


def test_equals_come_by_number_and_oneself_is_a_neighbour():
    grid = torch.cartesian_prod(*[torch.arange(7.0)] * 3)
    points = torch.cat([grid, grid])
    squared, number = nearest_neighbours(points, points, 9)
    assert torch.equal(number, obvious_nearest(points, points, 9)[1])
    assert number[0].tolist()[:2] == [0, 343] and squared[:, :2].max() == 0


def test_a_cloud_of_one_place_is_searched_quickly():
    """As many equal points as padding leaves: each leaf is as near as the next, only numbers tell them apart."""
    number = nearest_neighbours(torch.zeros(20_000, 3), torch.zeros(20_000, 3), 3)[1]
    assert torch.equal(number, torch.tensor([0, 1, 2]).expand(20_000, 3))


def test_what_is_missing_is_infinitely_far_and_has_no_gradient():
    queries, points = cloud(2).requires_grad_(), cloud(3, 1)
    points[1] = torch.nan
    points.requires_grad_()
    squared, number = nearest_neighbours(queries, points, 4)
    assert number[:, 2:].tolist() == [[-1, -1]] * 2 and (number[:, :2] != 1).all()
    assert (squared[:, 2:] == torch.inf).all()
    squared.sum().backward()
    assert torch.allclose(queries.grad, 2 * (2 * queries - points[0] - points[2]).detach(), atol=1e-5)
    assert points.grad[1].tolist() == [0, 0, 0] and points.grad.isfinite().all()


def test_batches_find_within_each_cloud():
    queries, points = cloud(60).view(3, 20, 3), cloud(90, 1).view(3, 30, 3)
    squared, number = nearest_neighbours(queries, points, 2)
    for b in range(3):
        alone = nearest_neighbours(queries[b], points[b], 2)
        assert torch.equal(squared[b], alone[0]) and torch.equal(number[b], alone[1])
    assert torch.equal(farthest_points(points, 5)[2], farthest_points(points[2], 5))
    assert nearest_neighbours(queries.bfloat16(), points.bfloat16())[0].dtype == torch.float32


def test_distances_between_spheres():
    """Two concentric spheres, .1 apart: every distance is that, but for the spacing of the points."""
    a = normalize(cloud(20_000), dim=1)
    b = 1.1 * normalize(cloud(20_000, 1), dim=1)
    assert chamfer_distance(a, b, squared=False).item() == pytest.approx(0.2, rel=0.02)
    assert chamfer_distance(a, b).item() == pytest.approx(0.02, rel=0.04)
    assert f_score(a, b, 0.05) == 0 and f_score(a, b, 0.2) == 1
    assert f_score(a[:100], torch.cat([a[:100], b[:300]]), 1e-3).item() == pytest.approx(2 * 0.25 / 1.25)


def test_chamfer_distance_of_batches_and_of_nothing():
    a, b = cloud(12), cloud(9, 1)
    alone = [chamfer_distance(a[:5], b[:6]), chamfer_distance(a[5:], b[6:])]
    found = chamfer_distance(a, b, torch.tensor([0, 5, 5, 5, 12]), torch.tensor([0, 6, 6, 6, 9]))
    assert torch.allclose(found, torch.stack([alone[0], torch.tensor(0.0), torch.tensor(0.0), alone[1]]))
    assert chamfer_distance(a, b, torch.tensor([0, 0, 12]), torch.tensor([0, 4, 9]))[0] == torch.inf
    assert chamfer_distance(a, b[:0]) == torch.inf and chamfer_distance(a[:0], b[:0]) == 0
    assert f_score(a, b, 1.0, torch.tensor([0, 0, 12]), torch.tensor([0, 4, 9]))[0] == 0
    assert torch.allclose(chamfer_distance(a.view(2, 6, 3), a.view(2, 6, 3) + 0.01), torch.tensor([6e-4, 6e-4]))


@pytest.mark.parametrize("squared", [True, False])
def test_chamfer_distance_pulls_a_cloud_onto_another(squared):
    a, b = cloud(6).double().requires_grad_(), cloud(7, 1).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda *x: chamfer_distance(*x, squared=squared), (a, b))
    same = cloud(5).requires_grad_()
    chamfer_distance(same, same.detach(), squared=squared).backward()
    assert same.grad.abs().max() == 0


def test_each_choice_is_the_farthest():
    points = cloud(400)
    chosen = farthest_points(points, 400, start=17)
    assert chosen[0] == 17 and torch.equal(chosen.sort().values, torch.arange(400))
    away = torch.cdist(points.double(), points.double()[chosen])
    for step in range(1, 400):
        near = away[:, :step].amin(1)
        assert near[chosen[step]] >= near.max() - 1e-6


def test_fast_choices_are_the_obvious_ones():
    for points in (cloud(5000), normalize(cloud(5000), dim=1), torch.cat([cloud(2000), 1e-2 * cloud(2000, 1) + 9])):
        fast = farthest_points(points, 700, torch.tensor([0, 3000, len(points)]), 5)
        assert torch.equal(fast, obvious_farthest(points, 700, torch.tensor([0, 3000, len(points)]), 5))


def test_a_line_is_halved_again_and_again():
    line = torch.arange(9.0)[:, None] * torch.tensor([[1.0, 0, 0]])
    assert farthest_points(line, 6).tolist() == [0, 8, 4, 2, 6, 1]  # of 2 and 6 the lower, then of 1, 3, 5 and 7
    assert farthest_points(torch.zeros(3, 3), 5).tolist() == [0, 1, 2, -1, -1]


def test_threads_do_not_change_the_result():
    points, before = cloud(9000), torch.get_num_threads()
    try:
        found = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(nearest_neighbours(points, points, 3)[1])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda p: nearest_neighbours(p[:, :2], p), r"nearest_neighbours': queries must be \[N, 3\], got \(8, 2\)"),
        (lambda p: nearest_neighbours(p, p.double()), "share a dtype"),
        (lambda p: nearest_neighbours(p.long(), p), "queries must be float32 or float64, got torch.int64"),
        (lambda p: nearest_neighbours(p, p, 0), "k must be at least 1, got 0"),
        (lambda p: nearest_neighbours(p, p, 1, torch.tensor([0, 8])), "both or not at all"),
        (lambda p: nearest_neighbours(p, p, 1, torch.tensor([0, 8]), torch.tensor([0, 4, 8])), "1 clouds.* of 2"),
        (lambda p: nearest_neighbours(p, p, 1, torch.tensor([0.0]), torch.tensor([0])), r"must be int64 \[B \+ 1\]"),
        (lambda p: nearest_neighbours(p[None], p), r"or both \[B, N, 3\], got \(8, 3\)"),
        (lambda p: nearest_neighbours(p[None], p[None], 1, torch.tensor([0, 8])), "drop them or flatten"),
        (lambda p: farthest_points(p, -1), "count must not be negative, got -1"),
        (lambda p: farthest_points(p[None], 1, torch.tensor([0, 8])), "drop them or flatten"),
    ],
)
def test_mistakes_are_told(ask, told):
    with pytest.raises(MaquetteError, match=told):
        ask(cloud(8))


def test_implementations_are_chosen_and_refuse():
    call = NEAREST_NEIGHBOURS.call(cloud(8), cloud(8), 65, None, None)
    assert NEAREST_NEIGHBOURS.implementation("triton").supports(call.on("cuda")) == "k is 65; it takes at most 64"
    assert NEAREST_NEIGHBOURS.implementation("cpu").supports(call) is None
    assert FARTHEST_POINTS.implementation("cpu").supports(FARTHEST_POINTS.call(cloud(8), 2, None).on("cuda"))
    with fixed(NEAREST_NEIGHBOURS, "reference"):
        assert nearest_neighbours(cloud(2), cloud(2))[1].tolist() == [[0], [1]]


def test_bench_times_what_it_can_and_says_what_it_cannot():
    impatient = {
        t.implementation: t for t in bench(NEAREST_NEIGHBOURS, torch.device("cpu"), torch.bfloat16, 2, patience=0)
    }
    assert impatient["cpu"].seconds[1] <= impatient["cpu"].seconds[0] <= impatient["cpu"].seconds[2]
    assert impatient["cpu"].dtype == "float32" and impatient["cpu"].ratio is None
    assert "--patience" in impatient["reference"].reason and impatient["triton"].seconds is None
    if not torch.cuda.is_available():
        with pytest.raises(MaquetteError, match="no CUDA device is here"):
            bench(NEAREST_NEIGHBOURS, torch.device("cuda"), torch.float32, 1)


def test_the_bench_command():
    asked = ["bench", "gated_norm_modulate", "--rounds", "2", "--dtype", "bfloat16"]
    table = CliRunner().invoke(kernels, asked, catch_exceptions=False).output
    assert "TFLOP/s" in table and "gated_norm_modulate  bfloat16 cpu" in table
    rows = json.loads(CliRunner().invoke(kernels, [*asked, "--json"], catch_exceptions=False).output)
    assert {row["implementation"] for row in rows} == {"cpu", "reference", "triton"}
    ratio = next(row["ratio"] for row in rows if row["implementation"] == "reference")
    assert ratio == 1 and all(row["seconds"] is not None or row["reason"] for row in rows)
    assert isinstance(CliRunner().invoke(kernels, ["bench", "--device", "moon"]).exception, MaquetteError)


def test_the_gpu_benchmark_runs_small_on_a_cpu(tmp_path):
    script = ROOT / "benchmarks" / "gpu_kernels.py"
    asked = ["--tiny", "--rounds", "1", "--only", "nearest_neighbours,gated_norm_modulate", "--out", str(tmp_path)]
    done = subprocess.run([sys.executable, str(script), *asked], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "gpu_kernels.json").read_text())
    rows = {(row["operation"], row["direction"]) for row in found["rows"]}
    assert {("gated_norm_modulate", "forward"), ("gated_norm_modulate", "backward")} <= rows
    assert all(row["share"] > 0 for row in found["rows"] if row["error"] is None)
    assert found["copy_gigabytes"] > 0 and "| gated_norm_modulate |" in (tmp_path / "gpu_kernels.md").read_text()
