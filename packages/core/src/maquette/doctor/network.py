"""Names, ports and adapters that processes meet through."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from maquette.doctor.finding import Action, Finding, Status, not_applicable
from maquette.doctor.machine import Machine


@dataclass
class NetworkConfig:
    """What to try."""

    port: int = 0
    """A port that must be free on this machine, e.g. that of --rendezvous; 0 tries any, or MASTER_PORT."""


class Network:
    """Whether this machine knows its own name, can open a port, and has all its InfiniBand links up."""

    together = False

    def __init__(self, config: NetworkConfig) -> None:
        self.config = config

    def __call__(self, machine: Machine) -> Iterator[Finding]:
        """All findings of this machine."""
        yield self._name(machine)
        yield self._port(machine)
        yield from self._infiniband(machine)

    def _name(self, machine: Machine) -> Finding:
        try:
            address = socket.gethostbyname(machine.name)
        except OSError as error:
            evidence = f"the name '{machine.name}' has no address ({error.strerror or error}), and gloo looks it up"
            return Finding("network.name", Status.WARN, "", machine.name, "resolves", evidence, Action.CONFIGURE)
        return Finding("network.name", Status.PASS, "", address, "resolves")

    def _port(self, machine: Machine) -> Finding:
        # With other processes, or under a launcher, the meeting place is open already, by one of us.
        ours = machine.mesh.world > 1 or "TORCHELASTIC_RUN_ID" in os.environ
        given = "0" if ours else os.environ.get("MASTER_PORT", "0")
        port = self.config.port or (int(given) if given.isdigit() else 0)
        try:
            with socket.socket() as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                trial.bind(("", port))
                trial.listen()
                bound = int(trial.getsockname()[1])
        except OSError as error:
            evidence = f"port {port} cannot be opened ({error.strerror}); choose another, or end what holds it"
            return Finding("network.port", Status.CRITICAL, "", port, "free", evidence, Action.CONFIGURE)
        return Finding("network.port", Status.PASS, "", bound, "free")

    def _infiniband(self, machine: Machine) -> Iterator[Finding]:
        ports = machine.host.infiniband()
        if not ports:
            yield not_applicable("network.infiniband", "no InfiniBand adapter")
        fastest = max((rate for _, rate in ports.values()), default=0.0)
        for name, (state, rate) in ports.items():
            if state != "ACTIVE":
                yield Finding("network.infiniband", Status.CRITICAL, name, state, "ACTIVE",
                              f"the link is {state}, not ACTIVE", Action.SERVICE)  # fmt: skip
            elif rate < fastest:
                yield Finding("network.infiniband", Status.WARN, name, rate, f">= {fastest:g} Gb/s",
                              f"the link runs at {rate:g} Gb/s, its neighbours at {fastest:g}",
                              Action.SERVICE)  # fmt: skip
            else:
                yield Finding("network.infiniband", Status.PASS, name, rate, "ACTIVE")
