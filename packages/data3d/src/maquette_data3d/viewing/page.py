"""The page of `maquette data view`: samples of a folder of shards as one HTML file."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from maquette.durable import write_text
from maquette_data3d.viewing.pages import asset, inline, picture_data, policy
from maquette_data3d.viewing.sample import packed_sample, plain

if TYPE_CHECKING:
    from maquette_data3d.shards.reader import ShardReader


def write_page(
    reader: ShardReader, numbers: Iterable[int], out: str | Path, title: str = "Samples", *, pictures: bool = True
) -> Path:
    """Writes a page that is one file, asks nothing of the network and shows the samples in three dimensions.

    A sample takes about 0.2 MB of it; for many samples see `serve_page`.

    Args:
        reader: of the folder.
        numbers: of the samples to show, in the order of the list.
        out: the HTML file, or a folder that gets `index.html`.
        title: of the page.
        pictures: draw a thumbnail of samples whose index holds none.

    Returns:
        The file.

    Raises:
        MaquetteError: a shard is damaged.
    """
    path = Path(out)
    path = path if path.suffix.lower() in (".html", ".htm") else path / "index.html"
    numbers = [int(number) for number in numbers]
    entries = [{**listed(reader, number, draw=pictures), "place": place} for place, number in enumerate(numbers)]
    blobs = [Markup(base64.b64encode(packed_sample(reader, number)).decode()) for number in numbers]
    index = {"live": False, "total": len(reader), "entries": entries}
    write_text(path, html(title, index, blobs))
    return path


def listed(reader: ShardReader, number: int, *, draw: bool) -> dict[str, Any]:
    """A line of the list: texts, and a picture as a data URI where there is one.

    Args:
        draw: make the picture when the index holds none.
    """
    entry = reader.entry(number)
    thumbnail = entry.thumbnail
    if thumbnail is None and draw:
        thumbnail = _drawn(reader, number)
    texts = {name: plain(getattr(entry, name)) for name in ("id", "caption", "class_name", "split")}
    return {"number": number, **texts, "picture": picture_data(bytes(thumbnail)) if thumbnail else ""}


def _drawn(reader: ShardReader, number: int) -> bytes | None:
    from maquette_data3d.rendering import Surface, thumbnail
    from maquette_data3d.viewing.shapes import sample_mesh

    found = sample_mesh(reader, number)
    if found is None:
        return None
    mesh, corners, _ = found
    surface = Surface.of_mesh(mesh)
    return thumbnail(surface if corners is None else Surface(surface.vertices, surface.faces, corners))


def html(title: str, index: Mapping[str, Any], blobs: Iterable[Markup] = ()) -> str:
    """The page's text; its policy lets only its own scripts run, and only a live page ask for more, at home.

    Args:
        index: what the script reads: {"live": bool, "total": int, "entries": [...]}.
        blobs: samples in base64.
    """
    style, three, script = asset("page.css") + asset("viewer.css"), asset("three.min.js"), asset("viewer.js")
    data = json.dumps(index, allow_nan=False).replace("<", "\\u003c")
    template = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return template.from_string(asset("viewer.html.j2")).render(
        title=title,
        policy=policy([three, script], [style], connect="'self'" if index["live"] else "'none'"),
        style=inline(style),
        three=inline(three),
        script=inline(script),
        index=Markup(data),
        blobs=blobs,
    )
