"""What tests of several packages share; and which are left out where a package is tested alone."""

from __future__ import annotations

import ast
import functools
import importlib.util
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SIBLINGS = ("maquette_kernels", "maquette_data3d", "maquette_models", "maquette_serve")
ABSENT = frozenset(name for name in SIBLINGS if importlib.util.find_spec(name) is None)
left_out: dict[Path, frozenset[str]] = {}


@functools.cache
def lacking(path: Path) -> frozenset[str]:
    """What a file of the tests, or a helper that it imports, imports and that is not here: ours, or what ours bring."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        modules = [f"{node.module}.{name}" for name in names] if isinstance(node, ast.ImportFrom) else names
        for module in modules:
            parts = module.split(".")
            found |= {parts[0]} if parts[0] in ABSENT or importlib.util.find_spec(parts[0]) is None else set()
            for helper in (ROOT.joinpath(*parts), ROOT.joinpath(*parts[:-1])) if parts[0] == "tests" else ():
                if helper.with_suffix(".py").exists():
                    found |= lacking(helper.with_suffix(".py"))
    return frozenset(found)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leaves out files, and folders by their conftest.py, that need a package which is not installed."""
    file = collection_path / "conftest.py" if collection_path.is_dir() else collection_path
    if not ABSENT or file.suffix != ".py" or not file.exists() or not lacking(file):
        return None
    if any(collection_path.is_relative_to(Path(argument).resolve()) for argument in config.args):
        left_out[collection_path.relative_to(ROOT)] = lacking(file)
    return True


def pytest_terminal_summary(terminalreporter) -> None:
    for path, names in sorted(left_out.items()):
        terminalreporter.write_line(f"left out {path}: needs {', '.join(sorted(names))}")


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium without a screen, that finds no host but this one and notes what it asks for."""
    webdriver = pytest.importorskip("selenium.webdriver")
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        pytest.skip("no chromium with chromedriver; install Debian's chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader",
        "--disable-background-networking",
        "--force-prefers-reduced-motion",  # what turns is drawn again and again, without any graphics card
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()
