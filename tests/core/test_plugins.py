"""Plugins load one at a time, a broken one harms nobody, and a wrong name is answered helpfully."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from maquette import hookimpl, hookspecs
from maquette.errors import MaquetteError
from maquette.plugins import PluginManager


@dataclass
class Options:
    """Options of the test's sampler."""

    steps: int = 10


class GoodPlugin:
    @hookimpl
    def register_samplers(self, register):
        register("euler", Options, lambda options: ("euler", options.steps))
        register("lazy", "fractions:Fraction", "fractions:gcd_of_nothing")


@pytest.fixture
def manager():
    manager = PluginManager(entry_points=False)
    manager.add(GoodPlugin(), "good")
    return manager


def test_a_block_is_built_with_its_checked_config(manager):
    assert manager.build("samplers", {"name": "euler", "steps": 3}) == ("euler", 3)
    assert manager.build("samplers", {"name": "euler"}) == ("euler", 10)


@pytest.mark.parametrize(
    ("block", "parts"),
    [
        ({"name": "eular"}, ["sampler 'eular'", "did you mean 'euler'?", "known: euler, lazy"]),
        ({"name": "euler", "stepz": 3}, ["key 'stepz'", "in sampler 'euler'", "did you mean 'steps'?"]),
        ({"name": "euler", "steps": "many"}, ["sampler 'euler'", "'many'", "Integer"]),
        ({"steps": 3}, ["needs a 'name'", "euler, lazy"]),
    ],
)
def test_mistakes_in_a_block_are_one_helpful_line(manager, block, parts):
    with pytest.raises(MaquetteError) as caught:
        manager.build("samplers", block)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_a_reference_that_does_not_load_names_its_plugin(manager):
    with pytest.raises(MaquetteError, match="plugin 'good' registers 'fractions:gcd_of_nothing', which does not load"):
        manager.build("samplers", {"name": "lazy"})


def test_a_config_that_is_no_dataclass_names_its_plugin(manager):
    class NoDataclass:
        @hookimpl
        def register_samplers(self, register):
            register("odd", "fractions:Fraction", print)

    manager.add(NoDataclass(), "no-dataclass")
    with pytest.raises(MaquetteError, match="plugin 'no-dataclass': the config of samplers 'odd' is not a dataclass"):
        manager.build("samplers", {"name": "odd"})


def test_a_broken_file_is_reported_and_harms_nobody(manager, tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("import nothing_of_that_name\n")
    manager.load_file(broken)
    assert "ModuleNotFoundError" in manager.statuses["broken"].error
    assert manager.build("samplers", {"name": "euler"}) == ("euler", 10)
    with pytest.raises(MaquetteError, match="plugin 'broken' did not load: ModuleNotFoundError"):
        manager.lookup("samplers", "heun")


def test_a_hook_that_raises_takes_back_what_it_registered(manager):
    class Half:
        @hookimpl
        def register_samplers(self, register):
            register("half", Options, print)
            raise ValueError("no more")

    manager.add(Half(), "half")
    assert [entry.name for entry in manager.registry("samplers")] == ["euler", "lazy"]
    assert manager.statuses["half"].error == "ValueError: no more"


def test_a_duplicate_name_names_both_sides(manager):
    class Other:
        @hookimpl
        def register_samplers(self, register):
            register("euler", Options, print)

    manager.add(Other(), "other")
    manager.registry("samplers")
    assert "'good' and 'other' both register samplers 'euler'" in manager.statuses["other"].error
    assert manager.build("samplers", {"name": "euler"}) == ("euler", 10)


def test_a_hook_that_does_not_exist_is_an_error_of_its_plugin(manager):
    class Misspelt:
        @hookimpl
        def register_smaplers(self, register):
            pass

    manager.add(Misspelt(), "misspelt")
    assert "register_smaplers" in manager.statuses["misspelt"].error
    assert len(manager.registry("samplers")) == 2


def test_a_loose_file_registers_like_an_installed_plugin(manager):
    toy = Path(__file__).with_name("toy_plugin.py")
    manager.load_file(toy)
    manager.load_file(toy)
    assert manager.lookup("datasets", "toy").plugin == "toy_plugin"
    with pytest.raises(MaquetteError, match="does not exist"):
        manager.load_file(toy.with_name("no.py"))


def test_every_hook_is_documented_and_kinds_follow_the_hooks():
    for kind in hookspecs.KINDS:
        assert getattr(hookspecs, f"register_{kind}").__doc__
    assert set(hookspecs.KINDS) >= {"datasets", "architectures", "strategies", "kernels", "pipelines", "commands"}


def test_listing_plugins_is_quick_because_it_imports_no_torch():
    code = (
        "import sys; from maquette.cli import run, cli; "
        "status = run(cli, ['plugins'], standalone_mode=False); "
        "heavy = [m for m in ('torch', 'lightning', 'trimesh', 'numba', 'scipy') if m in sys.modules]; "
        "assert not heavy, heavy; sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "core" in done.stdout and "strategies: ddp" in done.stdout
