"""``maquette precompute``: a frozen encoder's outputs for a shard folder."""

from __future__ import annotations

from pathlib import Path

import click

from maquette.config import read_words
from maquette_models.latents.precompute import precompute


@click.command("precompute")
@click.argument("encoder")
@click.argument("shards")
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("words", nargs=-1, metavar="[key=value ...]")
@click.option(
    "--mirror/--no-mirror", default=True, show_default=True, help="Of pictures, also those of mirrored twins."
)
def precompute_command(encoder: str, shards: str, out: Path, words: tuple[str, ...], mirror: bool) -> None:
    """Run the frozen encoder of the conditioner ENCODER (clip_text, t5_text, dino_image) over SHARDS, into OUT.

    key=value words are the conditioner's own, e.g. path=FOLDER. Train with data.condition.embeddings=[OUT].
    """
    count = precompute({"name": encoder, **dict(read_words(words))}, shards, out, mirror)
    click.echo(f"{out}  {count} samples")
