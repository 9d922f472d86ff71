"""The tests can fail: faults planted in copies of the kernels are caught (``seed_faults.py`` plants them all)."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest

import maquette_kernels

SCRIPT = Path(__file__).with_name("seed_faults.py")


def seeding() -> ModuleType:
    spec = importlib.util.spec_from_file_location("seed_faults", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["seed_faults"] = module
    spec.loader.exec_module(module)
    return module


FAULTS = list(seeding().faults())


def test_every_fault_can_be_planted_and_every_family_has_some() -> None:
    sources = {fault.file: (Path(maquette_kernels.__file__).parent / fault.file).read_text() for fault in FAULTS}
    for fault in FAULTS:
        assert fault.old in sources[fault.file], fault.label
        assert fault.old != fault.new, fault.label
    families = Counter(fault.file.split("/")[0] for fault in FAULTS)
    assert min(families.values()) >= 5
    assert len(FAULTS) >= 20


@pytest.mark.parametrize("number", range(0, len(FAULTS), 60))
def test_a_fault_in_sixty_is_caught(number: int) -> None:
    assert seeding().verdict(FAULTS[number], 25) == "caught", FAULTS[number].label


@pytest.mark.kernels_deep
@pytest.mark.parametrize("family", sorted({fault.family for fault in FAULTS}))
def test_all_faults_of_a_family_are_caught(family: str) -> None:
    faults = [fault for fault in FAULTS if fault.family == family]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        verdicts = list(pool.map(lambda fault: seeding().verdict(fault, 25), faults))
    missed = [fault.label for fault, verdict in zip(faults, verdicts, strict=True) if verdict != "caught"]
    assert missed == []
