"""What a token-set autoencoder is worth, by the number of tokens that a shape is encoded on.

    python benchmarks/models_voxset_vae.py RUN SHARDS [--tokens 64,128,256] [--points 8192]
        [--split val] [--count 100]

Held-out shapes go through the latent's mean and back: overlap on the grid, the rest between points of either.
Each figure stands beside the nearest training shape and the shards' own grid, extracted.
"""

from __future__ import annotations

import argparse

import torch

from maquette.runs import load_run
from maquette_models.evaluation.reconstruction import Points, reconstruction
from maquette_models.evaluation.training_shapes import TrainingShapes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("shards")
    parser.add_argument("--tokens", default="64,128,256")
    parser.add_argument("--points", type=int, default=8192)
    parser.add_argument("--split", default="val")
    parser.add_argument("--count", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, training = load_run(options.run).model, TrainingShapes(options.shards)
    for tokens in map(int, options.tokens.split(",")):
        model.config.tokens = tokens
        points = Points(options.points, options.points)
        made = reconstruction(model, options.shards, training, split=options.split, limit=options.count, points=points)
        print(f"{tokens} tokens")
        for name, figure in made.figures.items():
            beside = ", ".join(f"{what} {value:.4f}" for what, value in figure.beside.items())
            print(f"  {name:24} {figure.value:8.4f}  n = {figure.n}  {beside}")


if __name__ == "__main__":
    main()
