"""bf16 and fp8 train a small DiT as well as fp32: the criterion is 2 % of the final validation loss."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from maquette.engine.randomness import drawing
from maquette.precision import Precision
from maquette.precision.fp8 import apply_fp8
from maquette_models.objectives.flow_matching import FlowMatching, FlowMatchingConfig
from maquette_models.transformer.dit import DiT, DiTConfig

ROOT = Path(__file__).parents[2]
WIDTH, ROWS, STEPS, HELD_OUT = 64, 16, 400, 256
CLASSES = [f"kind{number}" for number in range(8)]


def samples(first: int, count: int) -> dict[str, Tensor | list[str]]:
    """Latent grids [count, 4, 4, 4, 4] of eight kinds: a smooth pattern by kind, of random strength, plus noise."""
    patterns = torch.randn(len(CLASSES), 4, 2, 2, 2, generator=torch.Generator().manual_seed(0))
    patterns = nn.functional.interpolate(patterns, scale_factor=2, mode="trilinear")
    generator = torch.Generator().manual_seed(1 + first)
    kind = torch.randint(len(CLASSES), (count,), generator=generator)
    strength = 1 + 0.3 * torch.randn(count, 1, 1, 1, 1, generator=generator)
    latent = patterns[kind] * strength + 0.2 * torch.randn(count, 4, 4, 4, 4, generator=generator)
    return {
        "latent": latent,
        "class_id": kind,
        "caption": [""] * count,
        "position": torch.arange(first, first + count),
    }


def built(precision: Precision) -> DiT:
    torch.manual_seed(0)
    conditioner = {"name": "class_caption", "classes": CLASSES, "vocabulary": [], "width": WIDTH}
    config = DiTConfig(
        latent_channels=4, latent_resolution=4, patch=1, width=WIDTH, depth=4, heads=2, conditioner=conditioner
    )
    model = DiT(config)
    precision.store(model)
    apply_fp8(model, precision)
    return model


def loss(model: DiT, batch: dict, seed: int, precision: Precision) -> Tensor:
    with drawing(seed, batch["position"].tolist()), precision.context("cpu"):
        return FlowMatching(FlowMatchingConfig())(model, batch)["loss"]


def final_loss(precision: Precision) -> float:
    """Of the averaged weights on held-out samples, the same noise for every precision."""
    model = built(precision).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.99), fused=True)
    averaged = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.98), use_buffers=False
    )
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 50) * max(0.02, 1 - step / STEPS)
        loss(model, samples(ROWS * step, ROWS), 3, precision).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        averaged.update_parameters(model)
    with torch.no_grad():
        return loss(averaged.module.eval(), samples(10**6, HELD_OUT), 4, precision).item()


@pytest.mark.slow
def test_bf16_and_fp8_end_within_two_percent_of_fp32(capsys):
    words = {
        "fp32": Precision(),
        "bf16": Precision("bf16"),
        "fp8": Precision("fp8", min_width=WIDTH),
        "fp8 rowwise_with_gw_hp": Precision("fp8", min_width=WIDTH, recipe="rowwise_with_gw_hp"),
    }
    with torch.no_grad():
        start = loss(built(words["fp32"]), samples(10**6, HELD_OUT), 4, words["fp32"]).item()
    found = {word: final_loss(precision) for word, precision in words.items()}
    with capsys.disabled():
        for word, value in found.items():
            print(f"\n{word:>24}: {value:.4f} ({100 * (value / found['fp32'] - 1):+.2f} %)", end="")  # noqa: T201
    assert found["fp32"] < 0.8 * start, "the model has learned"
    for word, value in found.items():
        assert abs(value / found["fp32"] - 1) < 0.02, word
    assert len(set(found.values())) == len(found), "every word does something of its own"


def test_the_benchmark_of_training_steps_runs_and_its_plain_blocks_compute_what_ours_do(tmp_path):
    """Without a GPU at tiny sizes; the figures of a GPU are in docs/benchmarks."""
    words = ["sizes=[tiny]", "batch=2", "side=4", "steps=1", "warmup=0", "compiled=[false]", "fp8_min_width=16"]
    command = [sys.executable, ROOT / "benchmarks" / "gpu_train.py", *words, f"json={tmp_path / 'rows.json'}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    found = {(row["variant"]["blocks"], row["variant"]["precision"]): row for row in rows}
    plain, ours, fp8 = found["plain", "bf16"], found["ours", "bf16"], found["ours", "fp8"]
    assert ours["loss"] == pytest.approx(plain["loss"], rel=1e-3)
    assert fp8["loss"] == pytest.approx(ours["loss"], rel=0.02)
    assert (ours["swapped"], fp8["swapped"]) == (0, ours["depth"] * 6 + ours["depth"] // 2 * 4)
    assert min(row["flops"] for row in rows) > 0
