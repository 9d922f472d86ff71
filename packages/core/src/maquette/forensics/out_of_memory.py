"""A process that gets no more memory says which tensors fill it, in one message without a traceback.

The worker writes what only it can see, before its frames and with them their tensors are gone. What to change is
reckoned afterwards (:mod:`maquette.forensics.remedies`), once, by the launcher; by the process itself where there is
none.
"""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from maquette.durable import DISK_FULL
from maquette.errors import MaquetteError
from maquette.forensics.incidents import Incident, record
from maquette.forensics.pulse import Pulse
from maquette.forensics.remedies import Remedies, remedies
from maquette.planning.report import size

if TYPE_CHECKING:
    from maquette.engine.step_engine import StepEngine

STATUS = 71
"""Exit status of a process that got no memory (EX_OSERR of sysexits.h)."""

TELLING = re.compile(
    r"DefaultCPUAllocator: (can't allocate|not enough) memory|out of memory|std::bad_alloc|Cannot allocate memory"
)
ASKED = re.compile(r"[Tt]ried to allocate (?P<amount>[\d.]+) (?P<unit>bytes|KiB|MiB|GiB)")
UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
PLACES = (
    ("_tensor.py", "backward", "the backward pass"),
    ("step_engine.py", "_update", "the optimizer's step"),
    ("step_engine.py", "validate", "validation"),
    ("step_engine.py", "_forward_backward", "the forward pass"),
    ("session.py", "_save", "saving a checkpoint"),
    ("session.py", "__init__", "building the run"),
)
"""Innermost first: (file, function, what it does)."""


class OutOfMemory(MaquetteError):
    """There is no more memory. The message says where, how much was asked for, and what to change."""

    exit_code = STATUS


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is an allocator's, of CUDA, of torch on a CPU, or Python's own."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError | OSError) and bool(TELLING.search(str(error)))


def report_file(folder: Path, rank: int) -> Path:
    """Where a rank that is watched leaves its report for the launcher."""
    return folder / f"out_of_memory.rank{rank}.txt"


def snapshot_file(folder: Path, rank: int) -> Path:
    """Beside it, the CUDA allocator's snapshot."""
    return folder / f"memory.rank{rank}.pickle"


class Reporter:
    """Knows the step engine once there is one, and turns a lack of memory into a report."""

    def __init__(self, run: Path, pulse: Pulse) -> None:
        self.run, self.pulse = run, pulse
        self.engine: StepEngine | None = None

    @contextmanager
    def reporting(self) -> Iterator[Reporter]:
        """Within the context a lack of memory becomes an :class:`OutOfMemory`; other errors pass.

        Raises:
            OutOfMemory: instead of the allocator's error.
        """
        try:
            yield self
        except Exception as error:
            if not is_out_of_memory(error):
                full = isinstance(error, OSError) and error.errno in DISK_FULL
                if self.pulse.folder is None and not full and not isinstance(error, MaquetteError):
                    self._crashed(error)
                raise
            line = self._report(error)
        else:
            return
        # Outside the handler: the frames of the failed step, and with them its tensors, are gone by now.
        raise OutOfMemory(line if self.pulse.folder is not None else self._advise(line))

    def _crashed(self, error: Exception) -> None:
        """A crash of a process that no launcher watches."""
        facts = {"rank": self.pulse.rank, "message": str(error)}
        body = f"in {self.pulse.phase}, after step {self.pulse.step}\n\n{''.join(traceback.format_exception(error))}"
        with suppress(OSError):  # what cannot be written down must not stand in the place of the error itself
            record(self.run, "crash", f"rank {self.pulse.rank}: {type(error).__name__}: {error}", facts, body)

    def _report(self, error: Exception) -> str:
        """Write down what fills the memory; gives the line that says where it was."""
        self.pulse.enter("report")
        place = failed_in(error.__traceback__, self.pulse.phase)
        found = ASKED.search(str(error))
        asked = f": {size(float(found['amount']) * UNITS[found['unit']])} more were asked for" if found else ""
        line = f"out of memory in {place}, after step {self.pulse.step} (rank {self.pulse.rank}){asked}"
        text = f"{line}\n\n{first_line(error)}\n\n{self._phases()}{self._tensors()}"
        self._folder = self.pulse.folder or record(self.run, "out_of_memory", line, {"rank": self.pulse.rank}).path
        report_file(self._folder, self.pulse.rank).write_text(text)
        self._snapshot(snapshot_file(self._folder, self.pulse.rank))
        return line

    def _phases(self) -> str:
        highest = self.engine.memory.highest if self.engine else {}
        rows = [f"  after {phase:<9} {size / 2**20:>12,.1f} MiB" for phase, size in highest.items()]
        return "\n".join(["in use, highest of all steps:", *rows, "", ""]) if rows else ""

    def _tensors(self) -> str:
        from maquette.forensics.live_tensors import describe_live_tensors

        try:
            return f"largest tensors:\n{describe_live_tensors(self._names())}"
        except (RuntimeError, MemoryError) as error:  # there may be no memory for the table either
            return f"the tensors could not be listed: {first_line(error)}\n"

    def _names(self) -> dict[int, str]:
        """What is at an address: weights, gradients, averages and the optimizer's slots by name."""
        from maquette.forensics.live_tensors import address

        if self.engine is None:
            return {}
        named = {
            f"{part} {name}": tensor for part, held in self.engine.state().items() for name, tensor in held.items()
        }
        named |= {f"gradient {name}": p.grad for name, p in self.engine.named.items() if p.grad is not None}
        return {place: name for name, tensor in named.items() if (place := address(tensor))}

    def _snapshot(self, path: Path) -> None:
        import torch

        if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.memory._dump_snapshot(str(path))  # type: ignore[no-untyped-call]

    def _advise(self, line: str) -> str:
        found = remedies(self.run, int(os.environ.get("WORLD_SIZE", "1")))
        incident = Incident(self._folder, "out_of_memory", line)
        return conclude(incident, found)


def conclude(incident: Incident, found: Remedies) -> str:
    """Add what to change to an incident; gives the message for the user."""
    incident.add(found.table())
    return f"{incident.line}; {found.line()}; see {incident.summary}"


def failed_in(trace: TracebackType | None, phase: str) -> str:
    """Which part of a step an error comes from, by the functions it went through."""
    frames = [(Path(frame.f_code.co_filename).name, frame.f_code.co_name) for frame, _ in traceback.walk_tb(trace)]
    return next((said for file, name, said in PLACES if (file, name) in frames), phase)


def first_line(error: BaseException) -> str:
    """An allocator's message without the advice and the C++ frames below it."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
