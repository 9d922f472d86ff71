"""What is installed is none of the versions that are known to be bad, and what is declared does not allow them.

Where the data of pip-audit can be reached, `pip-audit` says more; this table holds where it cannot.
"""

import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
BAD = {
    "lightning": ("==2.6.2,==2.6.3", "GHSA-w37p-236h-pfx3: malicious uploads"),
    "torch": ("<2.6", "CVE-2025-32434: torch.load runs code despite weights_only=True"),
    "pillow": ("<10.3", "CVE-2024-28219: buffer overflow; CVE-2023-50447: code execution"),
    "trimesh": ("<5.2", "reads URIs of a glTF that lead elsewhere"),
    "starlette": ("<0.49.1", "CVE-2025-62727: Range headers take quadratic time"),
    "jinja2": ("<3.1.6", "CVE-2025-27516: escapes the sandbox"),
    "safetensors": ("<0.3", "sizes of headers were not bounded"),
    "transformers": ("<4.53", "CVE-2025-3777 and others: names of files that are not checked; slow expressions"),
    "pyyaml": ("<5.4", "CVE-2020-14343: code execution"),
    "omegaconf": ("<2.3", "no longer kept"),
    "h11": ("<0.16", "CVE-2025-43859: chunked bodies are read wrongly"),
    "python-multipart": ("<0.0.18", "CVE-2024-53981: slow on bytes before a boundary"),
    "requests": ("<2.32.4", "CVE-2024-47081: gives netrc passwords away"),
    "urllib3": ("<2.5", "CVE-2025-50181: follows redirections that it was told not to"),
    "aiohttp": ("<3.12.14", "CVE-2025-53643: requests are smuggled in"),
    "pyarrow": (">=0.14,<14.0.1", "CVE-2023-47248: code execution by a file"),
    "ray": ("<2.8.1", "CVE-2023-6019 and others: code execution by its dashboard"),
}


def bad(name, version):
    excluded = BAD.get(canonicalize_name(name), ("", ""))[0]
    specifiers = [f"=={part[2:]}" for part in excluded.split(",") if part.startswith("==")]
    if specifiers:
        return any(SpecifierSet(one).contains(version, prereleases=True) for one in specifiers)
    return bool(excluded) and SpecifierSet(excluded).contains(version, prereleases=True)


@pytest.mark.parametrize("name", BAD)
def test_no_known_bad_version_is_installed(name):
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        pytest.skip("not installed")
    assert not bad(name, version), f"{name} {version}: {BAD[name][1]}"


def test_the_table_finds_what_it_should():
    assert bad("lightning", "2.6.3") and not bad("lightning", "2.6.4")
    assert bad("Pillow", "10.2.0") and not bad("pillow", "10.3.0") and not bad("unheard-of", "1.0")


@pytest.mark.parametrize("path", sorted(ROOT.glob("packages/*/pyproject.toml")), ids=lambda path: path.parent.name)
def test_the_lowest_declared_version_is_not_bad(path):
    project = tomllib.loads(path.read_text())["project"]
    declared = [
        *project["dependencies"],
        *(one for extra in project.get("optional-dependencies", {}).values() for one in extra),
    ]
    for text in declared:
        needed = Requirement(text)
        for one in needed.specifier:
            if one.operator in (">=", "=="):
                assert not bad(needed.name, one.version), f"{text}: {BAD[canonicalize_name(needed.name)][1]}"
