"""Meshes as they came and as a run painted them, one beside the other, in one picture.

    python benchmarks/models_texturing_picture.py RUN OUT.png FILE=PROMPT ... [--size 192]

RUN has the pipeline `texture`. Each mesh is painted by its prompt, and drawn with its materials and images.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from maquette.assets import import_asset, open_pipeline
from maquette.durable import whole_file
from maquette.placement import in_unit_cube
from maquette.types import Mesh, Request
from maquette_data3d.rendering.camera import Camera
from maquette_data3d.rendering.surfaces import Surface
from maquette_data3d.rendering.views import render_views

PAPER, INK = (250, 250, 251), (52, 56, 64)
COLUMNS = 4


def drawn(mesh: Mesh, size: int) -> Image.Image:
    """A picture of a mesh as its materials show it."""
    cube = in_unit_cube(mesh)
    bare = Surface.of_mesh(cube)
    surface = Surface(
        bare.vertices, bare.faces, bare.corner_colors, cube.uv, cube.material, cube.materials, cube.images
    )
    rgb = render_views(surface, [Camera()], size * 2).rgb[0]
    picture = Image.new("RGB", (size * 2, size * 2), PAPER)
    picture.paste(Image.fromarray(rgb[..., :3]), mask=Image.fromarray(np.ascontiguousarray(rgb[..., 3])))
    return picture.resize((size, size), Image.Resampling.LANCZOS)


@click.command()
@click.argument("run")
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("pairs", nargs=-1, metavar="FILE=PROMPT ...")
@click.option("--size", default=176, show_default=True, help="Pixels a tile.")
def main(run: str, out: Path, pairs: tuple[str, ...], size: int) -> None:
    """Paint each FILE by its PROMPT, and draw it before and after."""
    pipeline = open_pipeline(run)
    line = size // 6
    rows = -(-len(pairs) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * 2 * size, rows * (size + line)), PAPER)
    write, font = ImageDraw.Draw(sheet), ImageFont.load_default(size / 14)
    for number, pair in enumerate(pairs):
        file, _, prompt = pair.partition("=")
        mesh = import_asset(Path(file)).mesh
        painted = pipeline(Request(prompt, seed=number, mesh=mesh)).mesh
        left, top = number % COLUMNS * 2 * size, number // COLUMNS * (size + line)
        sheet.paste(drawn(mesh, size), (left, top))
        sheet.paste(drawn(painted, size), (left + size, top))
        write.text((left + size, top + size), prompt, INK, font, anchor="ma")
    with whole_file(out) as temporary:
        sheet.quantize(128).save(temporary, format="PNG", optimize=True)


if __name__ == "__main__":
    sys.exit(main())
