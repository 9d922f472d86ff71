"""Installed packages: what they ask of each other, what is known to be bad, and whether all processes have the same."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement

from maquette import plugins
from maquette.doctor.finding import Action, Finding, Status, not_applicable
from maquette.doctor.machine import Machine
from maquette.environment import PACKAGES, installed_version

MALICIOUS = {"lightning": ("2.6.2", "2.6.3"), "pytorch-lightning": ("2.6.2", "2.6.3")}
"""Releases that steal credentials (GHSA-w37p-236h-pfx3)."""


@dataclass
class VersionsConfig:
    """Nothing to set."""


class Versions:
    """Malicious releases, what plugins' packages and torch ask for, CUDA against the driver, broken plugins."""

    together = False

    def __init__(self, config: VersionsConfig) -> None:
        self.config = config

    def __call__(self, machine: Machine) -> Iterator[Finding]:
        """All findings of this machine."""
        yield self._malicious()
        yield self._required()
        yield self._triton()
        yield self._cuda(machine)
        yield self._plugins()

    def _malicious(self) -> Finding:
        bad = [f"{name} {version}" for name, releases in MALICIOUS.items()
               if (version := installed_version(name)) in releases]  # fmt: skip
        evidence = f"{', '.join(bad)}: a malicious upload; take the machine off the network, change its credentials"
        return _found("versions.malicious", bad, "none", evidence, critical=True)

    def _required(self) -> Finding:
        odd = sorted(
            f"{own} wants {requirement}, and {installed_version(requirement.name) or 'it is not there'}"
            for own in _distributions()
            for requirement in _requirements(own)
            if not _satisfied(requirement)
        )
        return _found("versions.required", odd, "as declared", "; ".join(odd))

    def _triton(self) -> Finding:
        wanted = [requirement for requirement in _requirements("torch") if requirement.name == "triton"]
        if not wanted:
            return not_applicable("versions.triton", "this build of torch asks for no triton")
        odd = [f"torch wants {r}, and {installed_version('triton') or 'it is not there'}" for r in wanted
               if not _satisfied(r)]  # fmt: skip
        return _found("versions.triton", odd, str(wanted[0]), "; ".join(odd))

    def _cuda(self, machine: Machine) -> Finding:
        import torch

        if why := machine.no_gpu():
            return not_applicable("versions.cuda", why)
        built, driver = torch.version.cuda, machine.driver_cuda
        if built is None:
            odd = ["there is a GPU, and this torch is built without CUDA"]
        elif driver and int(built.split(".")[0]) > driver[0]:
            odd = [f"torch is built for CUDA {built}, and the driver serves at most {driver[0]}.{driver[1]}"]
        else:
            odd = [] if torch.cuda.is_available() else ["torch finds no GPU, and the driver does"]
        return _found("versions.cuda", odd, "torch's CUDA <= the driver's", "; ".join(odd))

    def _plugins(self) -> Finding:
        broken = [f"{status.name}: {status.error}" for status in plugins.manager().statuses.values() if status.error]
        return _found("versions.plugins", broken, "all load", "; ".join(broken))


class SameVersions:
    """Whether all processes run the same Python and packages; names those that differ from most."""

    together = True

    def __init__(self, config: VersionsConfig) -> None:
        self.config = config

    def __call__(self, machine: Machine) -> Iterator[Finding]:
        """One finding of all processes."""
        if machine.mesh.world == 1:
            yield not_applicable("versions.ranks", "one process")
            return
        everybodys = machine.everybodys(own_versions)
        names = sorted({name for versions in everybodys for name in versions})
        usual = {name: Counter(v.get(name) for v in everybodys).most_common(1)[0][0] for name in names}
        odd = [
            f"rank {rank} has {name} {versions.get(name) or 'nowhere'}, the others {usual[name] or 'nowhere'}"
            for rank, versions in enumerate(everybodys)
            for name in names
            if versions.get(name) != usual[name]
        ]
        yield _found("versions.ranks", odd, "the same", "; ".join(odd), critical=True)


def own_versions() -> dict[str, str | None]:
    """Of Python and of what computes."""
    ours = {name: installed_version(name) for name in _distributions()}
    return {"python": platform.python_version(), **{name: installed_version(name) for name in PACKAGES}, **ours}


def _distributions() -> list[str]:
    """The packages that plugins come from, ours among them; loose files have no version."""
    return sorted({status.source for status in plugins.manager().statuses.values() if status.version != "-"})


def _requirements(name: str) -> list[Requirement]:
    """Those of a package that hold here, without its extras."""
    try:
        texts = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []
    found = []
    for text in texts:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            found.append(requirement)
    return found


def _satisfied(requirement: Requirement) -> bool:
    version = installed_version(requirement.name)
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def _found(id: str, odd: list[str], wanted: str, evidence: str, *, critical: bool = False) -> Finding:
    """A finding whose action is to install something else."""
    if not odd:
        return Finding(id, Status.PASS, "", "none" if wanted == "none" else "fine", wanted)
    bad = Status.CRITICAL if critical else Status.WARN
    return Finding(id, bad, "", len(odd), wanted, evidence, Action.INSTALL)
