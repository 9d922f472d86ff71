"""Hooks of mkdocs: what pages link to outside of docs/ becomes a page of the site, which is whole without a network.

Called by mkdocs (``hooks`` in mkdocs.yml): ``on_files`` adds a page for each such file, ``on_page_markdown`` turns the
links.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<=\]\()([^)#\s]+)(?=[)#])")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".sbatch": "bash", ".json": "json", ".toml": "toml"}


def outside(page: Path, target: str) -> Path | None:
    """The file outside of docs/ that a link on ``page`` leads to, relative to the repository's root; else None."""
    if "://" in target or target.startswith("mailto:"):
        return None
    found = (page.parent / target).resolve()
    if not found.is_relative_to(ROOT) or found.is_relative_to(ROOT / "docs") or not found.exists():
        return None
    return (found / "README.md" if found.is_dir() else found).relative_to(ROOT)


def place(source: Path) -> str:
    """Where the site keeps a file of the repository."""
    return f"source/{source}" if source.suffix == ".md" else f"source/{source}.md"


def on_files(files: Files, config: Any) -> Files:
    waiting = [Path(file.abs_src_path) for file in files.documentation_pages() if file.abs_src_path]
    made: set[Path] = set()
    while waiting:
        page = waiting.pop()
        for target in LINK.findall(page.read_text()):
            source = outside(page, target)
            if source is None or source in made or not (ROOT / source).exists():
                continue
            made.add(source)
            files.append(File.generated(config, place(source), content=content(source)))
            if source.suffix == ".md":
                waiting.append(ROOT / source)
    return files


def content(source: Path) -> str:
    text = (ROOT / source).read_text()
    if source.suffix == ".md":
        return text
    return f"# {source.name}\n\n`{source}`\n\n````{LANGUAGES.get(source.suffix, 'text')}\n{text}\n````\n"


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    name = page.file.src_uri
    here = ROOT / name.removeprefix("source/") if name.startswith("source/") else ROOT / "docs" / name
    if name.startswith("source/") and not here.exists():
        return markdown

    def turned(match: re.Match[str]) -> str:
        target = match.group(1)
        if "://" in target:
            return target
        source = outside(here, target)
        found = (here.parent / target).resolve()
        if source is None and name.startswith("source/") and found.is_relative_to(ROOT / "docs"):
            return os.path.relpath(found.relative_to(ROOT / "docs"), Path(name).parent)
        return target if source is None else os.path.relpath(place(source), Path(name).parent)

    return LINK.sub(turned, markdown)
