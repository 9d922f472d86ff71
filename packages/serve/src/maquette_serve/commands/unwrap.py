"""``maquette unwrap``: a mesh file with texture coordinates that do not overlap."""

from __future__ import annotations

from pathlib import Path

import click

from maquette.assets import check_suffix, import_asset
from maquette.finishing import Step, finish
from maquette.progress import say
from maquette.types import Mesh
from maquette_serve.commands.finishing_steps import write_finished


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--resolution", type=click.IntRange(16, 8192), default=1024, show_default=True, help="Of the texture.")
@click.option("--padding", type=click.IntRange(0), default=4, show_default=True, help="Texels between charts.")
@click.option("--keep-uv", is_flag=True, help="Leave texture coordinates that the file has.")
@click.option("--bake/--no-bake", default=True, show_default=True, help="Bring its look over as new textures.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="FILE.glb (or .obj, .fbx, ...)")
def unwrap(  # noqa: PLR0917 - click passes by name
    file: Path, resolution: int, padding: int, keep_uv: bool, bake: bool, out: Path
) -> None:
    """Give FILE texture coordinates, each point of its surface a texel of its own, and the same look on them."""
    check_suffix(out)
    asset = import_asset(file)
    steps: list[Step] = [{"name": "unwrap", "resolution": resolution, "padding": padding, "keep": keep_uv}]
    if bake and not (keep_uv and asset.mesh.uv is not None) and _has_look(asset.mesh):
        steps.append({"name": "bake", "resolution": resolution})
    elif not keep_uv and _has_look(asset.mesh):
        say(
            "warning: colours and textures do not fit the new coordinates and are left behind (--bake brings them over)"
        )
    write_finished(finish(asset, steps), out)


def _has_look(mesh: Mesh) -> bool:
    """Whether there is more to bring over than one plain material."""
    shown = mesh.colors is not None and bool((mesh.colors != mesh.colors[:1]).any())
    return shown or len(mesh.materials) > 1 or any(material.textures for material in mesh.materials)
