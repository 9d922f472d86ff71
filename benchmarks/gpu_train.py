"""What a training step of the DiT takes on this device: time, model FLOPs, share of the peak, memory.

    python benchmarks/gpu_train.py [sizes=[small,base]] [batch=8] [side=0] [steps=20] [json=FILE]
    python benchmarks/gpu_train.py layers=true          # single linear layers, bf16 against fp8, to place the filter

Every row is a whole step on random latents (forward, backward, clipping, fused AdamW) of one process, as the step
engine does it. ``plain`` is the same model with its blocks written directly in PyTorch with
scaled_dot_product_attention, the same weights and the same casts; ``ours`` are our blocks with our kernels; both eager
and compiled. A size that does not fit loses blocks, a quarter at a time, until it does. FLOPs are those of the model's
matrix products, three times the forward pass, whatever is computed again; the peak is what an H200 was measured to give
in dense bf16 products, also for the rows in fp8.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from omegaconf import OmegaConf
from plain_dit_block import PlainBlock
from torch import Tensor, nn

from maquette import plugins
from maquette.activation_checkpointing import apply_checkpointing
from maquette.compilation import apply_compile
from maquette.config import checked, load, read_words, read_yaml
from maquette.engine.randomness import drawing
from maquette.parallel.layout import Layout
from maquette.parallel.mesh import Mesh
from maquette.parallel.sharded import ShardedConfig, Zero3
from maquette.precision import Precision
from maquette.precision.fp8 import Fp8Linear, apply_fp8
from maquette_models.objectives.flow_matching import FlowMatching, FlowMatchingConfig
from maquette_models.transformer.dit import DiT

PEAK = 790e12  # FLOP/s, dense bf16, measured on an H200
CONFIGS = Path(__file__).parents[1] / "examples" / "configs"
WIDE = {"width": 2048, "heads": 16, "depth": 16, "mlp_hidden": 8192}  # of base, where fp8 is to pay


@dataclass
class BenchmarkConfig:
    """What to measure: sizes are files of examples/configs, or ``wide``; side 0 takes their latent grids."""

    sizes: list[str] = field(default_factory=lambda: ["small", "base", "wide"])
    precisions: list[str] = field(default_factory=lambda: ["bf16", "fp8"])
    compiled: list[bool] = field(default_factory=lambda: [False, True])
    backend: str = "inductor"
    checkpointing: str = "none"
    recipe: str = "rowwise"
    fp8_min_width: int = 768
    sharded: bool = False
    """Parameters under FSDP2 of one process, cast by its policy; else autocast."""
    batch: int = 8
    side: int = 0
    steps: int = 20
    warmup: int = 4
    layers: bool = False
    json: str = ""


@dataclass(frozen=True)
class Variant:
    """One row of the table."""

    size: str
    blocks: str
    precision: str
    compiled: bool


@dataclass(frozen=True)
class Row:
    """What was measured: seconds a step with the 10th and 90th percentile, FLOP/s, bytes, the last loss."""

    variant: Variant
    depth: int
    swapped: int
    seconds: float
    fast: float
    slow: float
    flops: float
    memory: int
    loss: float


def main() -> None:
    """Print the table, or the table of single layers."""
    settings: BenchmarkConfig = checked(load(BenchmarkConfig, read_words(sys.argv[1:])))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU, no figures worth keeping"
    print(f"{name}, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}, batch {settings.batch}")
    if settings.layers:
        measure_layers(settings, device)
        return
    rows = []
    print(f"{'size':>6} {'depth':>5} {'blocks':>6} {'precision':>9} {'compiled':>8} {'fp8 layers':>10} {'ms':>8} "
          f"{'p10..p90':>15} {'TFLOP/s':>8} {'MFU':>6} {'GiB':>6} {'loss':>8}")  # fmt: skip
    for variant in variants(settings):
        row = measure_as_much_as_fits(variant, settings, device)
        rows.append(row)
        print(line(row, device), flush=True)
        if settings.json:
            with open(settings.json, "w") as file:
                json.dump({"device": name, "torch": torch.__version__, "rows": [asdict(row) for row in rows]}, file)


def variants(settings: BenchmarkConfig) -> Iterator[Variant]:
    """Ours in every precision and the plain blocks in bf16, eager and compiled."""
    for size in settings.sizes:
        for compiled in settings.compiled:
            yield Variant(size, "plain", "bf16", compiled)
            for precision in settings.precisions:
                yield Variant(size, "ours", precision, compiled)


def measure_as_much_as_fits(variant: Variant, settings: BenchmarkConfig, device: torch.device) -> Row:
    """The row of a variant, with fewer blocks where the memory ends."""
    depth = sizes(variant.size, settings)["depth"]
    while True:
        try:
            return measure(variant, depth, settings, device)
        except torch.OutOfMemoryError:
            if depth == 1:
                raise
        # Outside the handler, which holds on to the frames and their tensors.
        torch.cuda.empty_cache()
        depth = max(1, depth * 3 // 4)


def sizes(name: str, settings: BenchmarkConfig) -> dict[str, Any]:
    """The model's block of a configuration, with facts that no data need give."""
    block = read_yaml(CONFIGS / f"{'base' if name == 'wide' else name}.yaml").model
    block.conditioner.update({"classes": ["chair", "mug"], "vocabulary": ["a", "red"]})
    given = {} if settings.side == 0 else {"latent_resolution": settings.side, "latent_channels": 8}
    return cast(dict[str, Any], OmegaConf.to_container(OmegaConf.merge(block, WIDE if name == "wide" else {}, given)))


def build(variant: Variant, depth: int, settings: BenchmarkConfig, device: torch.device) -> DiT:
    """The model as a run starts with it, but that its head is not zero: a row's loss tells whether blocks agree."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    model: DiT = plugins.build("architectures", {**sizes(variant.size, settings), "depth": depth}).to(device)
    for layer in (model.head, model.modulation, model.head_modulation):
        nn.init.normal_(layer.weight, std=0.02)
    return model


def transform(model: DiT, variant: Variant, precision: Precision, sharded: bool) -> int:
    """What a run does to it, in place; how many of its layers are fp8."""
    swapped = len(apply_fp8(model, precision))
    if variant.blocks == "plain":
        model.layers = nn.ModuleList(PlainBlock(block) for block in model.layers)
    apply_checkpointing(model, precision)
    apply_compile(model, precision)
    if sharded:
        Zero3(ShardedConfig()).apply(model, Mesh(Layout()), precision)
    return swapped


def measure(variant: Variant, depth: int, settings: BenchmarkConfig, device: torch.device) -> Row:
    """Time whole steps of one variant."""
    precision = Precision(
        variant.precision, recipe=settings.recipe, min_width=settings.fp8_min_width, compile=variant.compiled,
        backend=settings.backend, checkpointing=settings.checkpointing,
    )  # fmt: skip
    model = build(variant, depth, settings, device)
    batch = random_batch(model, settings.batch, device)
    flops = 3 * model.flops(batch)
    swapped = transform(model, variant, precision, settings.sharded)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    objective = FlowMatching(FlowMatchingConfig())
    last = torch.zeros(())

    def step() -> None:
        nonlocal last
        with drawing(0, range(settings.batch)), precision.context(device, sharded=settings.sharded):
            last = objective(model, batch)["loss"]
        last.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    times = sorted(timed(step, settings.warmup, settings.steps, device))
    memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    middle = statistics.median(times)
    fast, slow = times[len(times) // 10], times[len(times) * 9 // 10]
    return Row(variant, depth, swapped, middle, fast, slow, flops / middle, memory, last.item())


def random_batch(model: DiT, rows: int, device: torch.device) -> dict[str, Tensor | list[str]]:
    """Latents of noise, with classes and captions."""
    config = model.config
    latent = torch.randn(rows, config.latent_channels, *[config.latent_resolution] * 3, device=device)
    classes = torch.arange(rows, device=device) % 2
    return {"latent": latent, "class_id": classes, "caption": ["a red chair"] * rows, "position": torch.arange(rows)}


def timed(step: Callable[[], None], warmup: int, steps: int, device: torch.device) -> list[float]:
    """Seconds of each step after the warm-up, the device waited for."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    for _ in range(warmup):
        step()
    wait()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    times = []
    for _ in range(steps):
        began = time.perf_counter()
        step()
        wait()
        times.append(time.perf_counter() - began)
    return times


def line(row: Row, device: torch.device) -> str:
    """A row of the table."""
    v = row.variant
    share = f"{100 * row.flops / PEAK:.1f}%" if device.type == "cuda" else "-"
    spread = f"{1e3 * row.fast:.1f}..{1e3 * row.slow:.1f}"
    return (
        f"{v.size:>6} {row.depth:>5} {v.blocks:>6} {v.precision:>9} {v.compiled!s:>8} {row.swapped:>10} "
        f"{1e3 * row.seconds:>8.1f} {spread:>15} {row.flops / 1e12:>8.2f} {share:>6} {row.memory / 2**30:>6.1f} "
        f"{row.loss:>8.4f}"
    )


def measure_layers(settings: BenchmarkConfig, device: torch.device) -> None:
    """Forward and backward of single compiled linear layers, bf16 over fp8: above 1 where fp8 pays."""
    rows = settings.batch * (settings.side or 16) ** 3
    widths = (1024, 1536, 2048, 4096, 8192) if device.type == "cuda" else (32, 64)
    print(f"{rows} rows; {'inputs':>6} {'outputs':>7} {'bf16 ms':>8} {'fp8 ms':>8} {'ratio':>6}")
    for inputs in widths:
        for outputs in widths:
            bf16, fp8 = layer_seconds(rows, inputs, outputs, settings, device)
            print(f"{inputs:>12} {outputs:>7} {1e3 * bf16:>8.3f} {1e3 * fp8:>8.3f} {bf16 / fp8:>6.2f}", flush=True)


def layer_seconds(
    rows: int, inputs: int, outputs: int, settings: BenchmarkConfig, device: torch.device
) -> tuple[float, float]:
    """Of forward and backward, in bf16 and in fp8."""
    layer = nn.Linear(inputs, outputs, device=device, dtype=torch.bfloat16)
    x = torch.randn(rows, inputs, device=device, dtype=torch.bfloat16, requires_grad=True)
    above = torch.randn(rows, outputs, device=device, dtype=torch.bfloat16)

    def median(module: nn.Module) -> float:
        torch._dynamo.reset()
        forward = torch.compile(module.forward, fullgraph=True, backend=settings.backend)
        return statistics.median(timed(lambda: forward(x).backward(above), settings.warmup, settings.steps, device))

    return median(layer), median(Fp8Linear.of(layer, settings.recipe))


if __name__ == "__main__":
    main()
