"""``maquette retexture``: a mesh file that has textures in, the same mesh with others out."""

from __future__ import annotations

from typing import Any

import click

from maquette_serve.commands.texture import paint, painting_options


@click.command()
@painting_options
@click.option("--force-uv", is_flag=True, help="Keep texture coordinates also where faces share texels.")
def retexture(run: str, words: tuple[str, ...], force_uv: bool, **asked: Any) -> None:
    """Paint a mesh that has textures anew with the trained RUN; shape and texture coordinates stay.

    Where its coordinates cannot be painted on, since many faces share a texel (a palette), new ones are made, which is
    said.
    """
    paint(run, words, {"keep_uv": "always" if force_uv else "auto"}, textured=True, **asked)
