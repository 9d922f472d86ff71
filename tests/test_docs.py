"""The documentation says what the code does: hooks, links, commands and snippets."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from maquette import hookspecs

ROOT = Path(__file__).parents[1]
OPERATIONS = sorted((ROOT / "docs" / "kernels").glob("*.md"))
PLUGINS = sorted((ROOT / "docs" / "plugins").glob("*.md"))
ALONE = sorted(
    [
        ROOT / "README.md",
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "docs" / "models").glob("*.md"),
        *(ROOT / "docs" / "tutorial").glob("*.md"),
        *(ROOT / "packages").glob("*/README.md"),
    ]
)
PAGES = [*ALONE, *OPERATIONS, *PLUGINS]
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


@pytest.mark.parametrize("page", ALONE, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_python_snippets_run(page, tmp_path):
    """All of a page's snippets run as one script, in order, in an empty folder."""
    snippets = SNIPPET.findall(page.read_text())
    if snippets:
        # A guard, because snippets may start worker processes.
        run(f"if __name__ == '__main__':\n{indented(snippets)}", tmp_path)


@pytest.mark.parametrize(("folder", "silent"), [("kernels", {"benchmarks"}), ("plugins", {"index"})])
def test_snippets_of_a_folder_run(tmp_path, folder, silent):
    """Each page's as a module of its own, all in one process, which is quick."""
    pages = {page.stem: SNIPPET.findall(page.read_text()) for page in sorted((ROOT / "docs" / folder).glob("*.md"))}
    assert {page for page, snippets in pages.items() if not snippets} == silent
    pages = {f"page_{page}": "\n".join(snippets) for page, snippets in pages.items() if snippets}
    for page, code in pages.items():
        (tmp_path / f"{page}.py").write_text(code)
    run("".join(f"    import {page}\n" for page in pages).join(["if __name__ == '__main__':\n", ""]), tmp_path)


def test_each_kind_of_plugin_has_its_page():
    assert {page.stem for page in PLUGINS} == {"index", *hookspecs.KINDS}


def indented(snippets):
    lines = "\n".join(snippets).splitlines(keepends=True)
    return "".join("    " + line if line.strip() else line for line in lines)


def run(code, folder):
    script = folder / "snippets.py"
    script.write_text(code)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, script], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


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
    for target in re.findall(r"^\s*make ([a-z-]+)", blocks, re.MULTILINE):
        assert target in targets, f"{page.name}: make {target}"


def test_troubleshooting_quotes_the_messages_of_the_code():
    """Each third-level heading is a piece of a message, as its source writes it (lines of a long one joined)."""
    source = "\n".join(path.read_text() for path in (ROOT / "packages").glob("*/src/**/*.py"))
    joined = re.sub(r'"\s*\n\s*f?"', "", source)
    headings = re.findall(r"^### (.+)$", (ROOT / "docs" / "troubleshooting.md").read_text(), re.MULTILINE)
    assert len(headings) > 20
    assert [heading for heading in headings if heading not in joined] == []


def test_the_benchmarks_page_lists_every_benchmark():
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    listed = re.findall(r"^\| \[(\w+\.py)\]\(\.\./benchmarks/\w+\.py\) \| (.+) \|$", text, re.MULTILINE)
    scripts = [path for path in sorted((ROOT / "benchmarks").glob("*.py")) if "__main__" in path.read_text()]
    assert [name for name, _ in listed] == [path.name for path in scripts]
    for (name, question), path in zip(listed, scripts, strict=True):
        said = " ".join((ast.get_docstring(ast.parse(path.read_text())) or "").split())
        assert said.startswith(question.rstrip(".")), f"{name} says of itself: {said[:150]}"
