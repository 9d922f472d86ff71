"""Low-poly meshes: how short their sequences are, how fast they are written, and what a trained run is worth.

    python benchmarks/models_mesh_tokens.py compression SHARDS     tokens to nine coordinates a face, by number of faces
    python benchmarks/models_mesh_tokens.py speed                  tokens a second with and without the memory
    python benchmarks/models_mesh_tokens.py rebuild RUN            training meshes given back face by face
    python benchmarks/models_mesh_tokens.py figures RUN [COUNT]    perplexity, validity, distances (200 samples)

SHARDS hold the feature `triangles`. `speed` writes with an untrained model of the size of
examples/configs/mesh_tokens.yaml, on one thread.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch

from maquette import plugins
from maquette_models.mesh_tokens.choice import Choice
from maquette_models.mesh_tokens.evaluation import evaluate_mesh_tokens, exactly_rebuilt
from maquette_models.mesh_tokens.grammar import Grammar
from maquette_models.mesh_tokens.mesh_dataset import MeshTokens, MeshTokensConfig
from maquette_models.mesh_tokens.mesh_transformer import MeshTransformer
from maquette_models.mesh_tokens.quantise import quantise
from maquette_models.mesh_tokens.writing_meshes import author, write_meshes
from maquette_models.transformer.writing_sequences import last_tokens

FACES = (100, 200, 400, 800)
SIZES = ((1, 128), (8, 128), (1, 256))  # sequences and tokens of each


def compression(shards: str) -> None:
    """A row a bound of faces: meshes, share of meshes that come back exactly, tokens to nine coordinates a face."""
    data = MeshTokens(MeshTokensConfig(shards=shards, max_faces=max(FACES)))
    data.setup()
    levels = data.tokeniser.vocabulary.levels
    rows = []
    for sample in (*data.splits["train"], *data.splits["val"]):
        faces = quantise(sample.mesh, levels)
        tokens = data.tokeniser.encode(faces).tokens
        same = np.array_equal(data.tokeniser.decode(tokens), faces)
        rows.append((len(sample.mesh.faces), len(faces), len(tokens), same))
    table = np.array(rows)
    say("faces up to   meshes   exact   of all faces   mean of meshes")
    for most in FACES:
        _, faces, tokens, same = table[table[:, 0] <= most].T
        shares = tokens.sum() / (9 * faces.sum()), (tokens / (9 * faces)).mean()
        say(f"{most:11d} {len(faces):8d} {same.mean():7.3f} {shares[0]:14.3f} {shares[1]:16.3f}")


def speed() -> None:
    """A row a number of sequences and of tokens: tokens a second of all sequences together."""
    torch.set_num_threads(1)
    conditioner = {"name": "shape", "points": 512, "tokens": 48, "anchored": True}
    model = plugins.build("architectures", {"name": "mesh_transformer", "depth": 4, "conditioner": conditioner}).eval()
    say("sequences   tokens   with memory   without     ratio   model alone, with memory")
    for rows, length in SIZES:
        condition = model.encode_condition(model.conditioner.null(rows))
        # As many faces as make an end before the bound impossible.
        grammar = Grammar(model.vocabulary, min_faces=length // 2 - 4, max_tokens=length)
        start = time.process_time()
        written = write_meshes(model, condition, range(rows), grammar, Choice())
        with_memory = sum(len(one.tokens) for one in written) / (time.process_time() - start)
        without, alone = write_without(model, condition, grammar, rows), model_alone(model, condition, rows, length)
        ratio = with_memory / without
        say(f"{rows:9d} {length:8d} {with_memory:13.0f} {without:9.0f} {ratio:9.1f} {alone:26.0f}")


@torch.inference_mode()
def write_without(model: MeshTransformer, condition: dict[str, torch.Tensor], grammar: Grammar, rows: int) -> float:
    """Tokens a second where each token takes a forward pass over all before it."""
    authors = [author(grammar, Choice(), seed) for seed in range(rows)]
    start, read = time.process_time(), [last_tokens(authors, model.vocabulary.levels)]
    while not all(one.writing.finished for one in authors):
        inputs = (torch.cat(parts, dim=1) for parts in zip(*read, strict=True))
        for one, logits in zip(authors, model(*inputs, condition)[:, -1].numpy(), strict=True):
            one.go_on(logits)
        read.append(last_tokens(authors, model.vocabulary.levels))
    return sum(len(one.tokens) for one in authors) / (time.process_time() - start)


@torch.inference_mode()
def model_alone(model: MeshTransformer, condition: dict[str, torch.Tensor], rows: int, length: int) -> float:
    """Tokens a second of the model's steps, without grammar and choice."""
    reading, inputs = model.reading(rows, length), (torch.zeros(rows, 1).long(), torch.zeros(rows, 1, 3).long())
    start = time.process_time()
    for place in range(length):
        model.step(*inputs, torch.full((rows, 1, 3), float(place)), condition, reading)
    return rows * length / (time.process_time() - start)


def figures(run: str, count: str = "200") -> None:
    """A row a figure, with what it is to be read beside."""
    for group in evaluate_mesh_tokens(run, int(count)):
        for name, figure in group.items():
            beside = ", ".join(f"{what} {value:.4g}" for what, value in figure.beside.items())
            say(f"{name:28s} {figure.value:.4g}  (n = {figure.n})  {beside}")


def rebuild(run: str) -> None:
    """The share of training meshes that come back exactly."""
    figure = exactly_rebuilt(run)
    say(f"exactly rebuilt: {figure.value:.4f} of {figure.n} training meshes")


def say(line: str) -> None:
    """Print a row at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    {"compression": compression, "speed": speed, "rebuild": rebuild, "figures": figures}[sys.argv[1]](*sys.argv[2:])
