"""The documentation builds as a site, without a warning, and a page of it asks no other server for anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from maquette import hookspecs, plugins
from maquette.explaining import explained

ROOT = Path(__file__).parents[1]
OURS = ("core", "kernels", "data3d", "models", "serve")
# What a browser fetches by itself; a link that a reader may click is something else.
FETCHED = re.compile(
    r'<(?:script|img|iframe|source|video)[^>]+src="(https?:)?//|<link(?![^>]+rel="canonical")[^>]+href="(https?:)?//'
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [Path(sys.executable).with_name("mkdocs"), "build", "--strict", "--quiet", "--site-dir", folder]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_no_page_fetches_anything_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 60
    for page in pages:
        assert not FETCHED.search(page.read_text()), page.relative_to(site)
    styles = "\n".join(path.read_text() for path in site.rglob("*.css"))
    assert not re.search(r"url\(['\"]?(https?:)?//", styles)


def test_files_outside_of_docs_are_pages_of_the_site(site):
    """A reader without the repository can follow every link to a config, a benchmark or an example."""
    assert "voxset_vae" in (site / "source/examples/configs/voxset_vae.yaml.html").read_text()
    assert (site / "source/benchmarks/serve_latency.py.html").exists()


def test_the_reference_shows_signatures_and_docstrings(site):
    text = (site / "api/core.html").read_text()
    for anchor in ("maquette.types.Mesh", "maquette.plugins.build", "maquette.assets.export"):
        assert f'id="{anchor}"' in text
    assert 'id="maquette_kernels.ops.sparse_conv3d"' in (site / "api/kernels.html").read_text()


@pytest.mark.parametrize("kind", [kind for kind in hookspecs.KINDS if kind not in {"kernels", "commands"}])
def test_everything_registered_is_in_the_reference_with_its_keys(site, kind):
    text = (site / f"reference/{kind}.html").read_text()
    sections = dict(re.findall(r'<h2 id="[^"]+">([^<]+)<(.*?)(?=<h2 |</article>)', text, re.DOTALL))
    for entry in (one for one in plugins.registry(kind) if one.plugin in OURS):  # other tests register toys
        for key in explained(entry).keys:
            assert f"<code>{key.name}</code>" in sections[entry.name], (entry.name, key.name)


def test_every_command_and_its_options_are_in_the_reference(site):
    text = (site / "reference/commands.html").read_text()
    for entry in (one for one in plugins.registry("commands") if one.plugin in OURS):
        assert f"Usage: maquette {entry.name}" in text
    assert "Usage: maquette checkpoint verify" in text
    assert "--replicas" in text
