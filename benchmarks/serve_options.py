"""What the engine's shortcuts cost and bring: velocities taken over (`options: {cache: ...}`), weights stored small.

python benchmarks/serve_options.py RUN [n=6] [steps=20]

Each is compared with the same requests as they are without it: evaluations and CPU time a request, the relative
distance of the latents, and the IoU of the shapes. Fewer steps stand beside the cache, as the plain way to the same
speed.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from maquette.assets import open_pipeline
from maquette.types import Request
from maquette_models.pipelines.compact_weights import STORED, stored_bytes
from maquette_models.pipelines.text_to_3d import TextTo3D


@dataclass(frozen=True)
class Samples:
    """Latents, evaluations a request, CPU seconds a request."""

    latents: list[Tensor]
    evaluations: float
    seconds: float


def sampled(pipeline: TextTo3D, n: int, steps: int, **options: float) -> Samples:
    latents, evaluations, start = [], 0, time.process_time()
    for seed in range(n):
        prompt = ("a red chair", "a tall lamp")[seed % 2]
        flow = pipeline.flow(Request(prompt, seed=seed, steps=steps, options=options))
        while flow.done < flow.steps:
            pipeline.stage.advance([flow])
            evaluations += 1
        latents.append(flow.result)
    return Samples(latents, evaluations / n, (time.process_time() - start) / n)


def told(pipeline: TextTo3D, name: str, plain: Samples, other: Samples) -> None:
    pairs = list(zip(plain.latents, other.latents, strict=True))
    distance = sum(float((a - b).norm() / a.norm()) for a, b in pairs) / len(pairs)
    shapes = [[pipeline.fields(latent)[0] < 0 for latent in pair] for pair in pairs]
    iou = sum(float((a & b).sum() / (a | b).sum().clamp(min=1)) for a, b in shapes) / len(pairs)
    print(
        f"{name:14} {other.evaluations:5.1f} evaluations  {plain.seconds / other.seconds:5.2f} x as fast  "
        f"latents off by {distance:.4f}  IoU {iou:.3f}",
        flush=True,
    )


def main() -> None:
    run, *words = sys.argv[1:]
    given = {"n": 6, "steps": 20, **{k: int(v) for k, v in (word.split("=") for word in words)}}
    torch.set_num_threads(1)
    n, steps = given["n"], given["steps"]
    pipeline = open_pipeline(run)
    sampled(pipeline, 1, steps)  # warms up
    plain = sampled(pipeline, n, steps)
    size = stored_bytes(pipeline.model) / 1e6
    for tolerance in (0.05, 0.1, 0.2):
        told(pipeline, f"cache={tolerance}", plain, sampled(pipeline, n, steps, cache=tolerance))
    for fewer in (steps // 2, 5):
        told(pipeline, f"{fewer} steps", plain, sampled(pipeline, n, fewer))
    for kind in STORED:
        small = open_pipeline(run)
        small.use_weights(kind)
        sampled(small, 1, steps)
        told(pipeline, f"weights {kind}", plain, sampled(small, n, steps))
        print(f"{'':14} {stored_bytes(small.model) / 1e6:.1f} MB of weights, {size:.1f} as trained", flush=True)


if __name__ == "__main__":
    main()
