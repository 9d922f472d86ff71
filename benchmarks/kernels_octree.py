"""Octree decoding against sampling the dense grid: points asked for, whether the mesh is the same, and time.

``python benchmarks/kernels_octree.py [--resolution 256] [--coarse 32] [--rounds 3]``. The fields are a ball and a
bumpy one, computed in double precision so that a point has the same value in any company, and a small network with
random weights on top of the ball, as decoders of latent fields are.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from interleaved import measure, ratio_line
from torch import Tensor

from maquette_kernels.surface import functions
from maquette_kernels.surface.octree import OctreeOptions, lattice_points, octree_decode

Field = Callable[[Tensor], Tensor]
CHUNK = 262144


def ball(points: Tensor) -> Tensor:
    """Signed distance from a ball."""
    return ((points.double() - torch.tensor([0.03, -0.02, 0.01])).square().sum(1).sqrt() - 0.37).float()


def bumpy(points: Tensor) -> Tensor:
    """The ball with bumps; it changes by up to 1.5 a unit."""
    return ball(points) + (0.02 * torch.sin(15 * points.double()).prod(1)).float()


def network(width: int = 64) -> Field:
    """A field that costs what decoders cost: two layers on each point."""
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(3, width, generator=generator) * 3
    second = torch.randn(width, width, generator=generator) / width**0.5
    last = torch.randn(width, generator=generator) * 0.02 / width**0.5

    def field(points: Tensor) -> Tensor:
        return ball(points) + torch.sin(torch.sin(points @ first) @ second) @ last

    return field


def dense(field: Field, resolution: int) -> tuple[Tensor, Tensor]:
    """Marching cubes over every sample."""
    side = resolution + 1
    coords = torch.stack(torch.unravel_index(torch.arange(side**3), (side,) * 3), 1)
    values = torch.cat([field(lattice_points(part, resolution, (-0.5, 0.5))) for part in coords.split(CHUNK)])
    vertices, faces = functions.marching_cubes(values.view(side, side, side))
    return -0.5 + vertices / resolution, faces


def main() -> None:
    """Print two lines for each field and way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--coarse", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    size, coarse = options.resolution, options.coarse
    for name, field, steepest in (("ball", ball, 1.0), ("bumpy", bumpy, 1.5), ("network", network(), None)):
        whole = dense(field, size)
        for constant in dict.fromkeys((None, steepest)):
            way = OctreeOptions(lipschitz=constant, chunk=CHUNK)
            vertices, faces, asked = octree_decode(field, size, coarse, options=way)
            same = torch.equal(faces, whole[1]) and torch.equal(vertices, whole[0])
            near = len(vertices) == len(whole[0]) and bool((vertices - whole[0]).abs().max() < 1e-4)
            verdict = (
                "bit for bit the dense mesh" if same else "the dense mesh up to rounding" if near else "ANOTHER MESH"
            )
            share = 100 * asked / (size + 1) ** 3
            print(f"{name} {size}^3, lipschitz {constant}: {asked} points, {share:.2f} %, {verdict}")
            contestants = {
                "dense": lambda f=field: dense(f, size),
                "octree": lambda f=field, w=way: octree_decode(f, size, coarse, options=w),
            }
            print("  " + ratio_line(measure(contestants, options.rounds, warmup=0), "dense", "octree"))


if __name__ == "__main__":
    main()
