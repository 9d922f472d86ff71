"""The tutorial works: every command of its pages, as it stands, one page after the other in one empty folder."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs" / "tutorial").glob("[0-9]*.md"))
COMMANDS = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_each_page_has_commands_and_leads_to_the_next():
    assert len(PAGES) == 6
    for page, following in itertools.pairwise(PAGES):
        assert COMMANDS.findall(page.read_text()), page.name
        assert f"({following.name})" in page.read_text(), f"{page.name} does not lead to {following.name}"


@pytest.mark.slow
def test_every_command_of_the_tutorial_works(tmp_path):
    """One shell: a variable that one page sets is there on the next. Whatever a page starts is ended with it."""
    lines = ["set -euo pipefail", 'trap "kill 0" EXIT']
    for page in PAGES:
        lines += [f"echo == {page.name} >&2", *COMMANDS.findall(page.read_text())]
    lines.append("trap - EXIT")
    environment = {
        **os.environ,
        "MAQUETTE": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    script = tmp_path / "tutorial.sh"
    script.write_text("\n".join(lines))
    work = tmp_path / "work"
    work.mkdir()
    done = subprocess.run(
        ["bash", script], cwd=work, env=environment, capture_output=True, text=True, check=False, start_new_session=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    made = ("shards.html", "made_00.glb", "mug.stl", "print.3mf", "teapot.glb", "gold.glb", "asset.usdz", "asset.fbx")
    for name in (*made, "chair.glb"):
        assert (work / name).stat().st_size > 500, name
    assert (work / "runs/generator/evaluation/report.html").exists()
