"""``maquette new``: writes the skeleton of a plugin package that works as it is."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import click

from maquette import __version__
from maquette.durable import whole_folder
from maquette.errors import MaquetteError
from maquette.progress import say


@click.command()
@click.argument("name")
@click.option("--into", default=".", help="The folder to write the package's folder into.")
def new(name: str, into: str) -> None:
    """Write a package NAME with a dataset, an architecture, an objective and their tests, ready to train."""
    path = render(name, Path(into))
    say(f"wrote {path}; now: pip install -e {path} && maquette train {path / 'train.yaml'}")


def render(name: str, into: Path) -> Path:
    """Write the package's folder ``maquette-<name>``.

    Raises:
        MaquetteError: the name cannot be a module's name, or the folder exists.
    """
    word = name.removeprefix("maquette-").removeprefix("maquette_").replace("-", "_").lower()
    if not re.fullmatch(r"[a-z][a-z0-9_]*", word):
        raise MaquetteError(f"'{name}' cannot name a Python package; use letters, digits and dashes, e.g. my-shapes")
    if not into.is_dir():
        raise MaquetteError(f"folder '{into}' does not exist")
    path = into / f"maquette-{word.replace('_', '-')}"
    if path.exists():
        raise MaquetteError(f"'{path}' exists already; choose another name or remove it")
    values = {
        "word": word,
        "package": f"maquette_{word}",
        "distribution": path.name,
        "title": "".join(part.capitalize() for part in word.split("_")),
        "version": __version__,
    }
    with whole_folder(path) as temporary:
        _copy(resources.files("maquette.cli") / "template", temporary, values)
    return path


def _copy(source: resources.abc.Traversable, target: Path, values: dict[str, str]) -> None:
    for item in source.iterdir():
        name = item.name.removesuffix(".txt").replace("__package__", values["package"])
        if item.is_dir():
            (target / name).mkdir()
            _copy(item, target / name, values)
        else:
            text = item.read_text()
            for key, value in values.items():
                text = text.replace(f"<<{key}>>", value)
            (target / name).write_text(text)
