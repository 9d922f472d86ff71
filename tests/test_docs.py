"""The documentation says what the code does: hooks, links, commands and snippets."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from maquette import hookspecs

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "packages").glob("*/README.md")])
SNIPPET = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_the_hooks_page_and_the_specifications_agree():
    text = (ROOT / "docs" / "hooks.md").read_text()
    rows = re.findall(r"^\| `register_(\w+)` \| (.*?) \|", text, re.MULTILINE)
    assert [kind for kind, _ in rows] == list(hookspecs.KINDS)
    for kind, sentence in rows:
        spec = getattr(hookspecs, f"register_{kind}").__doc__
        assert sentence.strip() == re.sub(r"``", "`", spec).strip(), f"docs/hooks.md and hookspecs.py differ on {kind}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_python_snippets_run(page, tmp_path):
    """All of a page's snippets run as one script, in order, in an empty folder."""
    snippets = SNIPPET.findall(page.read_text())
    if not snippets:
        return
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    script = tmp_path / "snippets.py"
    # A file and a guard, because snippets may start worker processes.
    body = "".join("    " + line if line.strip() else line for line in "\n".join(snippets).splitlines(keepends=True))
    script.write_text(f"if __name__ == '__main__':\n{body}")
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{page.name}:\n{done.stderr[-3000:]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_exist(page):
    """Every `maquette COMMAND` and `make TARGET` that is written down is there."""
    from maquette import plugins

    commands = {entry.name for entry in plugins.registry("commands")}
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = page.read_text()
    blocks = "\n".join(re.findall(r"```(?:console|bash|sh)?\n(.*?)```", text, re.DOTALL)) + "\n".join(
        re.findall(r"^    (.*)$", text, re.MULTILINE)
    )
    for command in re.findall(r"(?:^|\s)maquette ([a-z-]+)", blocks):
        assert command in commands, f"{page.name}: maquette {command}"
    for target in re.findall(r"(?:^|\s)make ([a-z-]+)", blocks):
        assert target in targets, f"{page.name}: make {target}"
